import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from pgfl.reporting.more.comparison import write_comparison
from pgfl.reporting.paper.specs import comparison_spec
from pgfl.reporting.trace import follow

OUT = Path("results/compare_mine.csv")
MAP = {"baseline": (30.0, 32.0), "mine": (33.0, 35.5), "other": (29.0, 31.5)}


@pytest.fixture
def compare(make_run):
    """Writes a comparison of made-up evaluations, one per seed; Rank-1 is mAP plus one."""

    def compare(values, test_sets, against, experiment):
        files = {
            (variant, test_set): [
                make_run(variant, test_set, seed, {"rank1": value + 1, "mAP": value})
                for seed, value in enumerate(seeds)
            ]
            for variant, seeds in values.items()
            for test_set in test_sets
        }
        spec = comparison_spec("mine", list(values), against, test_sets)
        write_comparison(spec, files, experiment, OUT)

    return compare


@pytest.fixture
def figures(monkeypatch):
    """Figures, as they are saved."""
    saved = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def test_variants_stand_side_by_side_with_paired_differences(compare):
    compare(MAP, ["occluded_duke"], "baseline", "study")
    with OUT.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == list(MAP)
    assert {row["source"] for row in rows} == {"reproduced"}
    assert [row["occluded_duke.mAP"] for row in rows] == ["31.0", "34.2", "30.2"]
    text = OUT.with_suffix(".md").read_text()
    assert "# Comparison: mine" in text and "synthetic data" in text
    assert "| mine minus baseline |" in text and "| other minus baseline |" in text
    assert "baseline minus" not in text
    assert follow(OUT)[0].endswith("6 entries from 6 models")


def test_with_one_seed_there_are_no_differences(compare):
    compare({"a": (30.0,), "b": (31.0,)}, ["market1501"], "b", "paper")
    text = OUT.with_suffix(".md").read_text()
    assert "Differences" not in text and "One seed" in text


def test_each_seed_is_a_dot_of_the_picture(compare, figures):
    compare(MAP, ["occluded_duke", "market1501"], "baseline", "study")
    (figure,) = figures
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "Rank-1 on Occluded-Duke, percent",
        "mAP on Occluded-Duke, percent",
        "Rank-1 on Market-1501, percent",
        "mAP on Market-1501, percent",
    ]
    for axes, more in zip(figure.axes, (1, 0, 1, 0), strict=True):
        dots = [line for line in axes.lines if line.get_marker() == "o"]
        seen = {round(line.get_ydata()[0]): list(line.get_xdata()) for line in dots}
        assert list(seen.values()) == [[value + more for value in some] for some in MAP.values()]
        # The names stand on the left only.
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == ([] if axes.get_xlabel().startswith("mAP") else list(MAP))
        assert list(axes.get_yticks()) == list(seen)
        bars = [line for line in axes.lines if line.get_marker() == "|"]
        assert [line.get_xdata()[0] for line in bars] == [
            np.mean(some) + more for some in MAP.values()
        ]
        means = [text.get_text() for text in axes.texts]
        assert means == [f"{np.mean(some) + more:.1f}" for some in MAP.values()]
        # From the first variant at the top down.
        assert axes.yaxis_inverted()
    words = figure.get_supxlabel()
    assert "2 seeds" in words and "mean" in words
    assert "study: not the paper's experiment" in figure.get_suptitle()
    assert follow(OUT.with_suffix(".png"))[0].endswith("12 entries from 12 models")


def test_the_line_is_at_the_mean_of_the_variant_compared_with(compare, figures):
    compare(MAP, ["occluded_duke"], "mine", "paper")
    (figure,) = figures
    for axes, mean in zip(figure.axes, (35.25, 34.25), strict=True):
        lines = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_xdata()[0] for line in lines] == [mean]
        dots = [line for line in axes.lines if line.get_marker() == "o"]
        marked = [to_rgb(line.get_color()) == to_rgb(lines[0].get_color()) for line in dots]
        assert marked == [False, True, False]
    assert figure.get_suptitle() == "Comparison: mine"


def test_the_picture_is_wide_enough_for_long_names(compare):
    compare({"pgfl_kd-lambda_mcl-0.25": (30.0,), "b": (31.0,)}, ["market1501"], "b", "paper")
    with Image.open(OUT.with_suffix(".png")) as picture:
        pixels = np.asarray(picture.convert("L"))
    # Nothing runs over the edge.
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()


def test_a_test_set_that_is_left_out_keeps_its_columns_and_has_no_panel(make_run, figures):
    sets = ["occluded_duke", "market1501"]
    spec = comparison_spec("mine", ["baseline", "mine"], "baseline", sets)
    files = {
        (variant, "market1501"): [make_run(variant, "market1501", 0, {"rank1": 50.0, "mAP": 40.0})]
        for variant in ("baseline", "mine")
    }
    write_comparison(spec, files, "paper", OUT, {"occluded_duke": ["DukeMTMC-reID.zip"]})
    with OUT.open() as file:
        row = next(csv.DictReader(file))
    assert [row[column] for column in spec.columns] == ["", "", "50.0", "40.0"]
    assert "| baseline | – | – | 50.0 | 40.0 |" in OUT.with_suffix(".md").read_text()
    (figure,) = figures
    assert len(figure.axes) == 2  # Rank-1 and mAP of one set
    assert "Occluded-Duke (DukeMTMC-reID.zip)" in figure.get_supxlabel()
