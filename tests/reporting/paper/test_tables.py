import csv
import json

import pytest

from pgfl.errors import UserError
from pgfl.reporting.paper.specs import TABLES
from pgfl.reporting.paper.tables import write_table


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def write(project, make_evaluations):
    """Writes a table of made-up evaluations; its rows and its Markdown."""

    def write(number, seeds=2, experiment="demo", peers=()):
        out = project / "results" / f"table{number}.csv"
        write_table(number, make_evaluations(number, seeds, peers), experiment, out)
        return rows_of(out), out.with_suffix(".md").read_text()

    return write


def test_table_2_has_the_papers_23_rows_to_the_letter(write):
    rows = [row for row in write(2)[0] if row["source"] == "published"]
    assert len(rows) == 23
    columns = TABLES[2].columns
    cells = {row["method"]: [row[column] for column in columns] for row in rows}
    assert cells["LOMO+XQDA"] == ["8.1", "5.0", "", ""]
    assert cells["SFR"] == ["42.3", "32", "", ""]
    assert cells["AFPB"] == ["", "", "68.2", ""]
    assert cells["ISP*"] == ["62.8", "52.3", "", ""]
    assert cells["Baseline"] == ["52.7", "45.9", "73.6", "61.5"]
    assert cells["PGFL-KD (Ours)"] == ["63.0", "54.1", "80.7", "70.3"]


def test_reproduced_rows_are_means_over_seeds_and_say_where_they_are_from(write):
    baseline, ours = write(2)[0][-2:]
    assert (baseline["method"], baseline["source"]) == ("Baseline", "reproduced")
    assert (ours["method"], ours["source"]) == ("PGFL-KD", "reproduced")
    assert baseline["occluded_duke.rank1"] == "5.2"  # of 5 and 5.5
    assert ours["occluded_reid.rank1"] == "16.2" and ours["occluded_reid.mAP"] == "14.2"
    assert (ours["experiment"], ours["seeds"]) == ("demo", "2")
    assert ours["occluded_duke.chance_mAP"] == "2.0"
    assert ours["occluded_duke.mAP.std"] == "0.35"  # 0.5 / sqrt(2)


def test_other_methods_stand_between_the_baseline_and_ours(write):
    rows, text = write(2, peers=("pcb", "mine"))
    ours = [row for row in rows if row["source"] == "reproduced"]
    assert [row["method"] for row in ours] == ["Baseline", "PCB", "mine", "PGFL-KD"]
    assert ours[1]["occluded_duke.rank1"] == "15.2"  # of 15 and 15.5
    (line,) = (line for line in text.splitlines() if line.startswith("| PCB | 42.6"))
    assert "15.2" in line  # beside its published number
    assert "PGFL-KD minus PCB" in text


def test_a_table_of_the_methods_own_parts_has_no_other_methods():
    assert TABLES[6].with_peers(["pcb"]) is TABLES[6]
    assert TABLES[2].with_peers(["baseline", "pgfl_kd"]) is TABLES[2]


def test_one_seed_has_no_spread(write):
    rows, text = write(2, seeds=1)
    assert [row["occluded_duke.mAP.std"] for row in rows] == [""] * 25
    assert "One seed; 30 people, 330 queries, 660 gallery images (Occluded-Duke)" in text
    assert "±" not in text and "Differences" not in text


@pytest.mark.parametrize(
    ("number", "first"),
    [
        (2, "occluded_duke.rank1,occluded_duke.mAP,occluded_reid.rank1,occluded_reid.mAP,"),
        (3, "partial_reid.rank1,partial_reid.rank3,partial_ilids.rank1,partial_ilids.rank3,"),
        (
            4,
            "partial_duke.rank1,partial_duke.rank5,partial_duke.rank10,partial_duke.mAP,"
            "partial_duke.rank1.std,partial_duke.rank5.std,partial_duke.rank10.std,"
            "partial_duke.mAP.std,experiment,seeds,partial_duke.chance_mAP\n",
        ),
        (5, "market1501.rank1,market1501.mAP,dukemtmc_reid.rank1,dukemtmc_reid.mAP,"),
        (6, "sab.S,sab.I,sab.M,feb.S,feb.C,occluded_duke.rank1,occluded_duke.mAP,"),
        (7, "occluded_duke.rank1,occluded_duke.mAP,"),
    ],
)
def test_the_first_columns_are_as_promised(project, write, number, first):
    write(number, seeds=1)
    text = (project / f"results/table{number}.csv").read_text()
    assert text.startswith(f"method,source,{first}")


def test_table_3_has_a_baseline_of_ours_which_the_paper_lacks(write):
    rows, text = write(3)
    assert [row["source"] for row in rows if row["method"] == "Baseline"] == ["reproduced"]
    assert "| Baseline |  | 5.2 ± 0.35 |  | 7.2 ± 0.35 |  | 6.2 ± 0.35 |" in text
    assert "| PGFL-KD | 85.1 | 15.2 ± 0.35 | 90.8 | 17.2 ± 0.35 | 74.0 |" in text


def test_table_4_has_each_rank_in_its_own_column(write):
    baseline = write(4, seeds=1)[0][-2]
    found = {
        name: baseline[f"partial_duke.{name}"] for name in ("rank1", "rank5", "rank10", "mAP")
    }
    assert found == {"rank1": "5.0", "rank5": "8.0", "rank10": "9.0", "mAP": "3.0"}


def test_table_6_says_what_is_switched_on_in_our_rows_too(write):
    rows, _ = write(6)
    switches = [tuple(row[label] for label in TABLES[6].labels) for row in rows]
    assert switches[:6] == switches[6:]
    assert switches[0] == ("Off", "no", "no", "Off", "no")
    assert switches[4] == ("On", "yes", "yes", "On", "no")


def test_the_markdown_begins_with_ours_beside_the_papers(write):
    _, text = write(2)
    first = text.split("## The whole table")[0]
    assert (
        "| method | Occluded-Duke Rank-1, published | Occluded-Duke Rank-1, reproduced |" in first
    )
    assert "| Baseline | 52.7 | 5.2 ± 0.35 | 45.9 | 3.2 ± 0.35 | 73.6 | 6.2 ± 0.35 |" in first
    assert "| PGFL-KD | 63.0 | 15.2 ± 0.35 | 54.1 |" in first
    assert "2 seeds; 30 people, 330 queries, 660 gallery images (Occluded-Duke); 30" in first
    assert "LOMO" not in first


@pytest.mark.parametrize(("experiment", "warned"), [("demo", True), ("paper", False)])
def test_the_markdown_warns_of_anything_but_the_papers_data(write, experiment, warned):
    _, text = write(2, experiment=experiment)
    assert ("Not the paper's experiment" in text) == warned
    assert ("unless you named archives or data sets of your own" in text) == warned
    assert text.count("| published |") == 23 and text.count("| reproduced |") == 2


def test_the_paper_with_other_settings_is_not_the_papers_experiment(write):
    _, text = write(2, experiment="paper with other training.epochs")
    assert "**Not the paper's experiment.**" in text and "synthetic" not in text
    assert "from `experiment: paper with other training.epochs`." in text


def test_two_seeds_give_paired_differences_with_intervals(project, make_evaluations):
    evaluations = make_evaluations(2)
    path = evaluations["pgfl_kd", "occluded_duke"][1]
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"mAP": report["mAP"] + 1}))
    write_table(2, evaluations, "demo", project / "table2.csv")
    text = (project / "table2.md").read_text()
    # mAP on Occluded-Duke: 10 and 11, mean 10.5, t(0.975, 1) = 12.706, half of it.
    assert "| PGFL-KD minus Baseline | +10.0 (+10.0 to +10.0) | +10.5 (+4.1 to +16.9) |" in text


def test_table_6_compares_each_model_with_the_one_before_and_with_the_baseline(write):
    _, text = write(6, seeds=3)
    lines = [line.split(" |")[0] for line in text.splitlines() if " minus " in line]
    assert lines == [
        "| 2 (MB+SAB) minus 1 (Baseline)",
        "| 3 (MB+SAB w/ I) minus 2 (MB+SAB)",
        "| 4 (MB+SAB w/ IM) minus 3 (MB+SAB w/ I)",
        "| 5 (MB-SAB+FEB) minus 4 (MB+SAB w/ IM)",
        "| 6 (MB-SAB+FEB w/ C) minus 5 (MB-SAB+FEB)",
        "| 3 (MB+SAB w/ I) minus 1 (Baseline)",
        "| 4 (MB+SAB w/ IM) minus 1 (Baseline)",
        "| 5 (MB-SAB+FEB) minus 1 (Baseline)",
        "| 6 (MB-SAB+FEB w/ C) minus 1 (Baseline)",
    ]
    assert "5 (MB-SAB+FEB) minus 1 (Baseline) | +40.0 (+40.0 to +40.0) |" in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"protocol": "single_shot", "rerank": True}, "Protocol: single_shot, re-ranked."),
        ({"metric": "euclidean"}, "Protocol: euclidean distance."),
        ({"feature": "before_bnneck"}, "Protocol: features before_bnneck."),
    ],
)
def test_another_protocol_is_said(project, make_evaluations, changed, said):
    evaluations = make_evaluations(7, seeds=1)
    for paths in evaluations.values():
        rewrite(paths[0], changed)
    write_table(7, evaluations, "demo", project / "table7.csv")
    assert said in (project / "table7.md").read_text()


def test_the_usual_protocol_needs_no_words(write):
    assert "Protocol" not in write(7)[1]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("protocol", "single_shot"),
        ("rerank", True),
        ("metric", "euclidean"),
        ("feature", "before_bnneck"),
        ("manifest_sha256", "of another test set"),
    ],
)
def test_what_was_measured_otherwise_is_not_averaged(project, make_evaluations, key, other, seed):
    evaluations = make_evaluations(7)
    rewrite(evaluations["pgfl_kd", "occluded_duke"][seed], {key: other})
    with pytest.raises(UserError, match=f"was evaluated with {key} .*; evaluate both alike"):
        write_table(7, evaluations, "demo", project / "table7.csv")
    assert not (project / "table7.csv").exists()


@pytest.mark.parametrize("folder", ["runs/study/occluded_duke", "runs/demo/market1501"])
def test_another_experiments_runs_are_not_averaged(project, make_evaluations, folder):
    evaluations = make_evaluations(7)
    file = evaluations["pgfl_kd", "occluded_duke"][1]
    other = project / folder / "pgfl_kd/seed1/eval/occluded_duke.json"
    other.parent.mkdir(parents=True)
    file.rename(other)
    rewrite(other, {"train_set": other.parents[3].name})
    evaluations["pgfl_kd", "occluded_duke"][1] = other.relative_to(project)
    with pytest.raises(UserError, match="does not lie in runs/demo/occluded_duke, as"):
        write_table(7, evaluations, "demo", project / "table7.csv")


def rewrite(path, changed):
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | changed))


def _without(path, key):
    report = json.loads(path.read_text())
    del report[key]
    path.write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"baseline/seed0/eval/occluded_duke\.json: no such file"),
        (lambda path: path.write_text("[1]"), "not an evaluation file"),
        (
            lambda path: _without(path, "rank1"),
            "has no number 'rank1' from 0 to 100; evaluate the model again",
        ),
        (lambda path: _without(path, "counts"), "has no counts; evaluate the model again"),
    ],
)
def test_an_evaluation_that_cannot_be_used_is_named(project, make_evaluations, damage, message):
    evaluations = make_evaluations(2)
    damage(evaluations["baseline", "occluded_duke"][0])
    with pytest.raises(UserError, match=message):
        write_table(2, evaluations, "demo", project / "table2.csv")
    assert not (project / "table2.csv").exists()


@pytest.mark.parametrize("given", [{}, {("pgfl_kd", "occluded_duke"): []}])
def test_a_missing_evaluation_is_said(project, make_evaluations, given):
    evaluations = make_evaluations(7)
    del evaluations["pgfl_kd", "occluded_duke"]
    with pytest.raises(UserError, match="no evaluation of pgfl_kd on occluded_duke is given"):
        write_table(7, evaluations | given, "demo", project / "table7.csv")


@pytest.mark.parametrize("change", [list.reverse, list.pop])
def test_seeds_that_do_not_match_are_not_paired(project, make_evaluations, change):
    evaluations = make_evaluations(2, seeds=3)
    change(evaluations["pgfl_kd", "occluded_reid"])
    with pytest.raises(UserError, match="not the same seeds as 'baseline' has"):
        write_table(2, evaluations, "demo", project / "table2.csv")


def test_a_file_outside_of_a_runs_folder_is_refused(project, make_evaluations):
    evaluations = make_evaluations(7)
    stray = project / "eval.json"
    stray.write_text("{}")
    evaluations["pgfl_kd", "occluded_duke"] = [stray]
    with pytest.raises(UserError, match=r"eval\.json: must lie in a run's folder"):
        write_table(7, evaluations, "demo", project / "table7.csv")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("pgfl_kd", "occluded_duke"), "is given as baseline on occluded_duke, whose files are"),
        (("baseline", "occluded_reid"), r"files are baseline/seed0/eval/occluded_duke\.json"),
    ],
)
def test_files_of_another_variant_or_test_set_are_refused(
    project, make_evaluations, wrong, message
):
    evaluations = make_evaluations(2)
    evaluations["baseline", "occluded_duke"] = evaluations[wrong]
    with pytest.raises(UserError, match=message):
        write_table(2, evaluations, "demo", project / "table2.csv")
    assert not (project / "table2.csv").exists()


def test_one_seed_given_twice_is_not_two(project, make_evaluations):
    evaluations = {key: 2 * paths for key, paths in make_evaluations(2, seeds=1).items()}
    with pytest.raises(UserError, match=r"occluded_duke\.json: seed 0 is given twice"):
        write_table(2, evaluations, "demo", project / "table2.csv")


def without(evaluations, test_set):
    """Evaluations as the workflow names them where a test set is left out."""
    return {key: [] if key[1] == test_set else files for key, files in evaluations.items()}


def test_a_test_set_that_is_left_out_has_empty_cells_and_a_footnote(project, make_evaluations):
    evaluations, out = make_evaluations(2), project / "table2.csv"
    write_table(2, evaluations, "paper", out)
    whole, whole_text = rows_of(out), out.with_suffix(".md").read_text()
    missing = {"occluded_duke": ["DukeMTMC-reID.zip", "lists.zip"]}
    write_table(2, without(evaluations, "occluded_duke"), "paper", out, missing)
    rows, text = rows_of(out), out.with_suffix(".md").read_text()
    assert list(rows[0]) == list(whole[0]) and rows[:-2] == whole[:-2]
    for row, complete in zip(rows[-2:], whole[-2:], strict=True):
        changed = {name for name in row if row[name] != complete[name]}
        assert changed == {name for name in row if name.startswith("occluded_duke.")}
        assert not any(row[name] for name in changed)
    note = "–: left out, since files are missing: Occluded-Duke (DukeMTMC-reID.zip, lists.zip)."
    assert text.count(note) == 2  # below the short table and below the whole one
    assert "| PGFL-KD | 63.0 | – | 54.1 | – | 80.7 | 16.2 ± 0.35 |" in text
    assert "| PGFL-KD | reproduced | – | – | 16.2 |" in text
    assert "minus Baseline |" in text and "660 gallery images (Occluded-Duke)" not in text
    assert "left out" not in whole_text and "–" not in whole_text


def test_the_differences_are_those_of_the_sets_that_are_there(project, make_evaluations):
    missing = {"occluded_reid": ["Occluded_REID.zip"]}
    evaluations = without(make_evaluations(2), "occluded_reid")
    write_table(2, evaluations, "paper", project / "table2.csv", missing)
    text = (project / "table2.md").read_text()
    head = next(line for line in text.splitlines() if line.startswith("| difference |"))
    assert head == "| difference | Occluded-Duke Rank-1 | Occluded-Duke mAP |"


def test_an_evaluation_that_is_not_there_is_no_set_that_is_left_out(project, make_evaluations):
    evaluations = make_evaluations(2)
    with pytest.raises(UserError, match="no evaluation of baseline on occluded_duke is given"):
        write_table(2, without(evaluations, "occluded_duke"), "paper", project / "table2.csv")
    evaluations["pgfl_kd", "occluded_duke"] = []
    missing = {"occluded_reid": ["Occluded_REID.zip"]}
    with pytest.raises(UserError, match="no evaluation of pgfl_kd on occluded_duke is given"):
        write_table(2, evaluations, "paper", project / "table2.csv", missing)
    assert not list(project.glob("table2.*"))


def test_a_table_without_all_of_its_sets_is_refused(project):
    missing = {"partial_duke": ["DukeMTMC-reID.zip"]}
    with pytest.raises(UserError, match="Partial-Duke: all test sets are left out"):
        write_table(4, {}, "paper", project / "table4.csv", missing)


def test_what_is_left_out_has_no_trace(project, make_evaluations):
    missing = {"occluded_reid": ["Occluded_REID.zip"]}
    evaluations = without(make_evaluations(2), "occluded_reid")
    write_table(2, evaluations, "paper", project / "table2.csv", missing)
    trace = (project / "table2.trace.json").read_text()
    assert "occluded_duke.mAP" in trace and "occluded_reid" not in trace
