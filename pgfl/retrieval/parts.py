"""Distances of images that are described by several vectors, each of which may be hidden.

The distance of two images is the mean of their parts' distances, weighted by how far both images
show the part (Miao et al., ICCV 2019; Somers et al., WACV 2023):

    d(q, g) = sum_k v_k(q) v_k(g) d_k(q, g) / sum_k v_k(q) v_k(g)

with d_k one minus the cosine, or the squared Euclidean distance. Images that have no visible part
in common are `NOTHING_IN_COMMON` apart, farther than any others.
"""

from collections.abc import Iterator

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
)

NOTHING_IN_COMMON = 1e30
"""Finite, since the ranking counts with it, and beyond what features that can be squared reach."""


def embedding_blocks(
    query: Embedding, gallery: Embedding, metric: Metric, chunk_size: int | None = None
) -> Iterator[np.ndarray]:
    """The rows of the distance matrix, in order, some at a time, for one vector or several.

    Args:
        query: of Q images.
        gallery: of G images, with as many vectors an image, as long.
        metric: `cosine` or `euclidean`.
        chunk_size: rows of a block; None chooses by the size of the gallery.

    Yields:
        (rows, G). With one vector up to what does not change the order within a row, as
        `distance_blocks`; with several the distances themselves. Each block is overwritten by the
        next one.

    Raises:
        ValueError: shapes that do not fit each other, NaN or infinity, a visibility outside
            [0, 1], an unknown metric, or a chunk size below one.
    """
    if query.is_single and gallery.is_single:
        checked = checked_features(query.matrix, gallery.matrix)
        return distance_blocks(*checked, metric, chunk_size)
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"no metric {metric!r}; known: cosine, euclidean")
    ours, theirs = _parts(query, "query"), _parts(gallery, "gallery")
    if ours[0].shape[1:] != theirs[0].shape[1:]:
        raise ValueError(
            f"query has {tuple(ours[0].shape[1:])} vectors and channels, gallery "
            f"{tuple(theirs[0].shape[1:])}"
        )
    rows = min(chunk_rows(len(theirs[0]), theirs[0].element_size(), chunk_size), len(ours[0]))
    return _blocks(*_factors(*ours, metric, first=True), *_factors(*theirs, metric), rows)


def as_embedding(given: Embedding | Array, name: str) -> Embedding:
    """A matrix (N, c) as an embedding; an embedding as it is.

    Raises:
        ValueError: an array that is no such matrix.
    """
    return given if isinstance(given, Embedding) else Embedding(as_matrix(given, name))


def _parts(embedding: Embedding, name: str) -> tuple[Tensor, Tensor]:
    """Vectors (N, K, c) and visibilities (N, K), checked."""
    vectors = torch.as_tensor(embedding.vectors).detach()
    vectors = vectors if vectors.ndim == 3 else vectors.unsqueeze(1)
    if 0 in vectors.shape:
        raise ValueError(f"{name}_features must be (images, K, channels), got {embedding.shape}")
    vectors = vectors if vectors.dtype == torch.float64 else vectors.float()
    check_finite(vectors.flatten(1), name)
    if embedding.visibility is None:
        return vectors, vectors.new_ones(vectors.shape[:2])
    visibility = torch.as_tensor(embedding.visibility).detach().to(vectors)
    if not ((visibility >= 0) & (visibility <= 1)).all():
        raise ValueError(f"{name}: visibilities must be in [0, 1]")
    return vectors, visibility


def _factors(
    vectors: Tensor, visibility: Tensor, metric: Metric, first: bool = False
) -> tuple[Tensor, Tensor]:
    """Two matrices an image: the product of the first ones of two images is the sum of their
    parts' weighted distances, that of the second ones the sum of the weights."""
    seen = visibility.unsqueeze(2)
    if metric == "cosine":
        directions = torch.nn.functional.normalize(vectors, dim=2)
        scaled, constants = -directions if first else directions, [visibility]
    else:
        squares = visibility * vectors.square().sum(dim=2)
        scaled = -2 * vectors if first else vectors
        constants = [squares, visibility] if first else [visibility, squares]
    return torch.cat([(seen * scaled).flatten(1), *constants], dim=1), visibility


def _blocks(
    query: Tensor, seen: Tensor, gallery: Tensor, seen_there: Tensor, rows: int
) -> Iterator[np.ndarray]:
    query, seen = query.to(gallery), seen.to(gallery)
    copies, originals = equal_rows(gallery)
    sums = gallery.new_empty((rows, len(gallery)))
    weights = torch.empty_like(sums)
    for part, visible in zip(query.split(rows), seen.split(rows), strict=True):
        block, weight = sums[: len(part)], weights[: len(part)]
        torch.mm(part, gallery.T, out=block)
        torch.mm(visible, seen_there.T, out=weight)
        # Rounding can push a distance of zero below it, and two equal ones apart.
        block.clamp_min_(0).div_(weight).masked_fill_(weight == 0, NOTHING_IN_COMMON)
        if len(copies):
            block[:, copies] = block[:, originals]
        yield block.cpu().numpy()
