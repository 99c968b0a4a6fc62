"""What a finished run leaves behind, and what a second one would do."""

import csv
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.torch

from pgfl.datasets import market1501
from pgfl.datasets.registry import DATASETS
from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.people import People
from pgfl.datasets.synthetic.settings import SyntheticSettings

ABLATION = ("baseline", "sab", "sab_i", "sab_im", "sab_im_feb", "pgfl_kd", "pgfl_kd_part_cl")
RUNS = [f"runs/demo/occluded_duke/{variant}/seed0" for variant in ABLATION] + [
    f"runs/demo/{train}/{variant}/seed0"
    for train in ("market1501", "dukemtmc_reid", "partial_duke")
    for variant in ("baseline", "pgfl_kd")
]
TEST_SETS = (
    "dukemtmc_reid", "market1501", "occluded_duke", "occluded_reid",
    "partial_duke", "partial_ilids", "partial_reid",
)  # fmt: skip
BOTH = ("baseline", "pgfl_kd")
TRAINED_ON = dict.fromkeys(("occluded_reid", "partial_reid", "partial_ilids"), "market1501")
EVALUATIONS = 7 + 2 * (4 + 1 + 1)


@contextmanager
def edited(path, old, new):
    """A file with a changed text, restored with its old time afterwards."""
    text, stat = path.read_text(), path.stat()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "published", "variants", "columns"),
    [
        ("table2", 23, BOTH, 4),
        ("table3", 9, BOTH, 4),
        ("table4", 6, BOTH, 4),
        ("table5", 16, BOTH, 4),
        ("table6", 6, ABLATION[:6], 2),
        ("table7", 2, ("pgfl_kd_part_cl", "pgfl_kd"), 2),
        ("compare_mine", 0, ("pgfl_kd", "baseline"), 2),
    ],
)
def test_every_reproduced_cell_is_its_evaluations(finished, name, published, variants, columns):
    with (finished.root / f"results/{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    reproduced = ["reproduced"] * len(variants)
    assert [row["source"] for row in rows] == ["published"] * published + reproduced
    for row, variant in zip(rows[published:], variants, strict=True):
        measured = [name for name in row if re.search(r"\.(rank\d+|mAP)$", name)]
        assert len(measured) == columns
        for column in measured:
            test_set, metric = column.split(".")
            run = f"runs/demo/{TRAINED_ON.get(test_set, test_set)}/{variant}/seed0"
            report = json.loads((finished.root / run / f"eval/{test_set}.json").read_text())
            assert row[column] == f"{report[metric]:.1f}"
    assert (finished.root / f"results/{name}.md").is_file()


def test_table_1_counts_what_was_drawn(finished):
    with (finished.root / "results/table1.csv").open() as file:
        rows = {(row["method"], row["source"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * len(DATASETS)
    drawn = SyntheticSettings(
        train_identities=5, test_identities=5, images=6, cameras=3, height=64, width=32
    )
    market = rows["Market-1501", "reproduced"]
    shots = market1501.shots(People(drawn, market1501.DATASET.drawing.number))
    for split, folder in market1501.FOLDERS.items():
        inside = [shot.member for shot in shots if f"/{folder}/" in shot.member]
        people = {name.split("/")[-1][:4] for name in inside} - {"-1_c", "0000"}
        assert market[f"{split}.images"] == str(len(inside))
        assert market[f"{split}.ids"] == str(len(people))
    assert (market["junk"], market["distractors"]) == ("5", "5")
    for split in ("train", "query", "gallery"):
        duke, partial = (rows[name, "reproduced"] for name in ("DukeMTMC-reID", "Partial-Duke"))
        assert duke[f"{split}.images"] == partial[f"{split}.images"]
    for name in ("Occluded-REID", "Partial-REID"):
        found = rows[name, "reproduced"]
        assert (found["query.ids"], found["query.images"]) == ("5", "25")
        assert found["train.images"] == "" and found["agrees"] == "no"
    assert rows["Partial-iLIDS", "reproduced"]["gallery.images"] == "5"


def test_results_holds_deliverables_only(finished):
    results = finished.root / "results"
    names = sorted(str(path.relative_to(results)) for path in results.rglob("*") if path.is_file())
    tables = [
        f"table{number}.{kind}" for number in range(1, 10) for kind in ("csv", "md", "trace.json")
    ]
    figures = ["figure1.png", "figure3.csv", "figure3.png", "figure4.csv", "figure4.png"]
    traces = [f"figure{number}.trace.json" for number in (1, 3, 4)]
    own = [f"compare_mine.{kind}" for kind in ("csv", "md", "png", "trace.json")]
    others = ["heatmaps.html", "heatmaps.png", "partial_duke.png", "report.html"]
    curves = [
        f"{name}.{kind}"
        for name in ("visibility", "stress_market1501")
        for kind in ("csv", "png", "trace.json")
    ]
    curves += [f"training_curves.{kind}" for kind in ("png", "trace.json")]
    lists = [f"ranked_lists/{name}.{kind}" for name in TEST_SETS for kind in ("png", "trace.json")]
    lists += [f"failures.{kind}" for kind in ("html", "trace.json")]
    assert names == sorted([*tables, *figures, *traces, *own, *others, *curves, *lists])


def test_every_number_can_be_traced_to_a_model_that_is_still_there(finished):
    def trace(name):
        return subprocess.run(
            [sys.executable, "-m", "pgfl", "trace", f"results/{name}"],
            cwd=finished.root,
            capture_output=True,
            text=True,
        )

    results = (*(f"table{number}.csv" for number in range(1, 10)), "compare_mine.csv")
    pictures = ("ranked_lists/partial_reid.png", "failures.html", "visibility.png")
    pictures += ("stress_market1501.csv", "training_curves.png", "figure1.png", "figure3.png")
    for name in (*results, *pictures, "figure4.csv"):
        result = trace(name)
        assert result.returncode == 0 and "as recorded" in result.stdout, result.stderr
    run = "runs/demo/occluded_duke/sab_im/seed0"
    assert f"{run}/model.safetensors  commit" in trace("table6.csv").stdout
    for name in ("table9.csv", "figure4.csv", "visibility.csv", "training_curves.png"):
        assert "seed 0: runs/demo/occluded_duke/pgfl_kd/seed0/" in trace(name).stdout, name
    path = finished.root / run / "provenance.json"
    with edited(path, '"seed": 0', '"seed": 7'):
        result = trace("table6.csv")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == f"error: {run}/provenance.json: is not that of seed 0\n"


def test_the_report_shows_every_deliverable_and_says_what_data_it_is(finished):
    text = (finished.root / "results/report.html").read_text()
    for number in range(1, 10):
        assert f"results/table{number}.csv" in text
    assert "results/figure3.png" in text and "results/partial_duke.png" in text
    for name in (
        "visibility.png",
        "stress_market1501.png",
        "training_curves.png",
        "failures.html",
    ):
        assert f"results/{name}" in text
    for name in TEST_SETS:
        assert f"results/ranked_lists/{name}.png" in text
    # Captions are there with their names filled in.
    assert "Ranked lists of partial_reid" in text and "the queries of market1501 are" in text
    assert "small synthetic ones" in text
    assert "What each part of the method contributes, on Occluded-Duke" in text


# What stands on a page that a browser has drawn: the report's own scripts hide its first screen.
DRAWN = {
    "report.html": '<div id="loading-screen" style="display: none;">',
    "failures.html": "<img",
    "heatmaps.html": "<img",
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_browser_shows_the_pages_without_an_error_or_the_network(finished, browser, name):
    seen = browser(finished.root / "results" / name)
    # Snakemake's report carries a style sheet's script that says how it would rather be shipped.
    errors = [line for line in seen.console if "should not be used in production" not in line]
    assert (errors, seen.requests) == ([], [])
    assert DRAWN[name] in seen.dom


def test_a_deleted_report_is_made_again_and_nothing_else(finished):
    (finished.root / "results/report.html").unlink()
    assert finished.planned() == ["results/report.html"]
    finished.snakemake()
    assert (finished.root / "results/report.html").is_file()


def test_table_8_matches_with_every_feature_and_counts_its_cost(finished):
    with (finished.root / "results/table8.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["published"] * 6 + ["reproduced"] * 6
    run = finished.root / "runs/demo/occluded_duke/pgfl_kd/seed0/eval"
    student = json.loads((run / "occluded_duke.json").read_text())
    features = ("part", "fused", "foreground", "enhanced")
    for row, feature in zip(rows[8:], features, strict=True):
        report = json.loads((run / f"occluded_duke.{feature}.json").read_text())
        assert report["use"] == feature and report["counts"] == student["counts"]
        assert row["occluded_duke.mAP"] == f"{report['mAP']:.1f}"
        assert float(row["macs"]) > float(row["macs.without_pose_network"])
    assert rows[7]["occluded_duke.mAP"] == f"{student['mAP']:.1f}"
    assert rows[7]["macs"] == rows[7]["macs.without_pose_network"]


def test_table_9_was_measured_here(finished):
    with (finished.root / "results/table9.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "reproduced"]
    assert len(rows) == 2 and all(float(row["seconds"]) > 0 for row in rows)
    assert all(row["gallery"] == "17661" and row["threads"] == "2" for row in rows)


def test_figure_4_measures_all_queries(finished):
    with (finished.root / "results/figure4.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    table = pd.read_csv(finished.root / "data/demo/occluded_duke/manifest.csv")
    assert list(rows) == ["Baseline", "PGFL-KD"]
    for row in rows.values():
        assert row["queries"] == str((table.split == "query").sum())
        assert 0 < float(row["on_parts"]) < 100


@pytest.mark.parametrize("run", RUNS)
def test_every_run_leaves_what_was_promised(finished, run):
    folder = finished.root / run
    history = pd.read_csv(folder / "history.csv")
    assert list(history.epoch) == [1, 2] and np.isfinite(history.loss).all()
    student = safetensors.torch.load_file(folder / "model.safetensors")
    assert {key.split(".")[0] for key in student} == {"backbone", "norm"}
    provenance = json.loads((folder / "provenance.json").read_text())
    wanted = {"seed", "settings", "code", "data", "git_commit", "device", "environment"}
    assert wanted <= provenance.keys()
    assert ("heatmaps" in provenance["data"]) == ("baseline" not in run)


def test_evaluations_count_what_the_manifest_lists(finished):
    for dataset, train in (("occluded_duke", "occluded_duke"), ("occluded_reid", "market1501")):
        table = pd.read_csv(finished.root / f"data/demo/{dataset}/manifest.csv")
        path = finished.root / f"runs/demo/{train}/pgfl_kd/seed0/eval/{dataset}.json"
        report = json.loads(path.read_text())
        assert report["counts"]["query"] == (table.split == "query").sum()
        assert report["counts"]["gallery"] == (table.split == "gallery").sum()
        assert 0 <= report["rank1"] <= report["rank3"] <= report["rank5"] <= report["rank10"]


def test_what_is_noted_of_queries_has_the_evaluations_numbers(finished):
    for path in (finished.root / "runs/demo").glob("*/*/seed0/eval/*.queries.csv"):
        report = json.loads(path.with_suffix("").with_suffix(".json").read_text())
        table = pd.read_csv(path)
        assert len(table) == report["counts"]["query"]
        assert table["AP"].mean() == pytest.approx(report["mAP"])
        first = table["first_hit"].dropna()
        assert 100 * (first == 1).mean() == pytest.approx(report["rank1"])


def test_curves_start_where_the_tables_are(finished):
    """All queries, and queries with nothing before them, have the evaluations' numbers."""
    results = finished.root / "results"
    visibility = pd.read_csv(results / "visibility.csv").query("keypoints == 'all'")
    stress = pd.read_csv(results / "stress_market1501.csv").query("covered == 0")
    for table, test_set in ((visibility, "occluded_duke"), (stress, "market1501")):
        for method, variant in (("Baseline", "baseline"), ("PGFL-KD", "pgfl_kd")):
            path = f"runs/demo/{test_set}/{variant}/seed0/eval/{test_set}.json"
            report = json.loads((finished.root / path).read_text())
            row = table.set_index("method").loc[method]
            for metric in ("rank1", "mAP"):
                assert row[metric] == pytest.approx(report[metric], abs=0.051)


def test_the_pose_cache_fits_its_manifest(finished):
    table = pd.read_csv(finished.root / "data/demo/occluded_duke/manifest.csv")
    path = finished.root / "cache/demo/heatmaps/occluded_duke/train.h5"
    with h5py.File(path) as file:
        names = [name.decode() for name in file["image"]]
        assert names == list(table.image[table.split == "train"])
        assert file["heatmaps"].shape == (len(names), 8, 16, 8)
        assert file["confidence"].shape == (len(names), 17)


def test_only_what_is_needed_was_built(finished):
    models = (finished.root / "runs/demo").rglob("model.safetensors")
    built = {str(path.parent.relative_to(finished.root)) for path in models}
    assert built == set(RUNS)
    assert not (finished.root / "cache/demo/heatmaps/occluded_reid").exists()
    assert not list((finished.root / "cache/demo/state").rglob("*.pt"))


def test_a_second_run_has_nothing_to_do(finished):
    for arguments in ((), ("--cores", "all"), ("results/table2.csv",)):
        code, output = finished.snakemake(*arguments)
        assert code == 0 and "Nothing to be done" in output


def test_a_deleted_table_reruns_its_own_rule_and_the_report_only(finished):
    table = finished.root / "results/table2.csv"
    made_again = [
        "results/report.html",
        *(f"results/table2.{kind}" for kind in ("csv", "md", "trace.json")),
    ]
    before = table.read_bytes()
    table.unlink()
    assert finished.planned() == made_again
    finished.snakemake("results/table2.csv")
    assert table.read_bytes() == before
    table.with_suffix(".md").unlink()
    assert finished.planned() == made_again
    finished.snakemake()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("pgfl/training/loop.py", "import torch\n", "# a comment\nimport torch\n"),
        ("pgfl/losses/triplet.py", "Triplet loss with", "The triplet loss with"),
        ("pgfl/pose/train_small.py", "BLOCK = 200", "BLOCK = 100"),
    ],
)
def test_comments_docstrings_and_unused_modules_rerun_nothing(finished, module, old, new):
    with edited(finished.root / module, old, new):
        assert finished.planned() == []


def test_an_edited_loss_retrains_and_nothing_before(finished):
    with edited(
        finished.root / "pgfl/losses/triplet.py", "+ margin).clamp", "+ margin + 0).clamp"
    ):
        planned = finished.planned()
    assert {name.split("/")[0] for name in planned} == {"runs", "results"}
    assert sum(name.endswith("model.safetensors") for name in planned) == len(RUNS)


def test_an_edited_metric_evaluates_again_but_never_retrains(finished):
    with edited(
        finished.root / "pgfl/retrieval/metrics.py",
        "100 * float(precision",
        "100.0 * float(precision",
    ):
        planned = finished.planned()
    evaluated = [name for name in planned if "/eval/" in name]
    reports = [name for name in evaluated if name.endswith(".json")]
    assert len(reports) == EVALUATIONS + 4  # Table 8's features
    assert len(evaluated) - len(reports) == EVALUATIONS  # of single queries
    assert not any(name.endswith("model.safetensors") for name in planned)


def test_an_edited_criterion_draws_the_pose_report_again_and_nothing_else(finished):
    with edited(finished.root / "pgfl/pose/quality.py", "LEAST_DIP = 0.1", "LEAST_DIP = 0.2"):
        made_of_it = ["results/heatmaps.html", "results/heatmaps.png", "results/report.html"]
        # Which keypoints count as visible is a criterion of the same module.
        made_of_it += [f"results/failures.{kind}" for kind in ("html", "trace.json")]
        made_of_it += [f"results/visibility.{kind}" for kind in ("csv", "png", "trace.json")]
        assert finished.planned() == sorted(made_of_it)


def test_the_pose_report_says_what_it_shows(finished):
    table = pd.read_csv(finished.root / "data/demo/occluded_duke/manifest.csv")
    text = (finished.root / "results/heatmaps.html").read_text()
    assert "<h1>Heatmaps of occluded_duke, train (experiment: demo)</h1>" in text
    assert f"of {(table.split == 'train').sum()} images" in text and "hrnet_small" in text


def test_an_edited_table_does_not_look_at_the_clock_again(finished):
    with edited(
        finished.root / "pgfl/reporting/paper/feature_table.py",
        'f"{number / 1e9:.3f}"',
        'f"{number:.3f}"',
    ):
        assert finished.planned() == [
            "results/report.html",
            "results/table8.csv",
            "results/table8.md",
            "results/table8.trace.json",
        ]


def test_a_changed_weight_retrains_only_the_variants_that_use_it(finished):
    method, stronger = "enhanced, fused]}", "enhanced, fused], lambda_cl: 0.5}"
    with edited(finished.root / "workflow/variants.yaml", method, stronger):
        planned = finished.planned()
    trained = [name for name in planned if name.endswith("model.safetensors")]
    # The method itself on four sets, and Figure 3's point that was the method until now.
    variants = sorted(name.split("/")[3] for name in trained)
    assert variants == ["pgfl_kd"] * 4 + ["pgfl_kd-lambda_cl-0.25"]


def test_other_resources_rerun_nothing(finished):
    overlay = finished.root / "resources.yaml"
    overlay.write_text("resources: {devices: 2, workers: 1, tensorboard: true}\n")
    assert finished.planned("--configfile", str(overlay)) == []


def test_a_user_file_takes_the_place_of_a_drawn_archive(copied):
    """As somebody would who has the real Partial-REID_Dataset.zip; here it is another drawing."""
    mine = copied.root / "mine.zip"
    settings = SyntheticSettings(seed=9, test_identities=60, height=32, width=16)
    synthesize("partial_reid", mine, settings)
    overlay = copied.root / "mine.yaml"
    overlay.write_text(f"archives: {{files: {{partial_reid: '{mine}'}}}}\n")
    target = "runs/demo/market1501/pgfl_kd/seed0/eval/partial_reid.json"
    copied.snakemake("--configfile", str(overlay), "--", target)
    report = json.loads((copied.root / target).read_text())
    assert report["counts"]["query"] == report["counts"]["gallery"] == 300
    assert report["counts"]["query_identities"] == 60


def test_a_table_of_the_users_own_trains_and_is_tested_by_the_same_rules(copied):
    source = copied.root / "data/demo/market1501"
    table = pd.read_csv(source / "manifest.csv")
    people = {pid: f"person {pid}" for pid in table.pid}
    table = table[table.pid > 0].assign(pid=table.pid.map(people))
    mine = copied.root / "photos"
    mine.mkdir()
    table[["image", "split", "pid", "camid"]].to_csv(mine / "mine.csv", index=False)
    overlay = copied.root / "own.yaml"
    overlay.write_text(f"datasets: {{mine: {{table: photos/mine.csv, images: '{source}'}}}}\n")
    target = "runs/demo/mine/pgfl_kd/seed0/eval/mine.json"
    copied.snakemake("--configfile", str(overlay), "--", target)
    report = json.loads((copied.root / target).read_text())
    assert report["counts"]["gallery"] == (table.split == "gallery").sum()
    manifest = pd.read_csv(copied.root / "data/demo/mine/manifest.csv")
    assert set(manifest.label) == set(table.pid)


def test_a_data_set_can_be_verified_again_and_damage_is_named(finished):
    def verify():
        return subprocess.run(
            [sys.executable, "-m", "pgfl", "verify", "occluded_reid"],
            cwd=finished.root,
            capture_output=True,
            text=True,
        )

    assert verify().returncode == 0
    image = next((finished.root / "data/demo/occluded_reid/images").rglob("001_03.tif"))
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    result = verify()
    image.write_bytes(content)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "001_03.tif: not an image, or damaged" in line


def test_looking_inside_the_networks_trains_nothing(finished):
    target = finished.root / "results/diagnosis.csv"
    try:
        _, output = finished.snakemake("--cores", "1", "results/diagnosis.csv")
        assert "Training" not in output
        table = pd.read_csv(target, index_col="variant")
    finally:
        for file in target.parent.glob("diagnosis.*"):
            file.unlink()
    assert list(table.index) == [*ABLATION[:6]]
    assert (table["length.global"] > 0).all()
    assert table["pull.mcl"].notna().to_dict() == {
        variant: variant in ("sab_im", "sab_im_feb", "pgfl_kd") for variant in ABLATION[:6]
    }
    whole = table.loc["pgfl_kd"]
    assert 0 <= whole["attention.entropy"] <= 1
    assert 0 < whole["attention.area"] <= 1
