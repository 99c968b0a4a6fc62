"""CMC and mAP by counting: never a full distance matrix, never a sorted gallery.

A hit's rank is one plus the number of ranked gallery images that are nearer. So it is enough to
count, for each hit, the distances below its own. Ties rank as a stable argsort would rank them:
of equally distant images the one that stands earlier in the gallery comes first.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from pgfl.nn.embedding import Embedding
from pgfl.retrieval.distances import Array, Metric
from pgfl.retrieval.own import OwnDistance
from pgfl.retrieval.parts import as_embedding, embedding_blocks

FLAGS = 2**20
"""Hits times images that are compared in one go: a byte each, to stay in a core's cache."""
WORDS = 255
"""How many bytes that are 0 or 1 can be added up in one byte."""


class NoValidQueryError(ValueError):
    """No query has a match."""


@dataclass(frozen=True)
class Evaluation:
    """How well queries found their matches."""

    mAP: float  # noqa: N815 (the field's own spelling)
    """Mean average precision over the valid queries, in percent."""
    cmc: dict[int, float]
    """For each rank r, the percentage of valid queries with a match among the first r."""
    average_precision: np.ndarray
    """float64 (queries,): in [0, 1], NaN where a query has no match in the gallery."""
    num_valid_queries: int
    """Queries with a match."""
    first_hit: np.ndarray
    """int64 (queries,): the rank of each query's first match, from 1; 0 where it has none."""


def evaluate(
    query_features: Array | Embedding,
    gallery_features: Array | Embedding,
    query_pids: Array,
    gallery_pids: Array,
    query_camids: Array,
    gallery_camids: Array,
    *,
    metric: Metric | OwnDistance = "cosine",
    ranks: Sequence[int] = (1, 3, 5, 10),
    chunk_size: int | None = None,
) -> Evaluation:
    """Rank the gallery for every query and score the ranking.

    Gallery images of the query's own identity *and* camera are junk: they are left out of the
    ranking. Average precision is the mean of the precision at each match (Zheng et al., ICCV
    2015). Equally distant images rank in the order in which they stand in the gallery; equal
    gallery features are always equally distant.

    Args:
        query_features: (Q, c), or an `Embedding` of several vectors per image.
        gallery_features: (G, c), likewise; where it lies is where distances are computed.
        query_pids: (Q,) identities.
        gallery_pids: (G,).
        query_camids: (Q,) cameras.
        gallery_camids: (G,).
        metric: `cosine` or `euclidean` distance, or a method's own (`pgfl.retrieval.own`).
        ranks: at which CMC is wanted.
        chunk_size: queries compared at a time; memory grows by 4 * chunk_size * G bytes. None
            chooses it so that this stays within 24 MiB, but at least 32 queries.

    Returns:
        See `Evaluation`.

    Raises:
        ValueError: wrong shapes or lengths, NaN or infinite features, an unknown metric, or no
            query that has a match.

    >>> import numpy as np
    >>> gallery = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> result = evaluate(
    ...     np.array([[0.8, 0.6]]), gallery, np.array([7]), np.array([7, 8, 7]),
    ...     np.array([0]), np.array([1, 1, 1]),
    ... )
    >>> result.mAP, result.cmc[1]
    (100.0, 100.0)
    """
    query, gallery = (
        as_embedding(query_features, "query"),
        as_embedding(gallery_features, "gallery"),
    )
    ids = checked_ids(
        len(query), len(gallery), query_pids, gallery_pids, query_camids, gallery_camids
    )
    return score(embedding_blocks(query, gallery, metric, chunk_size), *ids, ranks=ranks)


def score(
    blocks: Iterable[np.ndarray],
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
    *,
    ranks: Sequence[int],
) -> Evaluation:
    """Score given distances.

    Args:
        blocks: the rows of the (Q, G) distance matrix in order, some at a time; finite. They
            are overwritten.
        query_pids: (Q,) identities.
        gallery_pids: (G,).
        query_camids: (Q,) cameras.
        gallery_camids: (G,).
        ranks: at which CMC is wanted.

    Raises:
        NoValidQueryError: no query has a match.
        ValueError: the blocks together are not (Q, G).
    """
    found = [np.empty(0, dtype=np.int64)] * len(query_pids)
    rows_of = rows_by_pid(gallery_pids)
    query_pids = query_pids.tolist()

    def find(distances: np.ndarray, start: int) -> None:
        flags = _flags(len(gallery_pids))
        for query, row in enumerate(distances, start):
            same = rows_of.get(query_pids[query])
            if same is not None:
                junk = gallery_camids[same] == query_camids[query]
                found[query] = _ranks(row, same[~junk], same[junk], flags)

    start = 0
    threads = torch.get_num_threads()  # comparing whole rows, NumPy lets other threads run
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            if block.shape != (min(len(block), len(found) - start), len(gallery_pids)):
                raise ValueError(f"a block of distances of shape {block.shape} does not fit")
            parts = np.array_split(block, threads)
            starts = start + np.cumsum([0, *map(len, parts[:-1])])
            list(pool.map(find, parts, starts))
            start += len(block)
    if start < len(found):
        raise ValueError(f"distances of {start} queries, but there are {len(found)}")
    return _summary(found, ranks)


def _summary(found: list[np.ndarray], ranks: Sequence[int]) -> Evaluation:
    """Score the ranks of each query's hits: ascending, from 1, none without a match."""
    counts = np.array([len(hits) for hits in found])
    valid = counts > 0
    if not valid.any():
        raise NoValidQueryError("no query has a match in the gallery (same pid, another camera)")
    starts = np.cumsum(counts) - counts
    hits = np.concatenate(found)
    numbers = np.arange(1, len(hits) + 1) - np.repeat(starts, counts)
    queries = np.repeat(np.arange(len(found)), counts)
    totals = np.bincount(queries, numbers / hits, minlength=len(found))
    precision = np.divide(totals, counts, out=np.full(len(found), np.nan), where=valid)
    first = np.zeros(len(found), dtype=np.int64)
    first[valid] = hits[starts[valid]]
    cmc = {int(rank): 100 * float(np.mean(first[valid] <= rank)) for rank in ranks}
    mean = 100 * float(precision[valid].mean())
    return Evaluation(mean, cmc, precision, int(valid.sum()), first)


def _ranks(row: np.ndarray, hits: np.ndarray, junk: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """The rank (from 1) of each hit, ascending.

    Args:
        row: (G,) distances of one query; overwritten at the hits and the junk.
        hits: (P,) places in the row, ascending.
        junk: places that do not count.
        flags: from `_flags`.
    """
    limits = row[hits]
    row[hits] = row[junk] = np.inf
    before = np.empty(len(hits), dtype=np.int64)
    for start in range(0, len(hits), len(flags)):
        some = slice(start, start + len(flags))
        before[some] = _count_before(row, limits[some], hits[some], flags[: len(hits) - start])
    order = np.argsort(limits, kind="stable")
    return before[order] + np.arange(1, len(hits) + 1)


def _count_before(
    row: np.ndarray, limits: np.ndarray, places: np.ndarray, flags: np.ndarray
) -> np.ndarray:
    """For each limit: how much of the row is below it, or equal and at an earlier place."""
    found = flags[:, : len(row)]
    np.less(row, limits[:, None], out=found)
    words = flags.view(np.uint64).reshape(len(flags), -1, WORDS)
    counts = words.sum(axis=2).view(np.uint8).sum(axis=1, dtype=np.int64)
    np.equal(row, limits[:, None], out=found)
    if flags.any():
        counts += [
            np.count_nonzero(line[:place]) for line, place in zip(found, places, strict=True)
        ]
    return counts


def _flags(images: int) -> np.ndarray:
    """Room for the comparisons of some hits with all images.

    Comparisons give bytes. To count them fast, eight are added at a time as words of 64 bits, and
    no more than 255 words, so that no byte of the sum overflows. Hence the rounded width; what is
    beyond the images stays false.
    """
    width = -(-images // (8 * WORDS)) * 8 * WORDS
    return np.zeros((max(1, FLAGS // width), width), dtype=bool)


def checked_ids(queries: int, images: int, *ids: Array) -> list[np.ndarray]:
    """Query pids, gallery pids, query camids and gallery camids as arrays.

    Args:
        queries: how many queries there are.
        images: how many gallery images there are.
        ids: in the order above.

    Raises:
        ValueError: their number is not that of the features.
    """
    names = ("query_pids", "gallery_pids", "query_camids", "gallery_camids")
    arrays = []
    for name, given, expected in zip(names, ids, (queries, images) * 2, strict=True):
        array = given.cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
        if array.shape != (expected,):
            raise ValueError(f"{name} has shape {array.shape}, but there are {expected} features")
        arrays.append(array)
    return arrays


def rows_by_pid(pids: np.ndarray) -> dict[int, np.ndarray]:
    """The rows of each identity, ascending."""
    order = np.argsort(pids, kind="stable")
    values, starts = np.unique(pids[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
