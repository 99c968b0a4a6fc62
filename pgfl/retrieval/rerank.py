"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) with sparse matrices.

All images, queries first, get a set of k-reciprocal neighbours: those that are among each
other's nearest. Images are then compared by the Jaccard distance of these (weighted) sets. A set
is a few dozen of many thousand images, so sets are rows of sparse matrices, and set operations
are products and maxima of such matrices.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from pgfl.nn.embedding import Embedding
from pgfl.retrieval.distances import (
    Array,
    Metric,
    checked_features,
    distance_blocks,
    lengths,
    smallest,
    squared_lengths,
)
from pgfl.retrieval.metrics import Evaluation, checked_ids, score
from pgfl.retrieval.own import OwnDistance
from pgfl.retrieval.parts import NOTHING_IN_COMMON, PartVectors, as_embedding, part_blocks


def evaluate_reranked(
    query_features: Array | Embedding,
    gallery_features: Array | Embedding,
    query_pids: Array,
    gallery_pids: Array,
    query_camids: Array,
    gallery_camids: Array,
    *,
    metric: Metric | OwnDistance = "cosine",
    ranks: Sequence[int] = (1, 3, 5, 10),
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    chunk_size: int | None = None,
) -> Evaluation:
    """Like `pgfl.retrieval.evaluate`, with re-ranked distances.

    Args and errors: those of `pgfl.retrieval.evaluate` and of `reranked_blocks`.
    """
    query, gallery = (
        as_embedding(query_features, "query"),
        as_embedding(gallery_features, "gallery"),
    )
    ids = checked_ids(
        len(query), len(gallery), query_pids, gallery_pids, query_camids, gallery_camids
    )
    blocks = reranked_blocks(
        query,
        gallery,
        metric=metric,
        k1=k1,
        k2=k2,
        lambda_value=lambda_value,
        chunk_size=chunk_size,
    )
    return score(blocks, *ids, ranks=ranks)


def reranked_blocks(
    query_features: Array | Embedding,
    gallery_features: Array | Embedding,
    *,
    metric: Metric | OwnDistance = "cosine",
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    chunk_size: int | None = None,
) -> Iterator[np.ndarray]:
    """Re-ranked distances: (1 - lambda) * Jaccard distance + lambda * original distance.

    The original distance of two images is their squared Euclidean distance (with metric
    `cosine`: that of their directions) over the largest one that the first of them has, as in the
    authors' code. With several vectors per image it is their parts' distance, likewise scaled;
    images that have no visible part in common are as far apart as the farthest of the others, and
    never neighbours. Of equally distant neighbours the one that stands earlier, queries before the
    gallery, is the nearer one. Memory beyond the features: a copy of them, a block of distances,
    and a few dozen numbers per image.

    Args:
        query_features: (Q, c), or an `Embedding` of several vectors per image.
        gallery_features: (G, c), likewise.
        metric: `cosine` or `euclidean`; a method's own distance cannot be re-ranked, since only
            queries have one to the gallery.
        k1: how many neighbours are asked whether they are mutual; at least 1.
        k2: how many nearest neighbours' sets are averaged into an image's own; at least 1.
        lambda_value: weight of the original distance, in [0, 1].
        chunk_size: queries compared at a time; None chooses by the number of images.

    Yields:
        (rows, G): the rows of the distance matrix in order, in [0, 1].

    Raises:
        ValueError: wrong shapes, NaN or infinite features, an unknown metric, or a parameter
            out of its range.
    """
    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise ValueError(
            f"re-ranking needs k1 >= 1, k2 >= 1 and lambda in [0, 1],"
            f" got {k1}, {k2} and {lambda_value}"
        )
    if isinstance(metric, OwnDistance):
        raise ValueError(
            "a method's own distance cannot be re-ranked; set evaluation.rerank: false"
        )
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"no metric {metric!r}; known: cosine, euclidean")
    query, gallery = (
        as_embedding(query_features, "query"),
        as_embedding(gallery_features, "gallery"),
    )
    if query.is_single and gallery.is_single:
        images = _one_vector(query, gallery, metric)
    else:
        images = _several_vectors(query, gallery, metric)
    space = _space(images, max(k1 + 1, k2), chunk_size)
    sets = _averaged(_weighted(_expanded(space.nearest, k1), space), space.nearest[:, :k2])
    return _mixed(space, sets, len(query), lambda_value, chunk_size)


def _one_vector(query: Embedding, gallery: Embedding, metric: Metric) -> "_OneVector":
    images = torch.cat(checked_features(query.matrix, gallery.matrix))
    if metric == "cosine":
        images /= lengths(images).unsqueeze(1)
    return _OneVector(images)


def _several_vectors(query: Embedding, gallery: Embedding, metric: Metric) -> "_SeveralVectors":
    ours, theirs = (
        PartVectors.of(query, metric, "query"),
        PartVectors.of(gallery, metric, "gallery"),
    )
    return _SeveralVectors(ours.followed_by(theirs))


class _OneVector:
    """All images, queries first, of one vector each. Distances are squared and halved."""

    beyond = np.inf
    """No distance is as large as this."""
    farthest = np.inf
    """What a distance relative to an image's largest one is cut to."""

    def __init__(self, images: Tensor):
        self.images = images
        self.offsets = squared_lengths(images).cpu().numpy() / 2
        """float64 (N,): what the distances in an image's row of a block lack."""
        self._array = images.cpu().numpy()

    def blocks(self, rows: slice, columns: slice, chunk_size: int | None) -> Iterator[np.ndarray]:
        """Distances between some of the images and others, less `offsets`."""
        return distance_blocks(self.images[rows], self.images[columns], "euclidean", chunk_size)

    def distances(self, row: int, members: np.ndarray) -> np.ndarray:
        """From one image to others; rounding can push one of zero below it."""
        half, images = self.offsets, self._array
        return half[row] + half[members] - images[members] @ images[row]


class _SeveralVectors:
    """All images, queries first, of several vectors each. Distances are those of the parts."""

    beyond = NOTHING_IN_COMMON
    farthest = 1.0

    def __init__(self, images: PartVectors):
        self.images = images
        self.offsets = np.zeros(len(images))

    def blocks(self, rows: slice, columns: slice, chunk_size: int | None) -> Iterator[np.ndarray]:
        """Distances between some of the images and others."""
        return part_blocks(self.images[rows], self.images[columns], chunk_size)

    def distances(self, row: int, members: np.ndarray) -> np.ndarray:
        """From one image to others."""
        others = self.images[torch.from_numpy(members).long()]
        return self.images[row : row + 1].distances(others)[0].cpu().numpy()


@dataclass(frozen=True)
class _Space:
    """All images, queries first, and how far they are apart."""

    images: _OneVector | _SeveralVectors
    nearest: np.ndarray
    """int64 (N, k): of each image its nearest ones, itself among them, nearest first; -1 where
    fewer have a part in common with it."""
    largest: np.ndarray
    """float64 (N,): distance to the farthest image that has a part in common with it; one where
    all are the same."""


def _space(images: _OneVector | _SeveralVectors, count: int, chunk_size: int | None) -> _Space:
    total = len(images.offsets)
    nearest, largest = [], []
    for block in images.blocks(slice(None), slice(None), chunk_size):
        found = smallest(block, min(count, total))
        if np.isfinite(images.beyond):
            found[np.take_along_axis(block, found, axis=1) >= images.beyond] = -1
            block[block >= images.beyond] = 0
        nearest.append(found)
        largest.append(block.max(axis=1))
    farthest = np.concatenate(largest) + images.offsets
    return _Space(images, np.concatenate(nearest), np.where(farthest > 0, farthest, 1.0))


def _expanded(nearest: np.ndarray, k1: int) -> sparse.csr_array:
    """The set R*(i, k1) of every image i: row i is non-zero in the columns of its members.

    R(i, k1) are the images that have i among their k1 nearest and are among the k1 nearest of i.
    A member brings along its own R(., k1 / 2) where more than two thirds of that are in R(i, k1).
    """
    members = _mutual(nearest[:, : k1 + 1])
    halves = _mutual(nearest[:, : round(k1 / 2) + 1])
    # Membership is mutual, so halves is its own transpose.
    shared = (members @ halves).multiply(members).tocsr()
    shared.data = (3 * shared.data > 2 * np.diff(halves.indptr)[shared.indices]).astype(np.int32)
    return members + shared @ halves


def _mutual(nearest: np.ndarray) -> sparse.csr_array:
    chosen = _rows(nearest, np.ones(nearest.size, dtype=np.int32))
    return chosen.multiply(chosen.T).tocsr()


def _rows(columns: np.ndarray, values: np.ndarray) -> sparse.csr_array:
    """A square matrix of these values in these columns of each row; none where a column is -1."""
    there = columns >= 0
    starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    size = len(columns)
    return sparse.csr_array((values[there.ravel()], columns[there], starts), shape=(size, size))


def _weighted(sets: sparse.csr_array, space: _Space) -> sparse.csr_array:
    """Every member weighs exp(-its relative distance), scaled to a sum of one in each row."""
    sets.eliminate_zeros()
    weights = np.empty(sets.nnz)
    for row, (start, stop) in enumerate(itertools.pairwise(sets.indptr)):
        members = sets.indices[start:stop]
        distances = np.maximum(space.images.distances(row, members), 0)
        closeness = np.exp(-np.minimum(distances / space.largest[row], space.images.farthest))
        weights[start:stop] = closeness / closeness.sum()
    return sparse.csr_array((weights, sets.indices, sets.indptr), shape=sets.shape)


def _averaged(sets: sparse.csr_array, nearest: np.ndarray) -> sparse.csr_array:
    """Each row becomes the mean of the rows of its nearest images (local query expansion)."""
    if nearest.shape[1] == 1:
        return sets
    counts = np.maximum((nearest >= 0).sum(axis=1), 1)
    return _rows(nearest, np.repeat(1 / counts, nearest.shape[1])) @ sets


def _mixed(
    space: _Space,
    sets: sparse.csr_array,
    queries: int,
    lambda_value: float,
    chunk_size: int | None,
) -> Iterator[np.ndarray]:
    """Blocks of final distances."""
    images = space.images
    inverted = sets[queries:].tocsc()
    row = 0
    for block in images.blocks(slice(queries), slice(queries, None), chunk_size):
        for distances in block:
            original = np.maximum(distances + images.offsets[row], 0) / space.largest[row]
            original = np.minimum(original, images.farthest)
            start, stop = sets.indptr[row : row + 2]
            shared = _shared(sets.indices[start:stop], sets.data[start:stop], inverted)
            jaccard = 1 - shared / (2 - shared)
            distances[:] = (1 - lambda_value) * jaccard + lambda_value * original
            row += 1
        yield block


def _shared(members: np.ndarray, weights: np.ndarray, inverted: sparse.csc_array) -> np.ndarray:
    """float64 (G,): what a set has in common with that of each gallery image.

    That is the sum of the smaller weights, over the images that are members of both. Only the
    gallery images that hold a member are visited: the columns of `inverted` (G, N) list them.
    """
    starts = inverted.indptr[members]
    counts = inverted.indptr[members + 1] - starts
    ends = np.cumsum(counts)
    places = np.arange(counts.sum()) + np.repeat(starts - ends + counts, counts)
    smaller = np.minimum(np.repeat(weights, counts), inverted.data[places])
    return np.bincount(inverted.indices[places], smaller, minlength=inverted.shape[0])
