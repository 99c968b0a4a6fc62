import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgfl.nn.embedding import Embedding
from pgfl.retrieval import evaluate, own
from pgfl.retrieval.own import OwnDistance
from pgfl.retrieval.parts import embedding_blocks
from pgfl.retrieval.rerank import evaluate_reranked

CPU = torch.device("cpu")


def nearest_parts(query, gallery):
    """Each part of the query to the nearest part of the other image: no metric of ours."""
    return torch.cdist(query.vectors[:, None], gallery.vectors[None]).amin(3).sum(2)


def drawn(rng, images, parts=3, channels=4):
    return Embedding(rng.standard_normal((images, parts, channels)).astype(np.float32))


def naive(query, gallery):
    found = np.zeros((len(query), len(gallery)))
    for i, ours in enumerate(query.vectors):
        for j, theirs in enumerate(gallery.vectors):
            found[i, j] = sum(min(np.linalg.norm(a - b) for b in theirs) for a in ours)
    return found


def matrix(query, gallery, distance=nearest_parts, chunk_size=None):
    blocks = embedding_blocks(query, gallery, OwnDistance(distance, CPU), chunk_size)
    return np.concatenate([block.copy() for block in blocks])


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, 1, 2, 5]))
def test_all_pairs_are_compared_in_whatever_pieces(queries, images, chunk_size):
    rng = np.random.default_rng(queries * 10 + images)
    query, gallery = drawn(rng, queries), drawn(rng, images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "QUERIES", 2)
        patch.setattr(own, "GALLERY", 3)
        found = matrix(query, gallery, chunk_size=chunk_size)
    np.testing.assert_allclose(found, naive(query, gallery), rtol=1e-4, atol=1e-5)


def test_visibilities_reach_the_method():
    rng = np.random.default_rng(0)
    query, gallery = (
        Embedding(rng.random((n, 2, 3)).astype(np.float32), rng.random((n, 2)).astype(np.float32))
        for n in (3, 4)
    )
    found = matrix(query, gallery, lambda q, g: q.visibility @ g.visibility.T)
    np.testing.assert_allclose(found, query.visibility @ gallery.visibility.T, rtol=1e-6)


def test_the_engine_ranks_what_comes():
    rng = np.random.default_rng(0)
    query, gallery = drawn(rng, 5), drawn(rng, 30)
    ids = rng.integers(0, 4, 5), rng.integers(0, 4, 30), np.zeros(5, int), np.ones(30, int)
    found = evaluate(query, gallery, *ids, metric=OwnDistance(nearest_parts, CPU))
    precisions = []
    for row, pid in zip(naive(query, gallery), ids[0], strict=True):
        hits = ids[1][np.argsort(row, kind="stable")] == pid
        precisions.append((np.cumsum(hits) / np.arange(1, 31))[hits].mean())
    assert found.mAP == pytest.approx(100 * np.mean(precisions))


@pytest.mark.parametrize("best", [0, 1, 4, 50])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_the_nearest_may_be_put_in_another_order(best, chunk_size, monkeypatch):
    monkeypatch.setattr(own, "GALLERY", 7)
    rng = np.random.default_rng(0)
    query, gallery = drawn(rng, 5), drawn(rng, 12)
    asked = []

    def far_first(query, gallery):
        asked.append((len(query), len(gallery)))
        return -nearest_parts(query, gallery)

    distance = OwnDistance(nearest_parts, CPU, far_first, best)
    blocks = embedding_blocks(query, gallery, distance, chunk_size)
    found = np.concatenate([block.copy() for block in blocks])
    for row, expected in zip(found, naive(query, gallery), strict=True):
        order = np.argsort(expected)
        order = [*order[:best][::-1], *order[best:]]
        assert np.argsort(row).tolist() == order
        np.testing.assert_allclose(np.sort(row), np.sort(expected), rtol=1e-4, atol=1e-5)
    assert asked == {0: [], 1: [(1, 1)] * 5, 4: [(1, 4)] * 5, 50: [(1, 7), (1, 5)] * 5}[best]


def test_what_a_network_brings_is_taken():
    network = torch.nn.Module()
    assert OwnDistance.of(network, CPU) is None
    network.distance = nearest_parts
    assert OwnDistance.of(network, CPU) == OwnDistance(nearest_parts, CPU)
    network.second_distance, network.compared_again = drawn, 8
    assert OwnDistance.of(network, CPU) == OwnDistance(nearest_parts, CPU, drawn, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda q, g: torch.full((len(q), len(g)), torch.nan),
        lambda q, g: torch.zeros(len(q)),
        lambda q, g: torch.zeros(len(g), len(q)),
    ],
)
def test_a_distance_that_is_none_is_refused(wrong):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"own distance of 3 from 4 images has the shape"):
        matrix(drawn(rng, 3), drawn(rng, 4), wrong)


def test_features_that_cannot_be_compared_are_refused():
    rng = np.random.default_rng(0)
    query, gallery = drawn(rng, 3), drawn(rng, 4)
    with pytest.raises(ValueError, match="do not fit each other"):
        matrix(query, drawn(rng, 4, parts=2))
    gallery.vectors[2, 1, 0] = np.inf
    with pytest.raises(ValueError, match="gallery_features: row 2 holds NaN or infinity"):
        matrix(query, gallery)


def test_an_own_distance_cannot_be_reranked():
    rng = np.random.default_rng(0)
    ids = np.zeros(3, int), np.zeros(4, int), np.zeros(3, int), np.ones(4, int)
    with pytest.raises(ValueError, match=r"cannot be re-ranked; set evaluation\.rerank: false"):
        evaluate_reranked(
            drawn(rng, 3), drawn(rng, 4), *ids, metric=OwnDistance(nearest_parts, CPU)
        )
