"""The counting engine against the definition in exact arithmetic, and its memory."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgfl.retrieval import evaluate
from pgfl.retrieval.metrics import NoValidQueryError, score

RANKS = (1, 2, 5, 1000)
# Few vectors, drawn often: ties come from equal rows. 33 channels and their sums are not round.
POOL = np.random.default_rng(0).standard_normal((5, 33))
POOL[0] = 0


@st.composite
def identities(draw, most):
    """Pids and camids of some images."""
    count = draw(st.integers(1, most))
    return [
        np.array(draw(st.lists(st.integers(0, high), min_size=count, max_size=count)))
        for high in (3, 1)
    ]


@st.composite
def cases(draw):
    """Ids of queries and gallery, whether features are small integers, and which they are."""
    query, gallery = draw(identities(6)), draw(identities(25))
    features = []
    whole = draw(st.booleans())
    for count in (len(query[0]), len(gallery[0])):
        seed = draw(st.integers(0, 2**32 - 1))
        rng = np.random.default_rng(seed)
        picked = POOL[rng.integers(0, len(POOL), count)]
        features.append(rng.integers(-2, 3, (count, 3)).astype(float) if whole else picked)
    return query, gallery, whole, features


def squared(vector):
    return sum(value * value for value in vector)


def distance(query, image, metric):
    """An exact number that orders images as the metric does."""
    if metric == "euclidean":
        return squared([a - b for a, b in zip(query, image, strict=True)])
    product = sum(a * b for a, b in zip(query, image, strict=True))
    length = squared(image)
    return -product * abs(product) / length if length else Fraction(0)


def oracle(query, gallery, metric):
    """Average precision (None: no match) and first hit of every query, from the definition."""
    results = []
    exact = [[Fraction(value) for value in row] for row in gallery[0].tolist()]
    for vector, pid, camera in zip(*(array.tolist() for array in query), strict=True):
        vector = [Fraction(value) for value in vector]
        ranked = sorted(
            (distance(vector, image, metric), column)
            for column, image in enumerate(exact)
            if (gallery[1][column], gallery[2][column]) != (pid, camera)
        )
        hits = [rank for rank, (_, column) in enumerate(ranked, 1) if gallery[1][column] == pid]
        precision = [number / rank for number, rank in enumerate(hits, 1)]
        results.append((sum(precision) / len(hits), hits[0]) if hits else None)
    return results


def check(query, gallery, metric, chunk_size, wrap=np.asarray):
    def run():
        pairs = zip(query, gallery, strict=True)
        arrays = [wrap(array) for pair in pairs for array in pair]
        return evaluate(*arrays, metric=metric, ranks=RANKS, chunk_size=chunk_size)

    expected = oracle(query, gallery, metric)
    valid = [result for result in expected if result]
    if not valid:
        with pytest.raises(NoValidQueryError, match="no query has a match"):
            run()
        return
    found = run()
    precisions = [result[0] if result else np.nan for result in expected]
    np.testing.assert_allclose(found.average_precision, precisions, rtol=0, atol=1e-9)
    assert found.mAP == pytest.approx(100 * np.mean([ap for ap, _ in valid]), abs=1e-9)
    for rank in RANKS:
        share = 100 * np.mean([first <= rank for _, first in valid])
        assert found.cmc[rank] == pytest.approx(share, abs=1e-9)
    assert found.num_valid_queries == len(valid)


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from([None, 1, 2, 100]), st.sampled_from([np.asarray, torch.as_tensor]))
def test_it_is_the_definition_in_exact_arithmetic(case, chunk_size, wrap):
    query, gallery, whole, features = case
    metric = "euclidean" if whole else "cosine"
    check((features[0], *query), (features[1], *gallery), metric, chunk_size, wrap)


@settings(deadline=None)
@given(cases(), st.sampled_from([1, 3]))
def test_chunks_of_any_size_give_the_same_bits_where_arithmetic_is_exact(case, chunk_size):
    query, gallery, _, (first, second) = case
    first, second = np.rint(first).astype(np.float32), np.rint(second).astype(np.float32)
    arrays = (first, second, query[0], gallery[0], query[1], gallery[1])
    try:
        expected = evaluate(*arrays, metric="euclidean").average_precision
    except NoValidQueryError:
        return
    found = evaluate(*arrays, metric="euclidean", chunk_size=chunk_size).average_precision
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("queries", "images", "channels"),
    [(1, 1003, 2048), (5, 1003, 256), (3, 7, 33), (17, 1003, 100), (2, 17, 3), (130, 643, 31)],
)
def test_equal_rows_tie_wherever_they_stand(metric, dtype, queries, images, channels):
    # A matrix product may round equal rows differently: then their order would not be the
    # gallery's.
    rng = np.random.default_rng(channels)
    row = rng.standard_normal(channels).astype(dtype)
    query = rng.standard_normal((queries, channels)).astype(dtype)
    hits = np.arange(images) % 3 == 1
    places = 1 + np.flatnonzero(hits)
    found = evaluate(
        query,
        np.tile(row, (images, 1)),
        np.ones(queries, int),
        hits.astype(int),
        np.zeros(queries, int),
        np.ones(images, int),
        metric=metric,
    )
    expected = np.mean(np.arange(1, len(places) + 1) / places)
    np.testing.assert_allclose(found.average_precision, expected, rtol=0, atol=1e-12)


def test_many_hits_in_a_wide_gallery_rank_as_a_stable_argsort_ranks_them():
    rng = np.random.default_rng(0)
    distances = rng.integers(0, 500, (3, 70_001)).astype(np.float32)
    pids, cameras = rng.integers(0, 300, 70_001), rng.integers(0, 4, 70_001)
    expected = []
    for query, row in enumerate(distances):
        order = np.argsort(row, kind="stable")
        order = order[(pids[order] != query) | (cameras[order] != 0)]
        places = 1 + np.flatnonzero(pids[order] == query)
        assert len(places) > 100
        expected.append(np.mean(np.arange(1, len(places) + 1) / places))
    found = score(
        [distances[:2], distances[2:]], np.arange(3), pids, np.zeros(3), cameras, ranks=[1]
    )
    np.testing.assert_allclose(found.average_precision, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("threads", [2, 5])
def test_any_number_of_threads_gives_the_same(threads, monkeypatch):
    rng = np.random.default_rng(0)
    distances = rng.integers(0, 50, (7, 300)).astype(np.float64)
    ids = np.arange(7), rng.integers(0, 9, 300), np.zeros(7), rng.integers(0, 4, 300)
    found = []
    for count in (1, threads):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        blocks = np.split(distances.copy(), [4])
        found.append(score(blocks, *ids, ranks=[1]))
    np.testing.assert_array_equal(found[0].average_precision, found[1].average_precision)
    assert found[0].num_valid_queries == 7 and found[0].cmc == found[1].cmc


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 4), (2, 4)], r"shape \(2, 4\) does not fit"),
        ([(3, 5)], r"shape \(3, 5\) does not fit"),
        ([(2, 4)], "distances of 2 queries, but there are 3"),
    ],
)
def test_distances_that_are_not_of_all_queries_and_images_are_an_error(shapes, message):
    ids = [np.zeros(count, int) for count in (3, 4, 3, 4)]
    with pytest.raises(ValueError, match=message):
        score(map(np.zeros, shapes), *ids, ranks=[1])


def test_a_million_images_are_ranked():
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((1_000_000, 2), dtype=np.float32)
    pids = np.arange(1_000_000) // 10
    # Each query is one image of its person exactly, so that one is at the top.
    found = evaluate(
        gallery[::99_999], gallery, pids[::99_999], pids, np.zeros(11), np.ones(1_000_000),
        metric="euclidean",
    )  # fmt: skip
    assert found.cmc[1] == 100 and 0.1 <= found.average_precision.min() < 0.2


def test_features_that_overflow_when_squared_are_refused():
    with pytest.raises(ValueError, match="query_features: row 0 holds NaN or infinity, or is too"):
        evaluate(np.full((1, 2), 1e30), np.eye(2, dtype=np.float32), [0], [0, 1], [0], [1, 1])


def test_tiny_features_keep_their_directions():
    gallery = np.array([[0, 1e-30], [1e-30, 1e-32], [0, 0]], dtype=np.float32)
    found = evaluate(gallery[1:2], gallery, [5], [6, 5, 6], [0], [1, 1, 1])
    assert found.mAP == 100


BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

MEASURE = """
import sys
import numpy as np
sys.path.insert(0, {benchmarks!r})
from processes import peak_mib
from pgfl.retrieval import evaluate

rng = np.random.default_rng(0)
few = rng.standard_normal((64, 1024), dtype=np.float32)
evaluate(few, few, *[np.arange(64)] * 2, *[np.arange(64), 1 + np.arange(64)], metric="{metric}")
query = rng.standard_normal((2_000, 1024), dtype=np.float32)
gallery = rng.standard_normal((20_000, 1024), dtype=np.float32)
pids, cameras = np.arange(20_000) // 20, np.arange(20_000) % 4
before = peak_mib()
evaluate(query, gallery, pids[::10], pids, cameras[::10], cameras, metric="{metric}")
print(peak_mib() - before)
"""


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_there_is_neither_a_full_matrix_nor_a_copy_of_the_gallery(metric):
    # The matrix would take 153 MiB, a copy 78 MiB.
    command = [sys.executable, "-c", MEASURE.format(metric=metric, benchmarks=str(BENCHMARKS))]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 64
