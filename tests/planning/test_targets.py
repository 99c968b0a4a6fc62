import pytest

from pgfl.config.load import load_config
from pgfl.errors import UserError
from pgfl.planning.targets import check_targets, is_own_file

KNOWN = ["all", "results/table1.csv", "results/table2.csv", "results/report.html"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("results/tabel2.csv", "no rule makes this; did you mean 'results/table2.csv'?"),
        ("al", "no rule makes this; did you mean 'all'?"),
        ("x", "no rule makes this; `snakemake -n` lists what the configuration asks for"),
        ("runs/paper/market1501/baseline", "another experiment; add --config experiment=paper"),
        ("data/papre/market1501", "no experiment 'papre'; did you mean 'paper'? known: demo"),
        (
            "runs/demo/partial_reid/baseline/seed0/model.safetensors",
            "partial_reid is a test-only set; its models are trained on market1501: runs/demo/mar",
        ),
        ("runs/demo/duke/baseline", "no training set 'duke'; known: dukemtmc_reid, market1501"),
        ("runs/demo/market1501/basline/seed0/x", "no variant 'basline'; did you mean 'baseline'?"),
        (
            "runs/demo/market1501/baseline/seed0/eval/reid.json",
            "no test set 'reid'; known: dukemtmc_reid",
        ),
        ("cache/demo/heatmaps/x", "no rule makes this"),
        ("results/study/table6.csv", "another experiment; add --config experiment=study"),
        ("results/study", "another experiment; add --config experiment=study"),
    ],
)
def test_what_was_meant_by_a_target_is_said(target, reason):
    with pytest.raises(UserError) as caught:
        check_targets([target], load_config({}), KNOWN)
    line = str(caught.value)
    assert line.startswith(f"target {target}: ") and reason in line and "\n" not in line


def test_the_study_has_its_results_apart():
    with pytest.raises(UserError, match=r"results lie apart: results/study/table6\.csv"):
        check_targets(["results/table6.csv"], load_config({"experiment": "study"}), KNOWN)


@pytest.mark.parametrize(
    ("path", "own"), [("notes.txt", True), ("results/table6.csv", False), ("missing.txt", False)]
)
def test_a_result_is_never_a_file_of_the_users_own(tmp_path, monkeypatch, path, own):
    monkeypatch.chdir(tmp_path)
    if path != "missing.txt":
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("x")
    assert is_own_file(path) == is_own_file(str(tmp_path / path)) == own


def test_each_target_has_a_line_and_no_target_none():
    check_targets([], load_config({}), KNOWN)
    with pytest.raises(UserError) as caught:
        check_targets(["results/a.csv", "runs/demo/a/b"], load_config({}), KNOWN)
    assert len(str(caught.value).splitlines()) == 2
