import numpy as np
import pytest

from pgfl.nn.embedding import Embedding
from pgfl.student.search import nearest


def oracle(query, gallery, top, own_rows):
    """Every pair in float64, a stable sort of each row."""
    rows, scores = [], []
    for place, one in enumerate(query.astype(float)):
        found = []
        for row, other in enumerate(gallery.astype(float)):
            lengths = np.linalg.norm(one) * np.linalg.norm(other)
            if row not in own_rows[place]:
                found.append((-(one @ other) / lengths, row))
        found.sort(key=lambda pair: pair[0])
        rows.append([row for _, row in found[:top]])
        scores.append([-distance for distance, _ in found[:top]])
    return rows, scores


def pieces(gallery, size):
    return (gallery[start : start + size] for start in range(0, len(gallery), size))


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
@pytest.mark.parametrize("top", [1, 5, 60])
def test_the_nearest_are_those_of_a_full_sort(size, top):
    rng = np.random.default_rng(top)
    query = rng.standard_normal((4, 8), dtype=np.float32)
    gallery = rng.standard_normal((60, 8), dtype=np.float32)
    own_rows = [[3], [], [59, 7], [0]]
    found = nearest(query, pieces(gallery, size), top, own_rows)
    rows, scores = oracle(query, gallery, top, own_rows)
    for place in range(4):
        count = len(rows[place])
        assert found.rows[place, :count].tolist() == rows[place]
        np.testing.assert_allclose(found.scores[place, :count], scores[place], atol=1e-6)
        assert (found.rows[place, count:] == -1).all()
        assert np.isnan(found.scores[place, count:]).all()


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("seen", [True, False])
def test_several_vectors_are_searched_by_their_parts(size, seen):
    rng = np.random.default_rng(size)
    vectors = rng.standard_normal((64, 3, 5), dtype=np.float32)
    visibility = (rng.random((64, 3)) * (rng.random((64, 3)) > 0.5)).astype(np.float32)
    everyone = Embedding(vectors, None if seen else visibility)
    query, gallery = everyone[:4], everyone[4:]
    chunks = (gallery[start : start + size] for start in range(0, 60, size))
    found = nearest(query, chunks, 60, [[3], [], [59], [0]])
    weights = np.ones((64, 3)) if seen else visibility.astype(float)
    unit = vectors / np.linalg.norm(vectors.astype(float), axis=2, keepdims=True)
    for place, own in enumerate([[3], [], [59], [0]]):
        scores = {}
        for row in range(60):
            both = weights[place] * weights[4 + row]
            cosines = (unit[place] * unit[4 + row]).sum(axis=1)
            if row not in own:
                scores[row] = both @ cosines / both.sum() if both.any() else -1
        order = sorted(scores, key=lambda row: -scores[row])
        assert found.rows[place, : len(order)].tolist() == order
        expected = [scores[row] for row in order]
        np.testing.assert_allclose(found.scores[place, : len(order)], expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_of_equally_near_images_the_first_comes_first(size):
    # Vectors of four ones and twelve zeros: many ties, all of them exact.
    rng = np.random.default_rng(0)
    gallery = np.zeros((100, 16), np.float32)
    for row in gallery:
        row[rng.choice(16, 4, replace=False)] = 1
    found = nearest(gallery[:5], pieces(gallery, size), 30)
    rows, _ = oracle(gallery[:5], gallery, 30, [[]] * 5)
    assert found.rows.tolist() == rows


def test_more_is_asked_for_than_there_is():
    gallery = np.eye(3, dtype=np.float32)
    found = nearest(gallery[:1], [gallery], 5, [[0]])
    assert found.rows.tolist() == [[1, 2, -1, -1, -1]]
    assert found.scores[0, :2].tolist() == [0, 0] and np.isnan(found.scores[0, 2:]).all()


def test_what_cannot_be_compared_of_several_vectors():
    parts = Embedding(np.ones((2, 3, 4), np.float32))
    with pytest.raises(ValueError, match=r"query has \(1, 4\) vectors .*, gallery \(3, 4\)"):
        nearest(np.ones((1, 4), np.float32), [parts], 1)
    wrong = Embedding(parts.vectors, np.array([[1, 1, 1], [1, 2, 1]], np.float32))
    with pytest.raises(ValueError, match=r"gallery: visibilities must be in .* row 3 has others"):
        nearest(parts, [parts, wrong], 1)


def test_what_cannot_be_compared():
    one = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match="query has 3 channels, gallery 4"):
        nearest(one, [np.ones((2, 4), np.float32)], 1)
    with pytest.raises(ValueError, match="gallery_features: row 2 holds NaN"):
        nearest(one, [np.ones((2, 3), np.float32), one * np.nan], 1)
    with pytest.raises(ValueError, match="query_features: row 0 holds NaN"):
        nearest(one * np.nan, [one, one], 1)
    with pytest.raises(ValueError, match="top must be at least 1"):
        nearest(one, [one], 0)


def test_the_query_and_the_gallery_stay_as_they_were():
    gallery = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    before = gallery.copy()
    nearest(gallery[:3], [gallery], 4, [[0], [1], [2]])
    assert np.array_equal(gallery, before)
