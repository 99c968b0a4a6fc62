import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgfl.nn.embedding import Embedding
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
    return definition(original, len(query), k1, k2, lambda_value)


def definition(original, queries, k1, k2, lambda_value):
    """The same of the distances between all images, infinite ones of those never compared."""
    order = np.argsort(original, axis=1, kind="stable")
    comparable = np.isfinite(original)
    largest = np.where(comparable, original, 0).max(axis=1, keepdims=True)
    original = np.where(comparable, original / np.where(largest > 0, largest, 1), 1)

    def nearest(image, count):
        return [other for other in order[image, :count] if comparable[image, other]]

    def mutual(image, k):
        return {other for other in nearest(image, k + 1) if image in nearest(other, k + 1)}

    sets = np.zeros_like(original)
    for image in range(len(original)):
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
        sets = np.stack(
            [
                sets[nearest(image, k2)].sum(axis=0) / max(1, len(nearest(image, k2)))
                for image in range(len(original))
            ]
        )
    shared = np.minimum(sets[:queries, None], sets[None, queries:]).sum(axis=-1)
    jaccard = 1 - shared / (2 - shared)
    return (1 - lambda_value) * jaccard + lambda_value * original[:queries, queries:]


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


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("k1", "k2", "lambda_value"), [(10, 4, 0.3), (3, 1, 0.0), (90, 6, 0.6)])
@pytest.mark.parametrize("hidden", [0.0, 0.6])
def test_several_vectors_are_reranked_by_their_parts_distances(
    metric, k1, k2, lambda_value, hidden
):
    rng = np.random.default_rng(k1)
    vectors = rng.standard_normal((5, 3, 4))[rng.integers(0, 5, 50)]
    vectors += 0.5 * rng.standard_normal(vectors.shape)
    visibility = rng.random((50, 3)) * (rng.random((50, 3)) >= hidden)
    if hidden:
        visibility[[2, 30]] = 0  # a query and a gallery image that show nothing
        visibility[40] = [0, 0, 1]
    original = np.full((50, 50), np.inf)
    for i, j in np.ndindex(50, 50):
        weights = visibility[i] * visibility[j]
        if metric == "cosine":
            cosines = (unit(vectors[i]) * unit(vectors[j])).sum(axis=1)
            apart = 1 - cosines
        else:
            apart = np.square(vectors[i] - vectors[j]).sum(axis=1)
        if weights.sum() > 0:
            original[i, j] = weights @ apart / weights.sum()
    if hidden:
        assert np.isinf(original).sum() > 198
    expected = definition(original, 12, k1, k2, lambda_value)
    query, gallery = (
        Embedding(vectors[part], visibility[part]) for part in (slice(12), slice(12, None))
    )
    options = {"metric": metric, "k1": k1, "k2": k2, "lambda_value": lambda_value}
    for chunk_size in (None, 5):
        found = ours(query, gallery, **options, chunk_size=chunk_size)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    single = [
        Embedding(torch.from_numpy(one.vectors).float(), one.visibility.astype(np.float32))
        for one in (query, gallery)
    ]
    np.testing.assert_allclose(ours(*single, **options), expected, rtol=0, atol=1e-5)


def test_parts_that_are_all_seen_are_reranked_as_one_long_vector():
    (query, *_), (gallery, *_) = clustered(4, 9, 70, channels=12)
    parts = (Embedding(one.reshape(len(one), 3, 4)) for one in (query, gallery))
    expected = ours(query, gallery, metric="euclidean")
    np.testing.assert_allclose(ours(*parts, metric="euclidean"), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(-1, 8), (-1, 1, 8)])
def test_one_vector_is_reranked_as_a_matrix_to_the_last_bit(shape):
    (query, *_), (gallery, *_) = clustered(5, 9, 70, dtype=np.float32)
    found = ours(Embedding(query), Embedding(gallery.reshape(shape)))
    assert np.array_equal(found, ours(query, gallery))


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
