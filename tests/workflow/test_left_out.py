"""With some of the data sets only: what can be made is made, the rest is said and marked."""

import csv
import re
import subprocess
import sys
import zipfile

import pytest

from pgfl.datasets import market1501
from pgfl.datasets.registry import SOURCES
from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.settings import SyntheticSettings

NOWHERE = {
    SOURCES[name].name: "file:///nowhere/x.zip"
    for name in ("occluded_duke", "partial_reid", "partial_ilids")
}
"""Addresses that never answer, so that no test asks the network."""
HEADING = "Left out, since files are missing:"


@pytest.fixture
def lab(project):
    """The paper's experiment in a folder with some archives, which are empty files."""

    def make(*present, **settings):
        folder = project.root / "archives"
        folder.mkdir(exist_ok=True)
        for name in present:
            (folder / SOURCES[name].name).touch()
        project.write_config({"experiment": "paper", "archives": {"urls": NOWHERE}} | settings)
        return project

    return make


def results(planned):
    return {name.removeprefix("results/") for name in planned if name.startswith("results/")}


def said(output):
    """The list of what is left out, without its heading; nothing where there is none."""
    _, is_there, rest = output.partition(f"{HEADING}\n")
    lines = rest.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("  ")), len(lines))
    return [line.strip() for line in lines[:end]] if is_there else []


def test_a_dry_run_plans_what_can_be_made_and_lists_the_rest(lab):
    lists = {"mine": {"variants": ["baseline", "pgfl_kd"], "test_sets": ["market1501"]}}
    project = lab("market1501", "partial_reid", comparisons=lists)
    code, output = project.snakemake("-n")
    assert code == 0 and "a run would not start" not in output
    stems = {name.rpartition(".")[0].removesuffix(".trace") for name in results(project.planned())}
    assert stems == {
        *("table1", "table3", "table5", "compare_mine", "stress_market1501", "report"),
        *("ranked_lists/market1501", "ranked_lists/partial_reid"),
    }
    lines = said(output)
    assert [line.split(":")[0] for line in lines] == [
        "dukemtmc_reid, occluded_duke, partial_duke",
        "occluded_duke",
        "occluded_reid",
        "partial_ilids",
        "Not made",
        *("Empty cells in table1", "Empty cells in table3", "Empty cells in table5"),
        "With these files the same command makes the rest.",
    ]
    assert "DukeMTMC-reID.zip is missing. DukeMTMC-reID was withdrawn" in lines[0]
    assert "table2, table4, table6, table7, table8, table9, figure1" in lines[4]
    assert lines[6] == "Empty cells in table3: partial_ilids."


def test_tables_of_test_only_sets_need_market_1501(lab):
    project = lab("dukemtmc_reid", "occluded_reid", "partial_reid", "partial_ilids")
    made = results(project.planned())
    assert {"table1.csv", "table4.csv", "table5.csv"} <= made
    assert not {"table2.csv", "table3.csv", "table6.csv"} & made
    assert "partial_duke.png" in made and "ranked_lists/partial_reid.png" not in made


def test_with_everything_at_hand_nothing_is_left_out(lab):
    project = lab(*SOURCES)
    _, output = project.snakemake("-n")
    assert HEADING not in output and "--left-out" not in output
    assert re.search(r"^train +24$", output, re.MULTILINE)  # PCB on four sets among them


def test_a_target_that_needs_a_missing_set_alone_says_so_and_stops(lab):
    project = lab("market1501", "partial_reid")
    target = "runs/paper/occluded_duke/baseline/seed0/eval/occluded_duke.json"
    for targets in (["results/table6.csv"], [target], ["results/table4.csv", "all"]):
        code, output = project.snakemake(*targets, check=False)
        assert code != 0 and "Traceback" not in output
        message = output.split("Nothing was started.")[1]
        assert "DukeMTMC-reID was withdrawn by its authors in 2019" in message
        assert not (project.root / "data").exists()


def test_a_table_asked_for_by_name_is_made_with_the_sets_at_hand(lab):
    project = lab("market1501", "partial_reid")
    _, output = project.snakemake("-n", "-p", "results/table3.csv")
    assert '--left-out \'{"partial_ilids": ["Partial_iLIDS.zip"]}\'' in output
    lines = said(output)
    assert len(lines) == 3 and lines[0].startswith("partial_ilids: Partial_iLIDS.zip is missing.")
    assert lines[1] == "Empty cells in table3: partial_ilids."
    _, output = project.snakemake("-n", "results/ranked_lists/market1501.png")
    assert HEADING not in output  # what does not concern the target is not said


def test_status_and_costs_say_what_is_left_out(lab):
    project = lab("market1501", "partial_reid")

    def pgfl(command):
        result = subprocess.run(
            [sys.executable, "-m", "pgfl", command],
            cwd=project.root,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    status = pgfl("status")
    assert "Trained: 0 of 3 models" in status and said(status)[2].startswith("occluded_reid: ")
    costs = pgfl("costs")
    assert "| training | 3 |" in costs and said(costs)[2].startswith("occluded_reid: ")


SMALL = {
    "experiment": "paper",
    "pose": {"estimator": "hrnet_small", "height": 64, "width": 32},
    "model": {"backbone": "resnet18", "pretrained": False, "height": 64, "width": 32},
    "training": {"epochs": 1, "milestones": [], "identities": 4, "images": 2},
    "stress": {"test_sets": ["dukemtmc_reid"]},
    "resources": {"workers": 0, "train_threads": 1, "pose_threads": 1, "train_memory": 1000},
}


def counts(archive):
    """Identities, images and cameras of each folder of a drawn Market-1501, junk left out."""
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
    found = {}
    for split, folder in market1501.FOLDERS.items():
        inside = [name.rpartition("/")[2] for name in names if f"/{folder}/" in name]
        matches = [match for name in inside if (match := market1501.NAME.fullmatch(name))]
        ranked = [match for match in matches if match["pid"] != "-1"]
        people, cameras = ({match[key] for match in ranked} for key in ("pid", "camid"))
        found[split] = (len(people), len(ranked), len(cameras))
    return found


@pytest.fixture
def two_sets(project):
    """Market-1501 and Partial-REID, drawn under their real names, and all other files missing.

    Partial-REID has its published numbers; those of Market-1501 are made to fit the drawing.
    """
    tiny = SyntheticSettings(
        train_identities=5, test_identities=5, images=6, cameras=3, height=64, width=32
    )
    files = {
        name: project.root / f"my {SOURCES[name].name}" for name in ("market1501", "partial_reid")
    }
    synthesize("market1501", files["market1501"], tiny)
    synthesize(
        "partial_reid",
        files["partial_reid"],
        SyntheticSettings(test_identities=60, height=32, width=16),
    )
    module = project.root / "pgfl/datasets/market1501.py"
    text = module.read_text()
    for split, numbers in counts(files["market1501"]).items():
        text, done = re.subn(rf'"{split}": Counts\([^)]*\)', f'"{split}": Counts{numbers}', text)
        assert done == 1
    module.write_text(text)
    archives = {"urls": NOWHERE, "files": {name: str(path) for name, path in files.items()}}
    project.write_config(SMALL | {"archives": archives})
    return project


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_two_data_sets_make_their_cells(two_sets):
    code, output = two_sets.snakemake("--cores", "2")
    assert code == 0
    start, _, end = output.partition("Finished jobid")
    assert said(start) and said(start) == said(end)  # at the start, and again at the end
    root = two_sets.root / "results"
    missing = {"partial_ilids": "Partial-iLIDS (Partial_iLIDS.zip)"}
    missing["dukemtmc_reid"] = "DukeMTMC-reID (DukeMTMC-reID.zip)"
    for number, there, gone in (
        (3, "partial_reid", "partial_ilids"),
        (5, "market1501", "dukemtmc_reid"),
    ):
        rows = rows_of(root / f"table{number}.csv")
        ours = [row for row in rows if row["source"] == "reproduced"]
        assert [row["method"] for row in ours] == ["Baseline", "PCB", "PGFL-KD"]
        for row in ours:
            measured = {name: value for name, value in row.items() if ".rank" in name}
            assert all(
                (value != "") == name.startswith(there)
                for name, value in measured.items()
                if not name.endswith(".std")
            )
            assert row[f"{gone}.chance_mAP"] == "" and float(row[f"{there}.chance_mAP"]) > 0
        published = next(row for row in rows if row["method"] == "PGFL-KD (Ours)")
        assert published[f"{gone}.rank1"] and published[f"{there}.rank1"]
        assert f"files are missing: {missing[gone]}." in (root / f"table{number}.md").read_text()
    found = {
        row["method"]: row for row in rows_of(root / "table1.csv") if row["source"] != "published"
    }
    assert found["Partial-REID"]["query.images"] == "300" and found["Market-1501"]["junk"] == "5"
    assert found["Occluded-Duke"]["query.images"] == found["Occluded-Duke"]["agrees"] == ""
    assert not list(root.glob("table2*")) and not list(root.glob("stress*"))
    report = (root / "report.html").read_text()
    assert "results/table3.csv" in report and "Left out, since files are missing" in report
    for name in ("table1.csv", "table3.csv"):
        trace = subprocess.run(
            [sys.executable, "-m", "pgfl", "trace", f"results/{name}"],
            cwd=two_sets.root,
            capture_output=True,
            text=True,
        )
        assert trace.returncode == 0 and "as recorded" in trace.stdout, trace.stderr
    assert two_sets.planned() == []

    # A third archive arrives: its images, its evaluations, and what shows them.
    (two_sets.root / "archives").mkdir()
    (two_sets.root / "archives" / SOURCES["partial_ilids"].name).touch()
    rows = ("baseline", "pcb", "pgfl_kd")
    runs = [f"runs/paper/market1501/{variant}/seed0/eval/partial_ilids" for variant in rows]
    data = "data/paper/partial_ilids"
    assert two_sets.planned() == sorted(
        [
            "data/paper/archives/Partial_iLIDS.zip",
            *(f"{data}/{name}" for name in ("images", "manifest.csv", "counts.json")),
            *(f"{run}.{kind}" for run in runs for kind in ("json", "queries.csv")),
            *(f"results/table{n}.{kind}" for n in (1, 3) for kind in ("csv", "md", "trace.json")),
            *(f"results/ranked_lists/partial_ilids.{kind}" for kind in ("png", "trace.json")),
            "results/report.html",
        ]
    )
