"""The gallery images that are most like a query, in a gallery of any size."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pgfl.retrieval.distances import checked_features, distance_blocks


class Nearest(NamedTuple):
    """The best of a gallery for each query, best first."""

    rows: np.ndarray
    """int64 (Q, k): places in the gallery; -1 where it holds fewer images."""
    scores: np.ndarray
    """float32 (Q, k): cosine similarities in [-1, 1]; NaN where there is no image."""


def nearest(
    query: np.ndarray,
    chunks: Iterable[np.ndarray],
    top: int,
    own_rows: Sequence[Sequence[int]] | None = None,
) -> Nearest:
    """The k nearest gallery images of each query, by cosine similarity.

    The gallery is looked at once, a chunk at a time, so memory does not depend on its size. Of
    equally near images the one that comes first in the gallery is first.

    Args:
        query: float32 (Q, d).
        chunks: float32 (n, d) each, the gallery's features in order.
        top: k.
        own_rows: for each query the places in the gallery of its own file, which are left out.

    Raises:
        ValueError: wrong shapes, NaN or infinity, or k below one.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    distances = np.full((len(query), top), np.inf, dtype=np.float32)
    rows = np.full((len(query), top), -1, dtype=np.int64)
    first = 0
    for chunk in chunks:
        start = 0
        for block in distance_blocks(*checked_features(query, chunk, first), "cosine"):
            for place, row in enumerate(block, start=start):
                for own in own_rows[place] if own_rows else ():
                    if first <= own < first + len(row):
                        row[own - first] = np.inf
                _take_nearer(distances[place], rows[place], row, first)
            start += len(block)
        first += len(chunk)
    return Nearest(rows, np.where(rows < 0, np.nan, -distances).clip(-1, 1))


def _take_nearer(distances: np.ndarray, rows: np.ndarray, found: np.ndarray, first: int) -> None:
    """Put what is nearer than the furthest of the best (k,) so far among them, in place.

    Args:
        distances: of the best so far, ascending.
        rows: their places in the gallery.
        found: distances of the next images in the gallery.
        first: the place of the first of these.
    """
    top = len(distances)
    nearer = np.flatnonzero(found < distances[-1])
    if len(nearer) > 2 * top:
        limit = np.partition(found[nearer], top - 1)[top - 1]
        nearer = nearer[found[nearer] <= limit]
    both = np.concatenate([distances, found[nearer]])
    best = np.argsort(both, kind="stable")[:top]
    distances[:], rows[:] = both[best], np.concatenate([rows, first + nearer])[best]
