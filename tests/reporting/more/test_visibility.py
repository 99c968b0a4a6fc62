import csv
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest

from pgfl.errors import UserError
from pgfl.pose.store import HeatmapWriter
from pgfl.reporting.more.visibility import (
    BINS,
    LEAST_PEOPLE,
    bin_of,
    interval,
    share_interval,
    summarised,
    write_visibility,
)
from pgfl.runtime.files import read_json


def test_bins_are_threes_of_all_numbers_of_keypoints():
    assert BINS == ("0-2", "3-5", "6-8", "9-11", "12-14", "15-17")
    for count in range(18):
        low, high = map(int, bin_of(np.array([count]))[0].split("-"))
        assert low <= count <= high


@pytest.fixture(scope="module")
def rows(ranked, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "visibility.csv"
    write_visibility(ranked.files, ranked.manifest, ranked.heatmaps, "demo", out)
    assert Image.open(out.with_suffix(".png")).width > 800
    trace = read_json(out.with_suffix("").with_suffix(".trace.json"))
    everything = [
        ranked.heatmaps,
        ranked.manifest,
        *(f for some in ranked.files.values() for f in some),
    ]
    assert sorted(trace["sources"]) == sorted(map(str, everything))
    with out.open() as file:
        return {(row["method"], row["keypoints"]): row for row in csv.DictReader(file)}


def by_hand(ranked, method, name):
    """Queries, people, and each seed's Rank-1 and mAP, query by query."""
    manifest = pd.read_csv(ranked.manifest)
    queries = manifest[manifest["split"] == "query"].reset_index()
    seeds = []
    for file in ranked.files[method]:
        hits, precisions, people = [], [], set()
        for row, pid, confidence in zip(
            pd.read_csv(file).itertuples(), queries["pid"], ranked.confidence, strict=True
        ):
            visible = sum(value >= 0.3 for value in confidence.tolist())
            low, high = (0, 17) if name == "all" else map(int, name.split("-"))
            if low <= visible <= high and not np.isnan(row.AP):
                hits.append(row.first_hit == 1)
                precisions.append(row.AP)
                people.add(pid)
        seeds.append((100 * np.mean(hits), np.mean(precisions)) if hits else None)
    return len(hits), len(people), seeds


@pytest.mark.parametrize("name", ["all", *BINS])
def test_numbers_are_means_over_queries_and_seeds(ranked, rows, name):
    both = {}
    for method in ranked.files:
        queries, people, seeds = by_hand(ranked, method, name)
        row = rows[method, name]
        assert (row["queries"], row["people"]) == (str(queries), str(people))
        assert (row["source"], row["experiment"], row["seeds"]) == ("reproduced", "demo", "2")
        if not queries:
            assert row["rank1"] == row["mAP"] == row["mAP.std"] == row["mAP.low"] == ""
            continue
        both[method] = np.mean(seeds, axis=0)
        for place, metric in enumerate(("rank1", "mAP")):
            assert row[metric] == f"{both[method][place]:.1f}"
            assert row[f"{metric}.std"] == f"{np.std(seeds, axis=0, ddof=1)[place]:.2f}"
            assert (row[f"{metric}.low"] == "") == (people < LEAST_PEOPLE)
            if row[f"{metric}.low"]:
                low, high = float(row[f"{metric}.low"]), float(row[f"{metric}.high"])
                assert low <= float(row[metric]) <= high
    if both:
        difference = both["PGFL-KD"] - both["Baseline"]
        row = rows["PGFL-KD - Baseline", name]
        assert [float(row["rank1"]), float(row["mAP"])] == pytest.approx(difference, abs=0.051)


def test_people_are_drawn_again_with_all_of_their_queries():
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(30), 4)
    values = np.repeat(rng.normal(50, 10, 30), 4)[:, None]  # one person's queries are all equal
    low, high = interval(values, people)
    draws = [values[::4, 0][rng.integers(30, size=30)].mean() for _ in range(4000)]
    assert low[0] == pytest.approx(np.quantile(draws, 0.025), abs=0.5)
    assert high[0] == pytest.approx(np.quantile(draws, 0.975), abs=0.5)
    # Taking the queries for so many people would halve it.
    narrow = np.subtract(*interval(values, np.arange(120))[::-1])
    assert narrow[0] == pytest.approx((high - low)[0] / 2, rel=0.15)


@pytest.mark.parametrize(("hits", "people"), [(0, 11), (3, 11), (11, 11), (40, 57)])
def test_a_shares_interval_is_wilsons(hits, people):
    expected = binomtest(hits, people).proportion_ci(method="wilson")
    found = share_interval(100 * hits / people, people)
    assert found == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-6)


def test_no_hit_in_a_few_queries_is_not_certainty():
    values = np.zeros((8, 1, 2))
    found = {
        shares: summarised(values, np.arange(8), np.array(["3-5"] * 8), shares)[2]
        for shares in (True, False)
    }
    assert found[True]["rank1.low"] == "0.0" and float(found[True]["rank1.high"]) > 30
    assert found[False]["rank1.high"] == "0.0"


def test_heatmaps_of_other_images_are_refused(ranked, tmp_path):
    with HeatmapWriter(tmp_path / "query.h5", ["a.png"], (4, 2), {}) as writer:
        writer.write(0, np.full((1, 8, 4, 2), 1 / 8, np.float32), np.ones((1, 17), np.float32))
    with pytest.raises(UserError, match=r"query\.h5: holds 1 images, the manifest 15"):
        write_visibility(
            ranked.files, ranked.manifest, tmp_path / "query.h5", "demo", tmp_path / "x.csv"
        )
    assert not (tmp_path / "x.csv").exists()


def test_methods_of_other_seeds_are_not_subtracted(ranked, tmp_path):
    files = {}
    for seed, (method, own) in enumerate(ranked.files.items()):
        file = tmp_path / method / f"seed{seed}" / "eval" / "x.queries.csv"
        file.parent.mkdir(parents=True)
        files[method] = [shutil.copy(own[0], file)]
    for given in (files, ranked.files | {"Baseline": ranked.files["Baseline"][:1]}):
        with pytest.raises(UserError, match=r"queries\.csv: not the same seeds as 'Baseline' has"):
            write_visibility(given, ranked.manifest, ranked.heatmaps, "demo", tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()
