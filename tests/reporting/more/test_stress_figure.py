import csv

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pgfl.errors import UserError
from pgfl.reporting.more.stress_figure import (
    as_text,
    draw_stress,
    examples,
    summarised,
    write_stress,
)
from pgfl.retrieval.obstacles import SIDES, covered
from pgfl.retrieval.stress import covers, stress
from pgfl.runtime.files import read_json

SHARES = [0.3, 0.6]


def run(plus):
    """What a stress test could have found."""
    rows = [
        {"covered": share, "side": side, "rank1": 50 - place + plus, "mAP": 40 - 2 * place + plus}
        for place, (share, side) in enumerate(covers(SHARES))
    ]
    return pd.DataFrame(rows).assign(queries=7, gallery=9)


def printed(runs):
    return as_text(pd.DataFrame(summarised(runs))).to_dict("records")


def test_rows_are_means_over_seeds_then_over_sides():
    rows = printed([run(0), run(3)])
    assert [(row["covered"], row["side"]) for row in rows] == [
        ("0", "none"),
        *(("30", side) for side in (*SIDES, "mean")),
        *(("60", side) for side in (*SIDES, "mean")),
    ]
    assert rows[0]["rank1"] == "51.5" and rows[0]["mAP.std"] == "2.12"
    # The four sides of 30 % are places 1 to 4.
    mean = rows[5]
    assert mean["rank1"] == f"{np.mean([49, 48, 47, 46]) + 1.5:.1f}"
    assert mean["mAP"] == f"{np.mean([38, 36, 34, 32]) + 1.5:.1f}"
    assert mean["rank1.std"] == "2.12"
    assert all((row["queries"], row["gallery"]) == (7, 9) for row in rows)
    assert [row["mAP.std"] for row in printed([run(0)])] == [""] * 11


def test_examples_are_covered_from_one_side_after_the_other(ranked):
    found = examples(ranked.manifest, [0.6, 0.2, 0, 0.4])
    assert [words for _, words in found] == [
        "as it is", "20 %, left", "40 %, right", "60 %, top",
    ]  # fmt: skip
    plain = found[0][0]
    expected = covered(plain, 0.4, "right", "query/7.png")
    assert (found[2][0] == expected).all()


def test_curves_are_means_and_whiskers_reach_from_side_to_side():
    rows = [
        {"method": method, "seeds": 1, **row}
        for method, plus in (("Baseline", 0), ("PGFL-KD", 5))
        for row in summarised([run(plus)])
    ]
    picture = np.zeros((8, 4, 3), np.uint8)
    figure = draw_stress(pd.DataFrame(rows), [(picture, "as it is")], "demo", "Mine")
    axes = next(axes for axes in figure.subfigs[1].axes if axes.get_title() == "mAP")
    curves = {bar.get_label(): bar for bar in axes.containers}
    for method, plus in (("Baseline", 0), ("PGFL-KD", 5)):
        line, _, (whiskers,) = curves[method]
        assert list(line.get_ydata()) == pytest.approx([40 + plus, 35 + plus, 27 + plus])
        ends = [segment[:, 1].tolist() for segment in whiskers.get_segments()]
        assert ends[1] == pytest.approx([32 + plus, 38 + plus])
    assert "not the paper's experiment" in figure.get_suptitle()


@pytest.fixture(scope="module")
def students(save_run):
    return {"Baseline": [save_run(0)[0], save_run(1)[0]], "PGFL-KD": [save_run(2)[0]] * 2}


def test_the_csv_holds_what_was_measured(students, ranked, tmp_path):
    out = tmp_path / "stress_mine.csv"
    write_stress(students, ranked.manifest, [0.5], "demo", out, batch_size=7)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 6 and list(rows[0])[:4] == ["method", "source", "covered", "side"]
    measured = [stress(model, ranked.manifest, [0.5]) for model in students["Baseline"]]
    for row, place in zip(rows, range(5), strict=False):
        values = [table["mAP"][place] for table in measured]
        assert row["mAP"] == f"{np.mean(values):.1f}"
        assert row["side"] == measured[0]["side"][place]
        assert (row["queries"], row["gallery"], row["seeds"]) == ("14", "21", "2")
    assert Image.open(out.with_suffix(".png")).width > 800
    sources = read_json(tmp_path / "stress_mine.trace.json")["sources"]
    models = {str(model) for some in students.values() for model in some}
    assert set(sources) == {*models, str(ranked.manifest)}


@pytest.mark.parametrize("shares", [[0.0], [0.5, 1.5], [-0.1, 0.5]])
def test_wrong_shares_are_refused(students, ranked, tmp_path, shares):
    with pytest.raises(UserError, match="--shares: needs numbers from 0 to 1"):
        write_stress(students, ranked.manifest, shares, "demo", tmp_path / "x.csv")
