"""What became of each query: its average precision, its first match and its nearest images.

`eval/{test set}.queries.csv` holds one row per query, in the manifest's order:

    image              the query, as the manifest names it
    AP                 average precision in percent; empty where it has no match in the gallery
    first_hit          rank of the first match, from 1; likewise
    top1 .. top10      the nearest gallery images, nearest first, junk left out
    score1 .. score10  the cosine similarity of their features, whatever they were ranked by; of
                       several vectors per image the mean over their parts, weighted by how far
                       both images show them, and -1 where they show none in common; of a
                       method's own distance its negative (where the method puts the nearest in a
                       new order, of the distances that it has dealt to them)

Always of the whole gallery: with `single_shot` the numbers of the evaluation itself are others.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pgfl.nn.embedding import Embedding
from pgfl.retrieval.distances import Array, Metric, smallest
from pgfl.retrieval.metrics import rows_by_pid, score
from pgfl.retrieval.own import OwnDistance
from pgfl.retrieval.parts import as_embedding, embedding_blocks
from pgfl.retrieval.rerank import reranked_blocks
from pgfl.runtime.files import write_text

TOP = 10
"""As many gallery images are noted for each query."""
ROWS = 256
"""Queries whose scores are computed in one go."""


def rank_queries(
    features: dict[str, np.ndarray] | dict[str, Embedding],
    splits: dict[str, pd.DataFrame],
    metric: Metric | OwnDistance = "cosine",
    rerank: bool = False,
    top: int = TOP,
) -> pd.DataFrame:
    """Rank the whole gallery for every query.

    Args:
        features: of the splits `query` and `gallery`: (images, c), or several vectors per image.
        splits: their rows of the manifest, in the same order.
        metric: `cosine`, `euclidean`, or a method's own distance.
        rerank: whether the distances are re-ranked.
        top: how many nearest images to note; fewer where the gallery has no more.

    Returns:
        The columns named above; AP and first_hit are NaN where a query has no match.

    Raises:
        ValueError: the features cannot be compared, or no query has a match.
    """
    query, gallery = (as_embedding(features[split], split) for split in ("query", "gallery"))
    ids = [splits[s][column].to_numpy() for column in ("pid", "camid") for s in splits]
    rank = reranked_blocks if rerank else embedding_blocks
    nearest: list[tuple[np.ndarray, np.ndarray]] = []
    blocks = _noting(rank(query, gallery, metric=metric), nearest, ids, top)
    result = score(blocks, *ids, ranks=(1,))
    rows, distances = (np.concatenate(one) for one in zip(*nearest, strict=True))
    first = np.where(result.first_hit > 0, result.first_hit, np.nan)
    names = splits["gallery"]["image"].to_numpy(dtype=object)
    table = pd.DataFrame(
        {
            "image": splits["query"]["image"],
            "AP": 100 * result.average_precision,
            "first_hit": pd.array(first, dtype="Float64").astype("Int64"),
        }
    )
    scores = -distances if isinstance(metric, OwnDistance) else _similarities(query, gallery, rows)
    for place in range(rows.shape[1]):
        is_there = rows[:, place] >= 0
        table[f"top{place + 1}"] = np.where(is_there, names[rows[:, place]], "")
    for place in range(rows.shape[1]):
        table[f"score{place + 1}"] = np.where(rows[:, place] >= 0, scores[:, place], np.nan)
    return table


def _noting(
    blocks: Iterator[np.ndarray],
    nearest: list[tuple[np.ndarray, np.ndarray]],
    ids: list[np.ndarray],
    top: int,
) -> Iterator[np.ndarray]:
    """Pass blocks of distances on and note the nearest rows of the gallery, and how far they are.

    -1 stands for none left.
    """
    query_pids, gallery_pids, query_camids, gallery_camids = ids
    rows_of = rows_by_pid(gallery_pids)
    none = np.empty(0, dtype=np.int64)
    start = 0
    for block in blocks:
        for row, query in zip(block, range(start, start + len(block)), strict=True):
            same = rows_of.get(int(query_pids[query]), none)
            row[same[gallery_camids[same] == query_camids[query]]] = np.inf
        found = smallest(block, min(top, len(gallery_pids)))
        distances = np.take_along_axis(block, found, axis=1)
        nearest.append((np.where(np.isinf(distances), -1, found), distances))
        start += len(block)
        yield block


def _similarities(query: Embedding, gallery: Embedding, rows: np.ndarray) -> np.ndarray:
    """(Q, k): the cosine similarity of each query with these rows of the gallery."""
    query, gallery = (one.mapped(_as_array) for one in (query, gallery))
    if query.is_single and gallery.is_single:
        return _cosines(query.matrix, gallery.matrix, rows)
    return _means(query, gallery, rows)


def _cosines(query: np.ndarray, gallery: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(Q, k): the cosine similarity of each query with these rows of the gallery."""
    found = np.empty(rows.shape)
    for start in range(0, len(rows), ROWS):
        some = slice(start, start + ROWS)
        mine, theirs = query[some].astype(np.float64), gallery[rows[some]].astype(np.float64)
        products = np.einsum("qc,qkc->qk", mine, theirs)
        lengths = np.linalg.norm(mine, axis=1)[:, None] * np.linalg.norm(theirs, axis=2)
        found[some] = products / np.where(lengths > 0, lengths, 1)
    return found


def _means(query: Embedding, gallery: Embedding, rows: np.ndarray) -> np.ndarray:
    """(Q, k): what `_cosines` is for several vectors per image; -1 without a common part."""
    found = np.empty(rows.shape)
    for start in range(0, len(rows), ROWS):
        some = slice(start, start + ROWS)
        mine, seen = _directions(query, some)
        theirs, seen_there = _directions(gallery, rows[some])
        weights = seen[:, None] * seen_there
        products = np.einsum("qpc,qkpc,qkp->qk", mine, theirs, weights)
        totals = weights.sum(axis=2)
        found[some] = np.divide(products, totals, out=np.full_like(totals, -1), where=totals > 0)
    return found


def _directions(images: Embedding, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (*rows, K, c) at length one, and how far each is seen (*rows, K)."""
    vectors = images.vectors if images.vectors.ndim == 3 else images.vectors[:, None]
    vectors = vectors[rows].astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    if images.visibility is None:
        return vectors, np.ones(vectors.shape[:-1])
    return vectors, images.visibility[rows].astype(np.float64)


def _as_array(given: Array) -> np.ndarray:
    return given.cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)


def write_queries(table: pd.DataFrame, path: Path) -> None:
    """Write the CSV whole; scores with four decimals, AP as exactly as it was computed."""
    scores = {
        name: [f"{value:.4f}" if np.isfinite(value) else "" for value in table[name]]
        for name in table
        if name.startswith("score")
    }
    write_text(path, table.assign(**scores).to_csv(index=False, lineterminator="\n"))
