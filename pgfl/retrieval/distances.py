"""Distances between two sets of features, some rows at a time.

Distances come up to what does not change the order within a row: the negative cosine similarity,
or |g|^2 / 2 - q.g, which is half the squared Euclidean distance less |q|^2 / 2.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray | Tensor
Metric = Literal["cosine", "euclidean"]

BLOCK_BYTES = 24 * 2**20
"""What one block of distances may take when nobody says how many rows it has."""
LEAST_ROWS = 32
"""But with fewer rows than this the product would wait for memory: it reads all of the gallery."""
PASS_BYTES = 2 * 2**20
"""How much of the features is looked at in one go: it should stay in a core's cache."""


def checked_features(
    query_features: Array, gallery_features: Array, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Both as tensors of one type, float32 or float64, on one device: those of the gallery.

    float32 and float64 galleries are not copied; other types become float32.

    Args:
        query_features: (Q, c).
        gallery_features: (G, c).
        first: the place of the gallery's first row in the whole, for messages.

    Raises:
        ValueError: wrong shapes; NaN, infinity, or numbers whose squares overflow.
    """
    query, gallery = as_matrix(query_features, "query"), as_matrix(gallery_features, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query has {query.shape[1]} channels, gallery {gallery.shape[1]}")
    gallery = gallery if gallery.dtype == torch.float64 else gallery.float()
    query = query.to(gallery)
    check_finite(query, "query")
    check_finite(gallery, "gallery", first)
    return query, gallery


def check_finite(features: Tensor, name: str, first: int = 0) -> None:
    """Refuse rows that cannot be compared.

    Args:
        features: (rows, c).
        name: what they are, for messages.
        first: the place of the first row in the whole, for messages.

    Raises:
        ValueError: NaN, infinity, or numbers whose squares overflow.
    """
    wrong = ~squared_lengths(features).to(features.dtype).isfinite()
    if wrong.any():
        row = first + int(wrong.nonzero()[0])
        raise ValueError(
            f"{name}_features: row {row} holds NaN or infinity, or is too long to be squared"
        )


def squared_lengths(features: Tensor) -> Tensor:
    """float64 (rows,): the squared Euclidean length of each row, computed in float64."""
    return _sums(features, lambda part: part.mul_(part))


def lengths(features: Tensor) -> Tensor:
    """(rows,): the Euclidean length of each row, for dividing by it: one where it is zero."""
    squared = squared_lengths(features)
    return torch.where(squared > 0, squared.sqrt(), 1.0).to(features.dtype)


def distance_blocks(
    query: Tensor, gallery: Tensor, metric: Metric, chunk_size: int | None = None
) -> Iterator[np.ndarray]:
    """The rows of the distance matrix, in order, some at a time.

    Equal gallery rows have equal distances to the last bit, and as far as the features allow
    exact arithmetic (small integers) distances do not depend on `chunk_size`.

    Args:
        query: (Q, c), from `checked_features`.
        gallery: (G, c), likewise.
        metric: `cosine` (a row of zeros is at a right angle to all) or `euclidean`.
        chunk_size: rows a block; None chooses by the size of the gallery.

    Yields:
        (rows, G), up to what does not change the order within a row (see the module). Each block
        is overwritten by the next one.

    Raises:
        ValueError: an unknown metric, or a chunk size below one.
    """
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"no metric {metric!r}; known: cosine, euclidean")
    rows = chunk_rows(len(gallery), gallery.element_size(), chunk_size)
    return _blocks(query, gallery, metric, min(rows, len(query)))


def chunk_rows(gallery: int, number_bytes: int, chunk_size: int | None) -> int:
    """Rows of a block of distances to so many images: as asked for, or as memory allows.

    Raises:
        ValueError: less than one is asked for.
    """
    if chunk_size is None:
        return max(LEAST_ROWS, BLOCK_BYTES // (gallery * number_bytes))
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    return chunk_size


def _blocks(query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[np.ndarray]:
    if metric == "cosine":
        divisors = lengths(gallery)
    else:
        half = (squared_lengths(gallery) / 2).to(gallery.dtype)
    copies, originals = equal_rows(gallery)
    buffer = gallery.new_empty((rows, len(gallery)))
    for part in query.split(rows):
        block = buffer[: len(part)]
        if metric == "cosine":
            part = part / lengths(part).unsqueeze(1)
            # The product is divided, not the gallery: that would be a copy of it.
            torch.mm(part.neg(), gallery.T, out=block).div_(divisors)
        else:
            torch.mm(part.neg(), gallery.T, out=block).add_(half)
        if len(copies):
            # A matrix product may round a row differently at another place.
            block[:, copies] = block[:, originals]
        yield block.cpu().numpy()


def smallest(block: np.ndarray, count: int) -> np.ndarray:
    """(rows, count): columns of each row's smallest values in order, of equals the earlier.

    Args:
        block: (rows, columns), without NaN.
        count: at most the number of columns.
    """
    limits = torch.from_numpy(block).topk(count, largest=False).values[:, -1:].numpy()
    rows, columns = np.nonzero(block <= limits)
    order = np.lexsort((block[rows, columns], rows))
    starts = np.searchsorted(rows, np.arange(len(block)))
    return columns[order[starts[:, None] + np.arange(count)]]


def equal_rows(features: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that repeat an earlier row, and the first row that each of them repeats.

    Rows are told apart by their sum with fixed random weights; those that agree are compared.
    """
    weights = np.random.default_rng(0).standard_normal(features.shape[1])
    weights = torch.from_numpy(weights).to(features.device)
    keys, order = _sums(features, lambda part: part.mul_(weights)).sort(stable=True)
    repeats = torch.zeros_like(keys, dtype=torch.bool)
    repeats[1:] = keys[1:] == keys[:-1]
    places = torch.arange(len(keys), device=keys.device)
    firsts = torch.where(repeats, 0, places).cummax(dim=0).values
    copies, originals = order[repeats], order[firsts[repeats]]
    step = rows_at_a_time(features)
    equal = [
        (features[some] == features[others]).all(dim=1)
        for some, others in zip(copies.split(step), originals.split(step), strict=True)
    ]
    equal = torch.cat(equal) if equal else torch.zeros(0, dtype=torch.bool)
    return copies[equal], originals[equal]


def _sums(features: Tensor, change: Callable[[Tensor], object]) -> Tensor:
    """float64 (rows,): the sum of each row, after rows in float64 were changed in place.

    All parts of the features go through the same memory: many large allocations in a row make
    some allocators keep far more than one part.
    """
    step = rows_at_a_time(features)
    room = features.new_empty((step, features.shape[1]), dtype=torch.float64)
    sums = room.new_empty(len(features))
    for part, result in zip(features.split(step), sums.split(step), strict=True):
        work = room[: len(part)].copy_(part)
        change(work)
        torch.sum(work, dim=1, out=result)
    return sums


def rows_at_a_time(features: Tensor) -> int:
    """How many rows are looked at in one go, to stay in a core's cache."""
    return max(1, PASS_BYTES // (features.shape[1] * features.element_size()))


def as_matrix(features: Array, name: str) -> Tensor:
    """(images, channels) as a tensor.

    Raises:
        ValueError: another shape, or nothing in it.
    """
    tensor = torch.as_tensor(features).detach()
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(f"{name}_features must be (images, channels), got {tuple(tensor.shape)}")
    return tensor
