import pandas as pd
import pytest

from pgfl.errors import UserError
from pgfl.reporting.more.outcomes import read_outcomes


def test_a_ranked_list_is_the_evaluations(ranked):
    outcomes = read_outcomes(ranked.files, ranked.manifest)
    table = pd.read_csv(ranked.files["PGFL-KD"][0])
    manifest = pd.read_csv(ranked.manifest).set_index("image")
    for place, row in enumerate(table.head(14).itertuples()):
        found = outcomes.ranked("PGFL-KD", place, "Best: ", "!")
        folder = ranked.manifest.parent
        assert found.query == folder / row.image
        assert [hit.image for hit in found.hits] == [
            folder / getattr(row, f"top{rank}") for rank in range(1, 11)
        ]
        assert [hit.score for hit in found.hits] == list(row[-10:])
        pid = manifest.pid[row.image]
        assert [hit.match for hit in found.hits] == [
            bool(manifest.pid[getattr(row, f"top{rank}")] == pid) for rank in range(1, 11)
        ]
        first = next((rank for rank, hit in enumerate(found.hits, 1) if hit.match), None)
        assert first in (None, row.first_hit)
        expected = f"Best: PGFL-KD: AP {row.AP:.1f} %, first match at rank {row.first_hit:.0f}!"
        assert found.label == expected


def test_the_test_sets_name_is_the_papers_or_the_folders(ranked, tmp_path):
    assert read_outcomes(ranked.files, ranked.manifest).test_set.startswith("ranked")
    known = tmp_path / "occluded_duke" / "manifest.csv"
    known.parent.mkdir()
    known.write_text(ranked.manifest.read_text())
    assert read_outcomes(ranked.files, known).test_set == "Occluded-Duke"


@pytest.mark.parametrize(("old", "new"), [("query/3.png", "query/x.png"), ("gallery/", "other/")])
def test_files_of_other_images_are_refused(ranked, tmp_path, old, new):
    other = tmp_path / "other.csv"
    other.write_text(ranked.files["Baseline"][0].read_text().replace(old, new))
    with pytest.raises(UserError, match=r"other\.csv: is not about the images of .*manifest\.csv"):
        read_outcomes({"Baseline": [other]}, ranked.manifest)


def test_a_rank_that_is_none_is_refused(ranked, tmp_path):
    other = tmp_path / "other.csv"
    table = pd.read_csv(ranked.files["Baseline"][0])
    table["first_hit"] = 1.5
    table.to_csv(other, index=False)
    with pytest.raises(UserError, match=r"other\.csv: first_hit must hold whole numbers"):
        read_outcomes({"Baseline": [other]}, ranked.manifest)


def to(value):
    return lambda column: column.astype(object).where(column.index != 2, value)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("AP", to("abc"), r"row 4: AP must be a number \(got 'abc'\)"),
        ("AP", to("inf"), r"row 4: AP must be a number \(got inf\)"),
        ("AP", to(500), "AP must be from 0 to 100; evaluate the model again"),
        ("AP", lambda column: None, "no query has a match; evaluate the model again"),
        ("score1", to("abc"), r"row 4: score1 must be a number \(got 'abc'\)"),
    ],
)
def test_numbers_that_cannot_be_are_named(ranked, tmp_path, column, change, message):
    other = tmp_path / "other.csv"
    table = pd.read_csv(ranked.files["Baseline"][0])
    table.assign(**{column: change(table[column])}).to_csv(other, index=False)
    with pytest.raises(UserError, match=rf"other\.csv: {message}"):
        read_outcomes({"Baseline": [other]}, ranked.manifest)


@pytest.mark.parametrize("column", ["top1", "score1", "score2"])
def test_a_column_that_is_missing_is_named(ranked, tmp_path, column):
    other = tmp_path / "other.csv"
    pd.read_csv(ranked.files["Baseline"][0]).drop(columns=column).to_csv(other, index=False)
    with pytest.raises(UserError, match=rf"other\.csv: column {column} is missing"):
        read_outcomes({"Baseline": [other]}, ranked.manifest)
