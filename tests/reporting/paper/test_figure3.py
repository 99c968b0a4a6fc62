import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pgfl.errors import UserError
from pgfl.reporting.paper.figure3 import draw, write_figure3
from pgfl.reporting.trace import follow

OUT = Path("results/figure3.csv")
COLUMNS = ["occluded_duke.rank1", "occluded_duke.mAP"]


@pytest.fixture
def sweeps(make_run):
    """Two weights at two and three values, two seeds each; mAP falls with the weight."""

    def point(parameter, value):
        variant = "pgfl_kd" if value == 0.25 else f"pgfl_kd-{parameter}-{value}"
        return [
            make_run(variant, "occluded_duke", seed, {"rank1": 60 + seed, "mAP": 50 - 8 * value})
            for seed in range(2)
        ]

    return {
        "lambda_cl": {value: point("lambda_cl", value) for value in (1.0, 0.25)},
        "lambda_mcl": {value: point("lambda_mcl", value) for value in (0.0, 0.25, 0.5)},
    }


def rows():
    with OUT.open() as file:
        return list(csv.DictReader(file))


def test_the_points_stand_in_the_csv_in_order(sweeps):
    write_figure3(sweeps, "demo", OUT)
    found = [
        (row["source"], row["parameter"], row["value"], row["occluded_duke.mAP"]) for row in rows()
    ]
    assert found == [
        ("published", "lambda_mcl", "0.25", "54.1"),
        ("reproduced", "lambda_mcl", "0", "50.0"),
        ("reproduced", "lambda_mcl", "0.25", "48.0"),
        ("reproduced", "lambda_mcl", "0.5", "46.0"),
        ("published", "lambda_cl", "0.25", "54.1"),
        ("reproduced", "lambda_cl", "0.25", "48.0"),
        ("reproduced", "lambda_cl", "1", "42.0"),
    ]
    row = rows()[1]
    assert row["occluded_duke.rank1"] == "60.5" and row["occluded_duke.rank1.std"] == "0.71"
    assert (row["method"], row["seeds"]) == ("pgfl_kd-lambda_mcl-0.0", "2")
    assert list(row)[:2] == ["method", "source"]


def test_the_picture_appears_and_is_the_same_every_time(sweeps):
    write_figure3(sweeps, "demo", OUT)
    picture = OUT.with_suffix(".png")
    first = picture.read_bytes()
    with Image.open(picture) as image:
        assert image.width > 1000
    write_figure3(sweeps, "demo", OUT)
    assert picture.read_bytes() == first


def drawn(sweeps, experiment="demo"):
    write_figure3(sweeps, experiment, OUT)
    return draw(pd.read_csv(OUT, dtype=str, keep_default_na=False), experiment)


def test_each_panel_has_both_curves_and_the_published_point(sweeps):
    panels = drawn(sweeps).axes
    assert [axes.get_xlabel()[:3] for axes in panels] == ["(a)", "(b)"]
    for axes, values in zip(panels, ([0, 0.25, 0.5], [0.25, 1]), strict=True):
        handles, labels = axes.get_legend_handles_labels()
        assert sorted(labels) == [
            "Rank-1, reproduced",
            "Rank-1, the paper's full method",
            "mAP, reproduced",
            "mAP, the paper's full method",
        ]
        lines = dict(zip(labels, handles, strict=True))
        curve = lines["mAP, reproduced"].lines[0]
        assert list(curve.get_xdata()) == values
        assert list(curve.get_ydata()) == pytest.approx([50 - 8 * value for value in values])
        star = lines["mAP, the paper's full method"]
        assert (list(star.get_xdata()), list(star.get_ydata())) == ([0.25], [54.1])


@pytest.mark.parametrize(("experiment", "marked"), [("demo", True), ("paper", False)])
def test_the_title_says_what_the_numbers_are(sweeps, experiment, marked):
    title = drawn(sweeps, experiment).get_suptitle()
    assert ("not the paper's: not comparable" in title) == marked
    assert "over 2 seeds" in title and "the paper's full method at 0.25" in title


def test_one_seed_has_no_error_bars(sweeps):
    one = {
        parameter: {value: paths[:1] for value, paths in points.items()}
        for parameter, points in sweeps.items()
    }
    figure = drawn(one)
    assert "one seed" in figure.get_suptitle()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    assert not dict(zip(labels, handles, strict=True))["mAP, reproduced"].has_yerr


def rewrite(path, **changed):
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_points_measured_otherwise_are_not_drawn(sweeps):
    rewrite(sweeps["lambda_mcl"][0.5][1], metric="euclidean")
    with pytest.raises(UserError, match="was evaluated with metric 'euclidean'"):
        write_figure3(sweeps, "demo", OUT)
    assert not OUT.exists()


def test_the_title_says_another_protocol(sweeps, monkeypatch):
    for points in sweeps.values():
        for paths in points.values():
            for path in paths:
                rewrite(path, rerank=True)
    titles = []
    monkeypatch.setattr(Figure, "suptitle", lambda _, text, **__: titles.append(text))
    write_figure3(sweeps, "demo", OUT)
    assert "Protocol: re-ranked." in titles[0]


def test_every_point_can_be_traced(sweeps):
    write_figure3(sweeps, "demo", OUT)
    lines = follow(OUT.with_suffix(".png"))
    assert "lambda_cl = 0.25 (pgfl_kd), occluded_duke.mAP: 48.0" in lines
    assert "10 entries from 8 models" in lines[0]


def test_a_point_is_of_one_variant_and_a_variant_of_one_point(sweeps):
    curve = sweeps["lambda_mcl"]
    mixed = {"lambda_mcl": {0.0: [curve[0.0][0], curve[0.5][1]]}}
    with pytest.raises(UserError, match=r"mcl-0\.5/seed1/.*: is given as pgfl_kd-lambda_mcl-0\.0"):
        write_figure3(mixed, "demo", OUT)
    with pytest.raises(UserError, match="pgfl_kd is given for two values of lambda_mcl"):
        write_figure3({"lambda_mcl": {0.25: curve[0.25], 0.5: curve[0.25]}}, "demo", OUT)
    assert not OUT.exists()
