import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgfl.retrieval.metrics import evaluate, score
from pgfl.retrieval.rerank import evaluate_reranked, reranked_blocks


def unit(features):
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)


def textbook(query, gallery, metric, k1, k2, lambda_value):
    """The dense definition: full matrices, full sorts, one image after the other."""
    images = np.concatenate([query, gallery]).astype(np.float64)
    if metric == "cosine":
        images = unit(images)
    original = np.square(images[:, None] - images[None]).sum(axis=-1)
    order = np.argsort(original, axis=1, kind="stable")
    largest = original.max(axis=1, keepdims=True)
    original = original / np.where(largest > 0, largest, 1)

    def mutual(image, k):
        return {other for other in order[image, : k + 1] if image in order[other, : k + 1]}

    sets = np.zeros_like(original)
    for image in range(len(images)):
        members = mutual(image, k1)
        expanded = set(members)
        for member in members:
            theirs = mutual(member, int(np.around(k1 / 2)))
            if len(theirs & members) > 2 / 3 * len(theirs):
                expanded |= theirs
        index = sorted(expanded)
        weights = np.exp(-original[image, index])
        sets[image, index] = weights / weights.sum()
    if k2 != 1:
        sets = np.stack([sets[order[image, :k2]].mean(axis=0) for image in range(len(images))])
    shared = np.minimum(sets[: len(query), None], sets[None, len(query) :]).sum(axis=-1)
    jaccard = 1 - shared / (2 - shared)
    return (1 - lambda_value) * jaccard + lambda_value * original[: len(query), len(query) :]


def ours(query, gallery, **options):
    return np.concatenate([block.copy() for block in reranked_blocks(query, gallery, **options)])


def clustered(seed, queries, images, channels=8, dtype=np.float64):
    """Features around a few centres, with their pids and camids."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((6, channels))
    sides = []
    for count in (queries, images):
        pids = rng.integers(0, 6, count)
        noise = 0.7 * rng.standard_normal((count, channels))
        sides.append(((centres[pids] + noise).astype(dtype), pids, rng.integers(0, 3, count)))
    return sides


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    ("k1", "k2", "lambda_value"),
    [(20, 6, 0.3), (5, 3, 0.0), (7, 1, 0.5), (1, 4, 0.9), (200, 9, 1)],
)
def test_it_is_the_dense_definition(metric, k1, k2, lambda_value):
    (query, *_), (gallery, *_) = clustered(k1, 13, 90)
    expected = textbook(query, gallery, metric, k1, k2, lambda_value)
    options = {"metric": metric, "k1": k1, "k2": k2, "lambda_value": lambda_value}
    for chunk_size in (None, 1, 5):
        found = ours(query, gallery, **options, chunk_size=chunk_size)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    single = ours(query.astype(np.float32), torch.from_numpy(gallery).float(), **options)
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-6)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-1, 1)), min_size=2, max_size=40),
    st.integers(1, 39),
    st.integers(1, 8),
    st.integers(1, 5),
    st.sampled_from([None, 1, 3]),
)
def test_of_equally_near_neighbours_the_earlier_one_counts(rows, queries, k1, k2, chunk_size):
    images = np.array(rows, dtype=np.float32)
    query, gallery = np.split(images, [min(queries, len(rows) - 1)])
    options = {"metric": "euclidean", "k1": k1, "k2": k2, "lambda_value": 0.3}
    found = ours(query, gallery, **options, chunk_size=chunk_size)
    expected = textbook(query, gallery, **options)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_images_that_are_all_the_same_have_finite_distances():
    same = np.ones((40, 3), dtype=np.float32)
    assert np.isfinite(ours(same[:3], same)).all()


def test_it_is_scored_like_other_distances():
    (query, q_pids, q_cams), (gallery, g_pids, g_cams) = clustered(3, 40, 200)
    ids = (q_pids, g_pids, q_cams, g_cams)
    distances = textbook(query, gallery, "cosine", 20, 6, 0.3)
    expected = score([distances], *ids, ranks=(1, 5))
    found = evaluate_reranked(query, gallery, *ids, ranks=(1, 5), chunk_size=7)
    assert found.mAP == pytest.approx(expected.mAP, abs=1e-9) and found.cmc == expected.cmc
    assert found.mAP > evaluate(query, gallery, *ids).mAP


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": 0}, "re-ranking needs k1 >= 1"),
        ({"k2": 0}, "re-ranking needs .* k2 >= 1"),
        ({"lambda_value": 1.1}, r"lambda in \[0, 1\]"),
        ({"metric": "manhattan"}, "no metric 'manhattan'"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
    ],
)
def test_wrong_parameters_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        reranked_blocks(np.eye(3), np.eye(3), **options)


def test_wrong_features_are_errors():
    with pytest.raises(ValueError, match="gallery_features: row 1 holds NaN"):
        reranked_blocks(np.eye(2), np.array([[1, 2], [np.nan, 0]]))
    with pytest.raises(ValueError, match="query_pids has shape"):
        evaluate_reranked(np.eye(2), np.eye(2), [0], [0, 1], [0, 0], [1, 1])
