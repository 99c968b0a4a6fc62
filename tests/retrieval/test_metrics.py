import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgfl.retrieval import evaluate, metrics

RANKS = (1, 2, 3, 5, 10, 100)
# Lengths of these vectors are whole and their directions exact, so equal distances stay equal.
UNITS = [
    *((1, 0, 0, 0), (-1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, -1)),
    *((1, 1, 1, 1), (1, -1, 1, -1), (-1, -1, 1, 1), (0, 0, 0, 0)),
]
DIRECTED = st.tuples(st.sampled_from(UNITS), st.integers(1, 3)).map(
    lambda drawn: [drawn[1] * value for value in drawn[0]]
)
WHOLE = st.lists(st.integers(-2, 2), min_size=4, max_size=4)


@st.composite
def cases(draw, vectors):
    """Features, pids and camids of queries and gallery: few values, so ties are everywhere."""
    found = []
    for most in (6, 12):
        count = draw(st.integers(1, most))
        several = {"min_size": count, "max_size": count}
        found.append(
            (
                np.array(draw(st.lists(vectors, **several)), dtype=np.float32),
                np.array(draw(st.lists(st.integers(0, 3), **several))),
                np.array(draw(st.lists(st.integers(0, 2), **several))),
            )
        )
    return found


def distance(a, b, metric):
    if metric == "euclidean":
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    lengths = [sum(x * x for x in vector) ** 0.5 for vector in (a, b)]
    if 0 in lengths:
        return 0.0
    return -sum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1])


def oracle(query, gallery, metric):
    """The definition: leave out junk, sort, walk down the list. None without a valid query."""
    precisions, firsts = [], []
    for feature, pid, camera in zip(*(array.tolist() for array in query), strict=True):
        ranked = []
        for other, other_pid, other_camera in zip(*(a.tolist() for a in gallery), strict=True):
            if (other_pid, other_camera) != (pid, camera):
                ranked.append((distance(feature, other, metric), other_pid == pid))
        ranked.sort(key=lambda entry: entry[0])  # stable
        hits = [rank for rank, (_, hit) in enumerate(ranked, start=1) if hit]
        if hits:
            found = [(number + 1) / rank for number, rank in enumerate(hits)]
            precisions.append(sum(found) / len(found))
            firsts.append(hits[0])
        else:
            precisions.append(None)
    if not firsts:
        return None
    valid = [value for value in precisions if value is not None]
    cmc = {rank: 100 * sum(f <= rank for f in firsts) / len(firsts) for rank in RANKS}
    return precisions, 100 * sum(valid) / len(valid), cmc


def check(query, gallery, metric, chunk_size, wrap=np.asarray):
    """Compare with the oracle."""
    arrays = (query[0], gallery[0], query[1], gallery[1], query[2], gallery[2])

    def run():
        return evaluate(
            *(wrap(array) for array in arrays), metric=metric, ranks=RANKS, chunk_size=chunk_size
        )

    expected = oracle(query, gallery, metric)
    if expected is None:
        with pytest.raises(ValueError, match="no query has a match"):
            run()
        return
    precisions, mean, cmc = expected
    result = run()
    assert result.mAP == pytest.approx(mean, abs=1e-9)
    assert result.cmc == pytest.approx(cmc, abs=1e-9)
    assert result.num_valid_queries == sum(value is not None for value in precisions)
    as_numbers = [np.nan if value is None else value for value in precisions]
    assert result.average_precision.dtype == np.float64
    np.testing.assert_allclose(result.average_precision, as_numbers, rtol=0, atol=1e-9)


@given(cases(DIRECTED), st.sampled_from([1, 2, 3, 128]))
def test_cosine_ranking_is_the_definition(case, chunk_size):
    check(*case, "cosine", chunk_size)


@given(cases(WHOLE), st.sampled_from([1, 2, 3, 128]))
def test_euclidean_ranking_is_the_definition(case, chunk_size):
    check(*case, "euclidean", chunk_size)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@given(case=cases(DIRECTED))
def test_tensors_are_taken_as_arrays_are(metric, case):
    check(*case, metric, 2, wrap=torch.as_tensor)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("chunk_size", [1, 7, 30, 1000])
def test_a_larger_gallery_without_ties(metric, chunk_size):
    rng = np.random.default_rng(0)
    query, gallery = (
        (rng.standard_normal((n, 16)), rng.integers(0, 9, n), rng.integers(0, 3, n))
        for n in (30, 300)
    )
    check(query, gallery, metric, chunk_size)


def test_queries_without_a_match_do_not_count():
    result = evaluate(
        np.eye(3), np.eye(3), np.array([0, 1, 2]), np.array([0, 1, 9]), [0, 0, 0], [1, 0, 0]
    )
    assert result.num_valid_queries == 1 and result.mAP == 100
    assert np.isnan(result.average_precision).tolist() == [False, True, True]


def test_of_equally_distant_images_the_earlier_one_comes_first():
    same = np.ones((2, 3))
    for pids, expected in (([5, 6], 100), ([6, 5], 50)):
        assert evaluate(same[:1], same, [5], pids, [0], [1, 1]).mAP == expected


def test_junk_takes_no_rank():
    # In order of distance: junk, a match, another identity, a match.
    gallery = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
    result = evaluate(
        gallery[:1], gallery, [5], [5, 5, 6, 5], [0], [0, 1, 0, 1], metric="euclidean"
    )
    assert result.mAP == pytest.approx(100 * (1 + 2 / 3) / 2) and result.cmc[1] == 100


def test_cosine_ignores_lengths_and_euclidean_does_not():
    query, gallery = np.array([[1.0, 0.0]]), np.array([[9.0, 0.0], [1.0, 0.5]])
    ids = ([5], [5, 6], [0], [1, 1])
    assert evaluate(query, gallery, *ids, metric="cosine").mAP == 100
    assert evaluate(query, gallery, *ids, metric="euclidean").mAP == 50


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.float64])
def test_features_of_both_sides_may_differ_in_precision(dtype):
    features = torch.eye(3)
    ids = ([0, 1, 2], [0, 1, 2], [0, 0, 0], [1, 1, 1])
    assert evaluate(features, features.to(dtype), *ids).mAP == 100
    assert evaluate(features.to(dtype), features, *ids).mAP == 100


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_features_that_are_not_finite_are_an_error(value, side):
    features = {"query": np.ones((2, 3)), "gallery": np.ones((4, 3))}
    features[side][1, 2] = value
    with pytest.raises(ValueError, match=rf"{side}_features: row 1 holds NaN or infinity"):
        evaluate(*features.values(), [0, 0], [0] * 4, [0, 0], [1] * 4)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0), (2, 3, 1)])
def test_features_of_a_wrong_shape_are_an_error(shape):
    good, wrong = np.ones((2, 3)), np.ones(shape)
    with pytest.raises(ValueError, match="query_features must be"):
        evaluate(wrong, good, [0, 0], [0, 0], [0, 0], [1, 1])
    with pytest.raises(ValueError, match="gallery_features must be"):
        evaluate(good, wrong, [0, 0], [0, 0], [0, 0], [1, 1])


def test_features_of_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="query has 3 channels, gallery 4"):
        evaluate(np.ones((2, 3)), np.ones((2, 4)), [0, 0], [0, 0], [0, 0], [1, 1])


@pytest.mark.parametrize("name", ["query_pids", "gallery_pids", "query_camids", "gallery_camids"])
@pytest.mark.parametrize("wrong", [np.zeros(1, int), np.zeros((3, 1), int), np.zeros(4, int)])
def test_ids_that_do_not_fit_the_features_are_an_error(name, wrong):
    names = ("query_pids", "gallery_pids", "query_camids", "gallery_camids")
    ids = {key: np.zeros(3, int) for key in names} | {name: wrong}
    with pytest.raises(ValueError, match=rf"{name} has shape .* there are 3 features"):
        evaluate(np.ones((3, 2)), np.ones((3, 2)), **ids)


def test_an_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match="no metric 'manhattan'"):
        evaluate(np.ones((1, 2)), np.ones((1, 2)), [0], [0], [0], [1], metric="manhattan")


def test_the_example_in_the_documentation_is_true():
    tried = doctest.testmod(metrics)
    assert tried.attempted > 0 and tried.failed == 0
