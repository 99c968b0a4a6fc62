"""Distances that a method computes itself: graphs, reconstructions, weighted parts of its own.

A method without a student may give its network `distance(query, gallery)`. The ranking engine
calls it with a few images at a time and ranks whatever comes. Where comparing a pair in full costs
too much, `second_distance(query, gallery)` puts only the nearest images of each query in a new
order, as many as the network's `compared_again` says.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from pgfl.nn.embedding import Embedding
from pgfl.retrieval.distances import check_finite, chunk_rows

QUERIES = 16
GALLERY = 256
"""A method is given the embeddings of at most so many queries and gallery images at a time."""


@dataclass(frozen=True)
class OwnDistance:
    """A method's own distance, and where it is computed."""

    between: Callable[[Embedding, Embedding], Tensor]
    """From the embeddings of n and of m images, float32 tensors, to their distances (n, m), of
    which smaller is nearer."""
    device: torch.device
    again: Callable[[Embedding, Embedding], Tensor] | None = None
    """From one query and m of its nearest images to distances (1, m), which decide their order."""
    best: int = 0
    """How many nearest images of each query are put in that order; the others stay behind them."""

    @classmethod
    def of(cls, network: nn.Module, device: torch.device) -> Self | None:
        """What a network brings, if anything."""
        if not hasattr(network, "distance"):
            return None
        again = getattr(network, "second_distance", None)
        best = network.compared_again if again else 0
        return cls(network.distance, device, again, best)


def own_blocks(
    query: Embedding,
    gallery: Embedding,
    distance: OwnDistance,
    chunk_size: int | None = None,
) -> Iterator[np.ndarray]:
    """The rows of a method's own distance matrix, in order, some at a time.

    Args:
        query: of Q images.
        gallery: of G images; may be mapped from a file, since it is read piece by piece.
        distance: the method's.
        chunk_size: rows of a block; None chooses by the size of the gallery.

    Yields:
        float32 (rows, G). Each block is overwritten by the next one.

    Raises:
        ValueError: no images, vectors of different shapes, NaN or infinity in features or
            distances, or a chunk size below one.
    """
    if query.shape[1:] != gallery.shape[1:] or 0 in (*query.shape, *gallery.shape):
        raise ValueError(f"query {query.shape} and gallery {gallery.shape} do not fit each other")
    rows = min(chunk_rows(len(gallery), 4, chunk_size), len(query))
    return _blocks(query, gallery, distance, rows)


def _blocks(
    query: Embedding, gallery: Embedding, distance: OwnDistance, rows: int
) -> Iterator[np.ndarray]:
    room = np.empty((rows, len(gallery)), dtype=np.float32)
    for start in range(0, len(query), rows):
        some = _checked(query[start : start + rows], "query", start, distance.device)
        block = room[: len(some)]
        for left in range(0, len(gallery), GALLERY):
            right = slice(left, left + GALLERY)
            theirs = _checked(gallery[right], "gallery", left, distance.device)
            for top in range(0, len(some), QUERIES):
                below = slice(top, top + QUERIES)
                block[below, right] = _between(some[below], theirs, distance.between)
        if distance.again is not None and distance.best > 0:
            _reorder(block, some, gallery, distance)
        yield block


def _reorder(
    block: np.ndarray, query: Embedding, gallery: Embedding, distance: OwnDistance
) -> None:
    """Deal the distances of each query's nearest images to the same images in their new order."""
    assert distance.again is not None
    for row, distances in enumerate(block):
        nearest = np.argsort(distances, kind="stable")[: distance.best]
        found = []
        for left in range(0, len(nearest), GALLERY):
            theirs = _moved(gallery[nearest[left : left + GALLERY]], distance.device)
            found.append(_between(query[row : row + 1], theirs, distance.again)[0])
        order = np.argsort(np.concatenate(found), kind="stable")
        distances[nearest[order]] = distances[nearest]


def _checked(images: Embedding, name: str, first: int, device: torch.device) -> Embedding:
    moved = _moved(images, device)
    check_finite(moved.vectors.flatten(1), name, first)
    return moved


def _moved(images: Embedding, device: torch.device) -> Embedding:
    return images.mapped(lambda array: torch.as_tensor(array).detach().to(device).float())


@torch.inference_mode()
def _between(
    ours: Embedding, theirs: Embedding, between: Callable[[Embedding, Embedding], Tensor]
) -> np.ndarray:
    found = between(ours, theirs).float()
    if tuple(found.shape) != (len(ours), len(theirs)) or not found.isfinite().all():
        raise ValueError(
            f"the method's own distance of {len(ours)} from {len(theirs)} images has the shape "
            f"{tuple(found.shape)}, or holds NaN or infinity"
        )
    return found.cpu().numpy()
