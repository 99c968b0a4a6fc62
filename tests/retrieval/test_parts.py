import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgfl.nn.embedding import Embedding
from pgfl.retrieval import evaluate
from pgfl.retrieval.parts import NOTHING_IN_COMMON, embedding_blocks


def matrix(query, gallery, metric, chunk_size=None):
    blocks = embedding_blocks(query, gallery, metric, chunk_size)
    return np.concatenate([block.copy() for block in blocks])


def naive(query, gallery, metric):
    """The formula, part by part, in float64."""
    found = np.empty((len(query), len(gallery)))
    for i in range(len(query)):
        for j in range(len(gallery)):
            total, weights = 0.0, 0.0
            for k in range(query.shape[1]):
                a, b = query.vectors[i, k].astype(float), gallery.vectors[j, k].astype(float)
                if metric == "cosine":
                    lengths = max(np.linalg.norm(a), 1e-12) * max(np.linalg.norm(b), 1e-12)
                    distance = 1 - a @ b / lengths
                else:
                    distance = ((a - b) ** 2).sum()
                weight = query.visibility[i, k] * gallery.visibility[j, k]
                total, weights = total + weight * distance, weights + weight
            found[i, j] = total / weights if weights else NOTHING_IN_COMMON
    return found


def drawn(rng, images, parts=4, channels=5, hidden=0.4):
    visibility = rng.random((images, parts)).astype(np.float32)
    visibility[rng.random((images, parts)) < hidden] = 0
    return Embedding(rng.standard_normal((images, parts, channels)).astype(np.float32), visibility)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["cosine", "euclidean"]),
    st.integers(1, 5),
    st.sampled_from([None, 1, 3]),
    st.floats(0, 1),
)
def test_distances_are_those_of_the_formula(seed, metric, parts, chunk_size, hidden):
    rng = np.random.default_rng(seed)
    query, gallery = (drawn(rng, images, parts, 5, hidden) for images in (4, 6))
    found = matrix(query, gallery, metric, chunk_size)
    np.testing.assert_allclose(found, naive(query, gallery, metric), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_parts_that_are_all_seen_rank_as_one_long_vector(metric):
    """With each part at length one, the mean of the cosines is the cosine of all together."""
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((n, 6, 8)).astype(np.float32) for n in (5, 40))
    if metric == "cosine":
        query, gallery = (x / np.linalg.norm(x, axis=2, keepdims=True) for x in (query, gallery))
    ids = rng.integers(0, 4, 5), rng.integers(0, 4, 40), np.zeros(5, int), np.ones(40, int)
    parts = evaluate(Embedding(query), Embedding(gallery), *ids, metric=metric)
    whole = evaluate(query.reshape(5, -1), gallery.reshape(40, -1), *ids, metric=metric)
    assert parts.mAP == whole.mAP and parts.cmc == whole.cmc


@pytest.mark.parametrize("shape", [(7, 5), (7, 1, 5)])
def test_one_vector_takes_the_way_of_a_matrix_to_the_last_bit(shape):
    rng = np.random.default_rng(0)
    query = rng.standard_normal((3, 5)).astype(np.float32)
    gallery = rng.standard_normal((7, 5)).astype(np.float32)
    ids = np.arange(3), np.arange(7) % 3, np.zeros(3, int), np.ones(7, int)
    expected = evaluate(query, gallery, *ids)
    found = evaluate(Embedding(query), Embedding(gallery.reshape(shape)), *ids)
    assert found.mAP == expected.mAP and found.cmc == expected.cmc
    single = matrix(Embedding(query), Embedding(gallery), "cosine")
    assert np.array_equal(single, matrix(Embedding(query[:, None]), Embedding(gallery), "cosine"))


def test_equal_images_are_equally_far_whatever_stands_around_them():
    rng = np.random.default_rng(0)
    query, gallery = drawn(rng, 9), drawn(rng, 200)
    for copy in (50, 117, 199):
        gallery.vectors[copy], gallery.visibility[copy] = gallery.vectors[3], gallery.visibility[3]
    for metric in ("cosine", "euclidean"):
        found = matrix(query, gallery, metric)
        for copy in (50, 117, 199):
            assert np.array_equal(found[:, copy], found[:, 3])


def test_images_without_a_common_part_come_last():
    query = Embedding(np.ones((1, 2, 3), np.float32), np.array([[1, 0]], np.float32))
    vectors = np.stack([-np.ones((2, 3)), np.ones((2, 3))]).astype(np.float32)
    gallery = Embedding(vectors, np.array([[1, 0], [0, 1]], np.float32))
    found = matrix(query, gallery, "cosine")
    assert found[0, 0] == pytest.approx(2) and found[0, 1] == np.float32(NOTHING_IN_COMMON)
    result = evaluate(query, gallery, [0], [1, 0], [0], [1, 1])
    assert result.first_hit.tolist() == [2] and result.mAP == 50


@pytest.mark.parametrize(
    ("vectors", "visibility", "words"),
    [
        (np.zeros((2, 3, 4, 5)), None, r"must be \(N, K, c\) or \(N, c\), got \(2, 3, 4, 5\)"),
        (np.zeros((2, 3, 4)), np.ones((2, 4)), r"\(N, K\) beside vectors .* got \(2, 4\)"),
        (np.zeros((2, 3)), np.ones((2, 1)), r"beside \(2, 3\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(vectors, visibility, words):
    with pytest.raises(ValueError, match=words):
        Embedding(vectors, visibility)


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(0)
    good = drawn(rng, 3)
    wrong = Embedding(good.vectors.copy(), good.visibility)
    wrong.vectors[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="gallery_features: row 1 holds NaN"):
        matrix(good, wrong, "cosine")
    with pytest.raises(ValueError, match=r"query: visibilities must be in \[0, 1\]"):
        matrix(Embedding(good.vectors, good.visibility + 1), good, "cosine")
    with pytest.raises(ValueError, match=r"query has \(4, 5\) .*gallery \(3, 5\)"):
        matrix(good, drawn(rng, 3, parts=3), "cosine")
    with pytest.raises(ValueError, match="no metric 'manhattan'"):
        matrix(good, good, "manhattan")
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        matrix(good, good, "cosine", 0)


def test_rows_of_an_embedding_are_images():
    embedding = drawn(np.random.default_rng(0), 5)
    some = embedding[np.array([3, 1])]
    assert len(some) == 2 and np.array_equal(some.vectors[1], embedding.vectors[1])
    assert np.array_equal(some.visibility[0], embedding.visibility[3])
    whole = Embedding(torch.zeros(4, 1, 3))
    assert whole.is_single and whole.matrix.shape == (4, 3) and len(whole[1:]) == 3
