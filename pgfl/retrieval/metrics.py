"""CMC and mAP by counting: never a full distance matrix, never a sorted gallery.

A hit's rank is one plus the number of ranked gallery images that are nearer. So it is enough to
count, for each hit, the distances below its own. Ties rank as a stable argsort would rank them:
of equally distant images the one that stands earlier in the gallery comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray | Tensor
Metric = Literal["cosine", "euclidean"]


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


def evaluate(
    query_features: Array,
    gallery_features: Array,
    query_pids: Array,
    gallery_pids: Array,
    query_camids: Array,
    gallery_camids: Array,
    *,
    metric: Metric = "cosine",
    ranks: Sequence[int] = (1, 3, 5, 10),
    chunk_size: int = 128,
) -> Evaluation:
    """Rank the gallery for every query and score the ranking.

    Gallery images of the query's own identity *and* camera are junk: they are left out of the
    ranking. Average precision is the mean of the precision at each match.

    Args:
        query_features: (Q, c).
        gallery_features: (G, c), on the same device.
        query_pids: (Q,) identities.
        gallery_pids: (G,).
        query_camids: (Q,) cameras.
        gallery_camids: (G,).
        metric: `cosine` or `euclidean` distance.
        ranks: at which CMC is wanted.
        chunk_size: queries compared at a time; memory grows by 4 * chunk_size * G bytes.

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
    query, gallery = _features(query_features, "query"), _features(gallery_features, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query has {query.shape[1]} channels, gallery {gallery.shape[1]}")
    q_pids = _ids(query_pids, query, "query_pids")
    q_cams = _ids(query_camids, query, "query_camids")
    g_pids = _ids(gallery_pids, gallery, "gallery_pids")
    g_cams = _ids(gallery_camids, gallery, "gallery_camids")
    wider = torch.promote_types(query.dtype, gallery.dtype)
    query, gallery = _prepared(query.to(wider), metric), _prepared(gallery.to(wider), metric)
    # Distances up to what does not change a query's order: -q.g, or |g|^2 / 2 - q.g
    offset = gallery.new_zeros(1) if metric == "cosine" else gallery.square().sum(dim=1) / 2
    precision = np.full(len(query), np.nan)
    first = np.zeros(len(query), dtype=np.int64)
    rows_of = _rows_by_pid(g_pids)
    for start in range(0, len(query), chunk_size):
        block = query[start : start + chunk_size]
        distances = torch.addmm(offset, block, gallery.T, alpha=-1)
        for row, distance in enumerate(distances, start=start):
            same = rows_of.get(int(q_pids[row]))
            if same is None:
                continue
            junk = g_cams[same] == q_cams[row]
            hits = same[~junk]
            if len(hits):
                ranks_of_hits = np.sort(_ranks(distance, hits, same[junk]))
                precision[row] = np.mean(np.arange(1, len(hits) + 1) / ranks_of_hits)
                first[row] = ranks_of_hits[0]
    valid = ~np.isnan(precision)
    if not valid.any():
        raise ValueError("no query has a match in the gallery (same pid, another camera)")
    cmc = {int(rank): 100 * float(np.mean(first[valid] <= rank)) for rank in ranks}
    return Evaluation(100 * float(precision[valid].mean()), cmc, precision, int(valid.sum()))


def _ranks(distance: Tensor, hits: np.ndarray, junk: np.ndarray) -> np.ndarray:
    """The rank (from 1) of each hit among all gallery images that are not junk.

    Args:
        distance: (G,) of one query.
        hits: rows of the gallery.
        junk: rows that do not count.
    """
    at = torch.from_numpy(hits).to(distance.device)
    limits = distance[at].unsqueeze(1)
    places = torch.arange(len(distance), device=distance.device)
    before = places < at.unsqueeze(1)
    ahead = (distance < limits) | ((distance == limits) & before)
    if len(junk):
        ahead[:, torch.from_numpy(junk).to(distance.device)] = False
    return 1 + ahead.sum(dim=1).cpu().numpy()


def _features(features: Array, name: str) -> Tensor:
    tensor = torch.as_tensor(features)
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(f"{name}_features must be (images, channels), got {tuple(tensor.shape)}")
    tensor = tensor.double() if tensor.dtype == torch.float64 else tensor.float()
    if not tensor.isfinite().all():
        row = int((~tensor.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(f"{name}_features: row {row} holds NaN or infinity")
    return tensor


def _ids(ids: Array, features: Tensor, name: str) -> np.ndarray:
    array = ids.cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if array.shape != (len(features),):
        raise ValueError(f"{name} has shape {array.shape}, but there are {len(features)} features")
    return array


def _prepared(features: Tensor, metric: str) -> Tensor:
    if metric == "cosine":
        return torch.nn.functional.normalize(features, dim=1)
    if metric == "euclidean":
        return features
    raise ValueError(f"no metric {metric!r}; known: cosine, euclidean")


def _rows_by_pid(pids: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(pids, kind="stable")
    values, starts = np.unique(pids[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
