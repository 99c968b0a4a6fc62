"""How the gallery is made up: all of its images (multi-shot), or one of each person.

Multi-shot is what `pgfl.retrieval.evaluate` does; this is single-shot.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pgfl.retrieval.metrics import Evaluation, NoValidQueryError

Protocol = Literal["multi_shot", "single_shot"]


@dataclass(frozen=True)
class SingleShot:
    """Means and (population) standard deviations over the draws, in percent."""

    mAP: float  # noqa: N815 (the field's own spelling)
    mAP_std: float  # noqa: N815
    cmc: dict[int, float]
    cmc_std: dict[int, float]
    num_valid_queries: float
    """Mean number of queries with a match."""


def single_shot(
    evaluate_rows: Callable[[np.ndarray], Evaluation],
    gallery_pids: np.ndarray,
    *,
    draws: int = 100,
    seed: int = 0,
) -> SingleShot:
    """Evaluate on galleries of one random image a person, many times.

    A draw in which no query has a match (the images drawn are of the queries' own cameras) says
    nothing and does not count.

    Args:
        evaluate_rows: evaluates on the given rows of the gallery only.
        gallery_pids: (G,) identities.
        draws: how many galleries; at least 1.
        seed: of the draws; the same seed gives the same galleries.

    Raises:
        ValueError: no draws are asked for.
        NoValidQueryError: no query has a match in any draw.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    results = []
    for rows in single_shot_rows(gallery_pids, draws, seed):
        with suppress(NoValidQueryError):
            results.append(evaluate_rows(rows))
    if not results:
        raise NoValidQueryError(f"no query has a match in any of {draws} single-shot galleries")
    precisions = [result.mAP for result in results]
    ranks = results[0].cmc
    found = {rank: [result.cmc[rank] for result in results] for rank in ranks}
    return SingleShot(
        float(np.mean(precisions)),
        float(np.std(precisions)),
        {rank: float(np.mean(values)) for rank, values in found.items()},
        {rank: float(np.std(values)) for rank, values in found.items()},
        float(np.mean([result.num_valid_queries for result in results])),
    )


def single_shot_rows(gallery_pids: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Draw one image of each identity, every image of it with the same chance.

    Market-1501's distractors, all of pid 0, count as one identity: one of them is in each draw.

    Args:
        gallery_pids: (G,) identities.
        draws: how often.
        seed: of the draws.

    Yields:
        (identities,) rows of the gallery, ascending.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(gallery_pids, kind="stable")
    _, starts, counts = np.unique(gallery_pids[order], return_index=True, return_counts=True)
    for _ in range(draws):
        yield np.sort(order[starts + rng.integers(counts)])
