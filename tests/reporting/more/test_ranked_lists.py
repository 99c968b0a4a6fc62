import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pgfl.reporting.more.outcomes import Outcomes, read_outcomes
from pgfl.reporting.more.ranked_list import RIGHT, WRONG
from pgfl.reporting.more.ranked_lists import chosen, draw_ranked_lists_of
from pgfl.runtime.files import read_json


def outcomes(tmp_path, pids, precision):
    queries = pd.DataFrame({"image": [f"{i}.png" for i in range(len(pids))], "pid": pids})
    return Outcomes(tmp_path, queries, {}, {"m": [pd.DataFrame({"AP": precision})]})


def test_best_median_and_worst_are_found(tmp_path):
    precision = [50.0, 90, 10, 70, 30, 100, 20, 80, 40, 60, np.nan]
    found = chosen(outcomes(tmp_path, range(11), precision), "m")
    # In order: 5 1 7 3 9 | 0 8 4 6 2; the middle of ten is the sixth, then the one before it.
    assert found == {"best": [5, 1], "median": [0, 9], "worst": [2, 6]}
    assert list(found) == ["best", "median", "worst"]


def test_a_person_is_shown_once_and_equal_queries_keep_their_order(tmp_path):
    found = chosen(outcomes(tmp_path, [7, 7, 8, 9, 9, 9], [100.0] * 6), "m")
    assert found["best"] == [0, 2] and found["worst"] == [5] and found["median"] == []


def close_to(pixels, colour):
    return (np.abs(pixels.astype(int) - colour).max(axis=2) < 30).sum()


def test_the_picture_shows_both_methods_and_can_be_traced(ranked, tmp_path):
    out = tmp_path / "lists" / "mine.png"
    draw_ranked_lists_of(ranked.files, ranked.manifest, "demo", out)
    one = {"PGFL-KD": ranked.files["PGFL-KD"]}
    draw_ranked_lists_of(one, ranked.manifest, "demo", tmp_path / "one.png")
    both, alone = (Image.open(path).convert("RGB") for path in (out, tmp_path / "one.png"))
    # Six queries, with a row for each method.
    assert both.height == pytest.approx(2 * alone.height, rel=0.05)
    pixels = np.asarray(both)
    assert close_to(pixels, RIGHT) > 1000 and close_to(pixels, WRONG) > 1000
    trace = read_json(tmp_path / "lists" / "mine.trace.json")
    first = [str(some[0]) for some in ranked.files.values()]
    assert (
        set(trace["sources"]) == {*first, str(ranked.manifest)} and "mine.png" in trace["results"]
    )


def test_chosen_queries_are_those_of_the_last_method(ranked):
    found = chosen(read_outcomes(ranked.files, ranked.manifest), "PGFL-KD")
    precision = pd.read_csv(ranked.files["PGFL-KD"][0])["AP"]
    assert precision[found["best"][0]] == precision.max()
    assert precision[found["worst"][0]] == precision.min()
