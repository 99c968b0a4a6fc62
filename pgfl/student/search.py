"""The gallery images that are most like a query, in a gallery of any size."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pgfl.nn.embedding import Embedding
from pgfl.retrieval.parts import as_embedding, embedding_blocks


class Nearest(NamedTuple):
    """The best of a gallery for each query, best first."""

    rows: np.ndarray
    """int64 (Q, k): places in the gallery; -1 where it holds fewer images."""
    scores: np.ndarray
    """float32 (Q, k): similarities in [-1, 1]; NaN where there is no image. Of one vector per
    image the cosine; of several one minus the distance of `pgfl.retrieval.parts`, the mean of the
    parts' cosines, and -1 for images that show no part in common."""


def nearest(
    query: np.ndarray | Embedding,
    chunks: Iterable[np.ndarray | Embedding],
    top: int,
    own_rows: Sequence[Sequence[int]] | None = None,
) -> Nearest:
    """The k nearest gallery images of each query, by the cosine similarity of their vectors.

    The gallery is looked at once, a chunk at a time, so memory does not depend on its size. Of
    equally near images the one that comes first in the gallery is first.

    Args:
        query: float32 (Q, d), or several vectors per image.
        chunks: float32 (n, d) each, or several vectors per image: the gallery's features in order.
        top: k.
        own_rows: for each query the places in the gallery of its own file, which are left out.

    Raises:
        ValueError: wrong shapes, NaN or infinity, or k below one.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    distances = np.full((len(query), top), np.inf, dtype=np.float32)
    rows = np.full((len(query), top), -1, dtype=np.int64)
    query = as_embedding(query, "query")
    first = 0
    most_alike = 0.0  # what a distance is subtracted from
    for chunk in chunks:
        chunk = as_embedding(chunk, "gallery")
        most_alike = 0.0 if query.is_single and chunk.is_single else 1.0
        start = 0
        for block in embedding_blocks(query, chunk, "cosine", first=first):
            for place, row in enumerate(block, start=start):
                for own in own_rows[place] if own_rows else ():
                    if first <= own < first + len(row):
                        row[own - first] = np.inf
                _take_nearer(distances[place], rows[place], row, first)
            start += len(block)
        first += len(chunk)
    return Nearest(rows, np.where(rows < 0, np.nan, most_alike - distances).clip(-1, 1))


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
