import csv
import json

import pandas as pd
import pytest

from pgfl.config import TRAIN_SET
from pgfl.errors import UserError
from pgfl.reporting.specs import TABLES
from pgfl.reporting.tables import PUBLISHED, write_table


@pytest.fixture
def evaluations(tmp_path):
    """Made-up evaluation files of two seeds for everything that table 2 needs."""
    files = {}
    spec = TABLES[2]
    for v, variant in enumerate(spec.reproduced.values()):
        for t, test_set in enumerate(spec.test_sets):
            paths = []
            for seed in range(2):
                path = tmp_path / f"{variant}-{test_set}-{seed}.json"
                report = {"rank1": 10 * v + t + seed, "mAP": 50 + v + 0.25 * seed}
                path.write_text(json.dumps(report | {"chance": {"rank1": 1.0, "mAP": 2.04}}))
                paths.append(path)
            files[variant, test_set] = paths
    return files


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_table_2_has_the_papers_23_rows_to_the_letter(tmp_path, evaluations):
    write_table(2, evaluations, "demo", tmp_path / "table2.csv")
    rows = [row for row in rows_of(tmp_path / "table2.csv") if row["source"] == "published"]
    assert len(rows) == 23
    columns = TABLES[2].columns
    cells = {row["method"]: [row[column] for column in columns] for row in rows}
    assert cells["LOMO+XQDA"] == ["8.1", "5.0", "", ""]
    assert cells["SFR"] == ["42.3", "32", "", ""]
    assert cells["AFPB"] == ["", "", "68.2", ""]
    assert cells["ISP*"] == ["62.8", "52.3", "", ""]
    assert cells["Baseline"] == ["52.7", "45.9", "73.6", "61.5"]
    assert cells["PGFL-KD (Ours)"] == ["63.0", "54.1", "80.7", "70.3"]


def test_reproduced_rows_are_means_over_seeds_and_say_where_they_are_from(tmp_path, evaluations):
    write_table(2, evaluations, "demo", tmp_path / "table2.csv")
    baseline, ours = rows_of(tmp_path / "table2.csv")[-2:]
    assert (baseline["method"], baseline["source"]) == ("Baseline", "reproduced")
    assert (ours["method"], ours["source"]) == ("PGFL-KD", "reproduced")
    assert baseline["occluded_duke.rank1"] == "0.5"
    assert ours["occluded_reid.rank1"] == "11.5" and ours["occluded_reid.mAP"] == "51.1"
    assert (ours["experiment"], ours["seeds"]) == ("demo", "2")
    assert ours["occluded_duke.chance_mAP"] == "2.0"


def test_the_first_columns_are_as_promised(tmp_path, evaluations):
    write_table(2, evaluations, "demo", tmp_path / "table2.csv")
    header = (tmp_path / "table2.csv").read_text().splitlines()[0]
    assert header.startswith(
        "method,source,occluded_duke.rank1,occluded_duke.mAP,"
        "occluded_reid.rank1,occluded_reid.mAP,"
    )


@pytest.mark.parametrize(("experiment", "warned"), [("demo", True), ("paper", False)])
def test_the_markdown_warns_of_anything_but_the_papers_data(
    tmp_path, evaluations, experiment, warned
):
    write_table(2, evaluations, experiment, tmp_path / "table2.csv")
    text = (tmp_path / "table2.md").read_text()
    assert ("Not the paper's data" in text) == warned
    assert text.count("| published |") == 23 and text.count("| reproduced |") == 2


def test_a_missing_evaluation_is_named(tmp_path, evaluations):
    evaluations["baseline", "occluded_duke"][0].unlink()
    with pytest.raises(UserError, match=r"baseline-occluded_duke-0\.json: no such file"):
        write_table(2, evaluations, "demo", tmp_path / "table2.csv")
    assert not (tmp_path / "table2.csv").exists()


@pytest.mark.parametrize("number", TABLES)
def test_published_numbers_fit_the_specification(number):
    published = pd.read_csv(PUBLISHED / f"table{number}.csv")
    assert list(published.columns) == ["method", *TABLES[number].columns]
    assert published.method.is_unique
    values = published.drop(columns="method").stack().dropna()
    assert ((values > 0) & (values < 100)).all()
    assert set(TABLES[number].test_sets) <= set(TRAIN_SET)
