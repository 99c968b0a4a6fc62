import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location(
        "evidence_pictures", ROOT / "benchmarks/evidence_pictures.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


pictures = load()


def kept(variant, second_layer4="", before_repair="no"):
    """{(queries, seed): mAP} of one model, by other means than the script's."""
    with (ROOT / "docs/evidence.csv").open() as file:
        return {
            (row["queries"], int(row["seed"])): float(row["mAP"])
            for row in csv.DictReader(file)
            if row["variant"] == variant
            and row["second_layer4"] == second_layer4
            and row["before_repair"] == before_repair
        }


def drawn(axes, queries, line):
    """What a row shows of one set of queries: dots, and the ends of the interval."""
    color = pictures.QUERIES[queries]["color"]
    dots, ends = [], []
    for artist in axes.lines:
        y = np.asarray(artist.get_ydata(), float)
        if to_rgb(artist.get_color()) != to_rgb(color) or not np.all(abs(y - line) < 0.15):
            continue
        if artist.get_marker() == pictures.QUERIES[queries]["marker"]:
            dots += list(artist.get_xdata())
        elif artist.get_marker() == "None":
            ends = list(artist.get_xdata())
    return sorted(dots), ends


def test_the_headline_shows_every_seed_of_the_csv_and_the_interval():
    baseline, ours = kept("baseline"), kept("pgfl_kd", "separate")
    scores, differences = pictures.draw(pictures.headline()).axes
    for name, step in (("development", -0.19), ("held-out", 0.19)):
        seeds = range(5)
        for place, runs in enumerate((baseline, ours)):
            dots, _ = drawn(scores, name, place + step)
            assert dots == sorted(runs[name, seed] for seed in seeds)
        steps = np.array([ours[name, seed] - baseline[name, seed] for seed in seeds])
        dots, ends = drawn(differences, name, 1 + step)
        assert dots == pytest.approx(sorted(steps))
        assert ends == pytest.approx(stats.t.interval(0.95, 4, steps.mean(), stats.sem(steps)))
        low, high = ends
        words = [text.get_text() for text in differences.texts]
        assert f"{steps.mean():+.1f} ({low:.1f} to {high:.1f})" in words


def test_a_single_seed_has_no_mean_and_no_interval():
    scores, differences = pictures.draw(pictures.readings()).axes
    assert drawn(scores, "held-out", 1.19) == ([6.252], [])
    (dot,), ends = drawn(differences, "held-out", 1.19)
    assert (dot, ends) == (pytest.approx(6.252 - 11.907), [])
    assert not [line for line in scores.lines + differences.lines if line.get_marker() == "|"]


def test_what_was_trained_before_the_repair_is_not_taken_for_what_was_trained_after_it():
    for before in (False, True):
        found = pictures.runs_of("pgfl_kd", before_repair=before)
        runs = kept("pgfl_kd", "separate", "yes" if before else "no")
        assert {(n, seed): mAP for n, by in found.items() for seed, mAP in by.items()} == runs
    with pytest.raises(ValueError, match="no run of sab_im_feb, shared"):
        pictures.runs_of("sab_im_feb", "shared")


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_the_picture_in_docs_is_the_one_that_the_script_draws(name, tmp_path):
    shown = ROOT / f"docs/images/evidence_{name}.png"
    assert shown.stat().st_size < 60_000
    pictures.save_picture(pictures.draw(pictures.PICTURES[name]()), tmp_path / "new.png")
    with Image.open(shown) as one, Image.open(tmp_path / "new.png") as other:
        assert not one.info.keys() & {"Software", "Creation Time"}
        assert one.size == other.size
        pixels = [np.asarray(image.convert("RGB"), int) for image in (one, other)]
    # Rounding may shade an edge otherwise; a dot that moved is 100 pixels.
    assert (abs(pixels[0] - pixels[1]).max(axis=2) > 64).sum() < 30
