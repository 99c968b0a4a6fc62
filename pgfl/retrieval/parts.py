"""Distances of images that are described by several vectors, each of which may be hidden.

The distance of two images is the mean of their parts' distances, weighted by how far both images
show the part (Miao et al., ICCV 2019; Somers et al., WACV 2023):

    d(q, g) = sum_k v_k(q) v_k(g) d_k(q, g) / sum_k v_k(q) v_k(g)

with d_k one minus the cosine, or the squared Euclidean distance. Images that have no visible part
in common are `NOTHING_IN_COMMON` apart, farther than any others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pgfl.nn.embedding import Embedding
from pgfl.retrieval.distances import (
    Array,
    Metric,
    as_matrix,
    check_finite,
    checked_features,
    chunk_rows,
    distance_blocks,
    equal_rows,
    rows_at_a_time,
)
from pgfl.retrieval.own import OwnDistance, own_blocks

NOTHING_IN_COMMON = 1e30
"""Finite, since the ranking counts with it, and beyond what features that can be squared reach."""


def embedding_blocks(
    query: Embedding,
    gallery: Embedding,
    metric: Metric | OwnDistance,
    chunk_size: int | None = None,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """The rows of the distance matrix, in order, some at a time, for one vector or several.

    Args:
        query: of Q images.
        gallery: of G images, with as many vectors per image, as long.
        metric: `cosine`, `euclidean`, or a method's own distance.
        chunk_size: rows of a block; None chooses by the size of the gallery.
        first: the place of the gallery's first image in the whole, for messages.

    Yields:
        (rows, G). With one vector up to what does not change the order within a row, as
        `distance_blocks`; with several the distances themselves. Each block is overwritten by the
        next one.

    Raises:
        ValueError: shapes that do not fit each other, NaN or infinity, a visibility outside
            [0, 1], an unknown metric, or a chunk size below one.
    """
    if isinstance(metric, OwnDistance):
        return own_blocks(query, gallery, metric, chunk_size)
    if query.is_single and gallery.is_single:
        checked = checked_features(query.matrix, gallery.matrix, first)
        return distance_blocks(*checked, metric, chunk_size)
    ours = PartVectors.of(query, metric, "query")
    return part_blocks(ours, PartVectors.of(gallery, metric, "gallery", first), chunk_size)


def as_embedding(given: Embedding | Array, name: str) -> Embedding:
    """A matrix (N, c) as an embedding; an embedding as it is.

    Raises:
        ValueError: an array that is no such matrix.
    """
    return given if isinstance(given, Embedding) else Embedding(as_matrix(given, name))


@dataclass(frozen=True)
class PartVectors:
    """The vectors of N images, laid out so that a product of matrices compares all their parts."""

    factors: Tensor
    """(N, K c + K) or, for `euclidean`, (N, K c + 2 K): the vectors times their visibilities, then
    what is constant in a part's distance."""
    visibility: Tensor
    """(N, K)."""
    metric: Metric
    shape: tuple[int, int]
    """K and c."""

    @classmethod
    def of(cls, embedding: Embedding, metric: Metric, name: str, first: int = 0) -> Self:
        """Lay an embedding out: this copies it.

        Args:
            embedding: of N images; where it lies is where distances are computed.
            metric: `cosine` or `euclidean`.
            name: what they are, for messages.
            first: the place of the first image in the whole, for messages.

        Raises:
            ValueError: another metric, no images, NaN or infinity, or a visibility outside [0, 1].
        """
        if metric not in ("cosine", "euclidean"):
            raise ValueError(f"no metric {metric!r}; known: cosine, euclidean")
        vectors, visibility = _checked(embedding, name, first)
        _, parts, channels = vectors.shape
        constants = parts if metric == "cosine" else 2 * parts
        factors = vectors.new_empty((len(vectors), parts * channels + constants))
        step = rows_at_a_time(factors)
        for some in (slice(start, start + step) for start in range(0, len(vectors), step)):
            factors[some] = _factors(vectors[some], visibility[some], metric)
        return cls(factors, visibility, metric, (parts, channels))

    def __len__(self) -> int:
        return len(self.factors)

    def __getitem__(self, rows: slice | np.ndarray | Tensor) -> Self:
        """Some of the images."""
        return replace(self, factors=self.factors[rows], visibility=self.visibility[rows])

    def followed_by(self, others: Self) -> Self:
        """These images and then others, where and as exact as the others are.

        Raises:
            ValueError: not as many vectors per image, or not as long.
        """
        _check_alike(self, others)
        factors, visibility = (
            torch.cat([ours.to(theirs), theirs])
            for ours, theirs in (
                (self.factors, others.factors),
                (self.visibility, others.visibility),
            )
        )
        return replace(self, factors=factors, visibility=visibility)

    def distances(self, gallery: Self, out: Tensor | None = None) -> Tensor:
        """(N, G): from each of these images to each of others.

        Args:
            gallery: the others, G of them.
            out: (2, N, G), room for the distances and the sums of weights.
        """
        out = self.factors.new_empty((2, len(self), len(gallery))) if out is None else out
        block, weight = out
        torch.mm(_opposite(self), gallery.factors.T, out=block)
        torch.mm(self.visibility, gallery.visibility.T, out=weight)
        # Rounding can push a distance of zero below it.
        return block.clamp_min_(0).div_(weight).masked_fill_(weight == 0, NOTHING_IN_COMMON)


def part_blocks(
    query: PartVectors, gallery: PartVectors, chunk_size: int | None = None
) -> Iterator[np.ndarray]:
    """The rows of the distance matrix of images of several vectors, in order, some at a time.

    Args and errors: those of `embedding_blocks`.
    """
    _check_alike(query, gallery)
    rows = chunk_rows(len(gallery), gallery.factors.element_size(), chunk_size)
    return _blocks(query, gallery, min(rows, len(query)))


def _blocks(query: PartVectors, gallery: PartVectors, rows: int) -> Iterator[np.ndarray]:
    copies, originals = equal_rows(gallery.factors)
    room = gallery.factors.new_empty((2, rows, len(gallery)))
    for start in range(0, len(query), rows):
        some = query[start : start + rows]
        some = replace(
            some,
            factors=some.factors.to(gallery.factors),
            visibility=some.visibility.to(gallery.factors),
        )
        block = some.distances(gallery, room[:, : len(some)])
        if len(copies):
            # A matrix product may round a row differently at another place.
            block[:, copies] = block[:, originals]
        yield block.cpu().numpy()


def _check_alike(query: PartVectors, gallery: PartVectors) -> None:
    if query.shape != gallery.shape:
        raise ValueError(f"query has {query.shape} vectors and channels, gallery {gallery.shape}")


def _checked(embedding: Embedding, name: str, first: int) -> tuple[Tensor, Tensor]:
    """Vectors (N, K, c) and visibilities (N, K), checked."""
    vectors = torch.as_tensor(embedding.vectors).detach()
    vectors = vectors if vectors.ndim == 3 else vectors.unsqueeze(1)
    if 0 in vectors.shape:
        raise ValueError(f"{name}_features must be (images, K, channels), got {embedding.shape}")
    vectors = vectors if vectors.dtype == torch.float64 else vectors.float()
    check_finite(vectors.flatten(1), name, first)
    if embedding.visibility is None:
        return vectors, vectors.new_ones(vectors.shape[:2])
    visibility = torch.as_tensor(embedding.visibility).detach().to(vectors)
    wrong = ~((visibility >= 0) & (visibility <= 1)).all(dim=1)
    if wrong.any():
        row = first + int(wrong.nonzero()[0])
        raise ValueError(f"{name}: visibilities must be in [0, 1], but row {row} has others")
    return vectors, visibility


def _factors(vectors: Tensor, visibility: Tensor, metric: Metric) -> Tensor:
    """Some rows of `PartVectors.factors`.

    Its product with `_opposite` of another image is the sum of their parts' weighted distances.
    """
    seen = visibility.unsqueeze(2)
    if metric == "cosine":
        directions = torch.nn.functional.normalize(vectors, dim=2)
        return torch.cat([(seen * directions).flatten(1), visibility], dim=1)
    squares = visibility * vectors.square().sum(dim=2)
    return torch.cat([(seen * vectors).flatten(1), visibility, squares], dim=1)


def _opposite(some: PartVectors) -> Tensor:
    """The other side of the product: 1 - a b, or |a|^2 - 2 a b + |b|^2."""
    parts, channels = some.shape
    vectors, constants = some.factors.split(
        [parts * channels, some.factors.shape[1] - parts * channels], dim=1
    )
    if some.metric == "cosine":
        return torch.cat([-vectors, constants], dim=1)
    visibility, squares = constants.split(parts, dim=1)
    return torch.cat([-2 * vectors, squares, visibility], dim=1)
