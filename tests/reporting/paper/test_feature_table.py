import csv
import json

import pytest

from pgfl.config.recipe import Recipe
from pgfl.errors import UserError
from pgfl.nn.settings import ModelSettings
from pgfl.pose.settings import PoseSettings
from pgfl.reporting.complexity import Complexity
from pgfl.reporting.paper import feature_table
from pgfl.reporting.paper.feature_table import write_feature_table
from pgfl.reporting.paper.features import FEATURE_ROWS

POSE = PoseSettings(estimator="hrnet_small", height=64, width=32)
MODEL = ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32)
RECIPES = {
    "baseline": Recipe.parse({"method": "bot", "model": MODEL.model_dump()}),
    "pgfl_kd": Recipe(model=MODEL),
}


@pytest.fixture
def evaluations(make_run):
    """Made-up evaluation files of two seeds for every row."""
    return {
        method: [
            make_run(
                row.variant,
                "occluded_duke",
                seed,
                {"rank1": 10 * place + seed, "mAP": 50.0 + place},
                feature=row.feature if row.needs_pose else "",
            )
            for seed in range(2)
        ]
        for place, (method, row) in enumerate(FEATURE_ROWS.items())
    }


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """HRNet-W48 is counted in test_complexity.py; here it is a number like any other."""
    monkeypatch.setattr(
        feature_table, "measure_pose_network", lambda pose: Complexity(2 * 10**9, 3 * 10**6)
    )


def write(tmp_path, evaluations, experiment="demo", pose=POSE):
    out = tmp_path / "table8.csv"
    write_feature_table(evaluations, RECIPES, pose, experiment, out)
    with out.open() as file:
        return list(csv.DictReader(file)), out.with_suffix(".md").read_text()


def test_published_rows_are_the_papers(tmp_path, evaluations):
    rows, _ = write(tmp_path, evaluations)
    assert [row["source"] for row in rows] == ["published"] * 6 + ["reproduced"] * 6
    published = {row["method"]: row for row in rows[:6]}
    assert list(published) == list(FEATURE_ROWS) == [row["method"] for row in rows[6:]]
    columns = ("macs", "parameters", "occluded_duke.rank1", "occluded_duke.mAP")
    cells = {name: [row[column] for column in columns] for name, row in published.items()}
    assert cells["Global Feature f_G (PGFL-KD)"] == ["8.98", "39.89", "63.0", "54.1"]
    assert cells["Body Part Fused Feature f_V"] == ["24.75", "117.54", "62.8", "53.0"]
    assert cells["Foreground Fused Feature f_E"] == ["24.72", "104.95", "63.4", "54.6"]
    assert all(row["macs.without_pose_network"] == "" for row in rows[:6])


def test_reproduced_rows_hold_costs_and_means_over_seeds(tmp_path, evaluations):
    rows, _ = write(tmp_path, evaluations)
    ours = {row["method"]: row for row in rows[6:]}
    student, fused = (ours[name] for name in list(FEATURE_ROWS)[1:4:2])
    assert student["macs"] == student["macs.without_pose_network"]
    gap = float(fused["macs"]) - float(fused["macs.without_pose_network"])
    assert gap == pytest.approx(2, abs=2e-3)
    gap = float(fused["parameters"]) - float(fused["parameters.without_pose_network"])
    assert gap == pytest.approx(3, abs=2e-3)
    assert fused["occluded_duke.rank1"] == "30.5" and fused["occluded_duke.rank1.std"] == "0.71"
    assert fused["occluded_duke.mAP"] == "53.0" and fused["occluded_duke.mAP.std"] == "0.00"
    assert (fused["experiment"], fused["seeds"]) == ("demo", "2")
    assert fused["occluded_duke.chance_mAP"] == "2.0"


def test_one_seed_has_no_deviation(tmp_path, evaluations):
    rows, _ = write(tmp_path, {method: paths[:1] for method, paths in evaluations.items()})
    assert rows[-1]["seeds"] == "1" and rows[-1]["occluded_duke.rank1.std"] == ""


def test_the_markdown_counts_the_papers_sizes_and_says_what_differs(tmp_path, evaluations):
    _, text = write(tmp_path, evaluations)
    assert "Not the paper's experiment" in text and text.count("| counted |") == 6
    assert "| counted | 6.080 | 23.512 | 6.080 | 23.512 | 8.98 | 39.89 |" in text
    assert "`layer4` alone is 2.869 G and 14.965 M" in text
    assert "8.949 G and 38.477 M" in text and "15.74 G" in text
    assert "holds 12.58 M parameters, three times the 4.198 M" in text
    assert "{" not in text
    _, text = write(tmp_path, evaluations, experiment="paper")
    assert "Not the paper's experiment" not in text


def change(path, **changed):
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_the_markdown_says_how_features_were_matched(tmp_path, evaluations):
    assert "Matched as they are" not in write(tmp_path, evaluations)[1]
    for method in ("Body Part Feature f_P", "Foreground Feature f_F"):
        for path in evaluations[method]:
            change(path, feature="no_bnneck")
    for paths in evaluations.values():
        for path in paths:
            change(path, rerank=True)
    _, text = write(tmp_path, evaluations)
    assert "no BNNeck: Body Part Feature f_P, Foreground Feature f_F. The others" in text
    assert "Protocol: re-ranked." in text


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("Body Part Feature f_P", {"feature": "no_bnneck"}),
        ("Foreground Feature f_F", {"rerank": 1}),
    ],
)
def test_features_measured_otherwise_are_not_averaged(tmp_path, evaluations, method, changed):
    change(evaluations[method][1], **changed)
    with pytest.raises(UserError, match=r"seed1.*evaluated with .*; evaluate both alike"):
        write(tmp_path, evaluations)


def test_a_missing_evaluation_is_named(tmp_path, evaluations):
    evaluations["Body Part Feature f_P"][1].unlink()
    with pytest.raises(UserError, match=r"pgfl_kd/seed1/eval/occluded_duke\.part\.json: no such"):
        write(tmp_path, evaluations)
    assert not (tmp_path / "table8.csv").exists()


def test_what_is_not_given_is_named(tmp_path, evaluations):
    del evaluations["Body Part Feature f_P"]
    with pytest.raises(UserError, match="no evaluation of pgfl_kd on occluded_duke is given"):
        write(tmp_path, evaluations)
    with pytest.raises(UserError, match="no recipe of baseline is given"):
        write_feature_table({}, {}, POSE, "demo", tmp_path / "table8.csv")


def test_another_feature_is_not_tabulated(tmp_path, evaluations):
    part, fused = "Body Part Feature f_P", "Body Part Fused Feature f_V"
    with pytest.raises(UserError, match=r"fused\.json: is given as pgfl_kd on .*\.part\.json"):
        write(tmp_path, evaluations | {part: evaluations[fused]})
    evaluations[part][0].write_text(evaluations[fused][0].read_text())
    with pytest.raises(UserError, match=r"part\.json: was not matched with part; evaluate"):
        write(tmp_path, evaluations)
    assert not (tmp_path / "table8.csv").exists()


def test_another_programs_pose_network_leaves_its_cells_empty(tmp_path, evaluations):
    external = POSE.model_copy(update={"estimator": "external"})
    rows, text = write(tmp_path, evaluations, pose=external)
    ours = {row["method"]: row for row in rows[6:]}
    for method, row in FEATURE_ROWS.items():
        costs = [ours[method]["macs"], ours[method]["parameters"]]
        assert all(costs) != row.needs_pose and any(costs) != row.needs_pose
        assert float(ours[method]["macs.without_pose_network"]) > 0
    assert "nothing is known of what its network costs" in text
    assert text.count("| counted |") == 6
