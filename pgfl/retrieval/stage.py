"""The evaluation stage: a student and a manifest in, `eval/{dataset}.json` out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.networks.saved import load_student
from pgfl.nn.embedding import Embedding
from pgfl.retrieval.distances import Metric
from pgfl.retrieval.embed import embed
from pgfl.retrieval.metrics import Evaluation, evaluate
from pgfl.retrieval.own import OwnDistance
from pgfl.retrieval.protocols import Protocol, SingleShot, single_shot
from pgfl.retrieval.queries import rank_queries, write_queries
from pgfl.retrieval.rerank import evaluate_reranked
from pgfl.runtime.devices import pick_device
from pgfl.runtime.files import file_hash, write_json
from pgfl.runtime.provenance import code_hash

Features = dict[str, np.ndarray] | dict[str, Embedding]
"""Of the splits `query` and `gallery`: (images, c), or several vectors per image."""
RUN_KEYS = ("train_set", "dataset", "variant", "method", "seed")
"""What an evaluation is of: the training set, the test set, the variant, its method, the seed."""
RANKS = (1, 3, 5, 10)
SINGLE_SHOT_DRAWS = 100
CHANCE_DRAWS = 5
CHANCE_CHANNELS = 128


def run_evaluation(
    model: Path,
    manifest: Path,
    out: Path,
    *,
    metric: Metric,
    feature: str,
    batch_size: int,
    protocol: Protocol = "multi_shot",
    rerank: bool = False,
    queries: Path | None = None,
    run: dict[str, object] | None = None,
) -> dict[str, object]:
    """Evaluate a student on the query and gallery splits of a manifest.

    Args:
        model: `model.safetensors`.
        manifest: of the test set.
        out: the JSON to write.
        metric: `cosine` or `euclidean`.
        feature: `after_bnneck` or `before_bnneck`.
        batch_size: images at a time.
        protocol: `multi_shot`, or `single_shot` for means and standard deviations over
            galleries of one image a person.
        rerank: whether the distances are re-ranked.
        queries: a CSV to write, too: what became of each query (`pgfl.retrieval.queries`).
        run: what is evaluated, some of `RUN_KEYS` with their values.

    Returns:
        What was written: `run`, percentages, counts, what random features reach, and hashes.

    Raises:
        UserError: an input cannot be used, or no query has a match.
    """
    student, settings = load_student(model)
    student.to(pick_device())
    splits = {split: read_manifest(manifest, split) for split in ("query", "gallery")}
    features = {
        split: embed(
            student,
            settings,
            manifest.parent,
            list(table["image"]),
            after_norm=feature == "after_bnneck",
            batch_size=batch_size,
        )
        for split, table in splits.items()
    }
    how = {"metric": metric, "feature": feature, "protocol": protocol, "rerank": rerank}
    made_of = {
        "model_sha256": file_hash(model),
        "manifest_sha256": file_hash(manifest),
        "code": code_hash("pgfl.retrieval.stage", type(student).__module__),
    }
    return write_evaluation(out, features, splits, manifest, run or {}, how, made_of, queries)


def write_evaluation(
    out: Path,
    features: Features,
    splits: dict[str, pd.DataFrame],
    manifest: Path,
    run: dict[str, object],
    how: dict[str, Any],
    made_of: dict[str, object],
    queries: Path | None = None,
    distance: OwnDistance | None = None,
) -> dict[str, object]:
    """Rank the gallery and write the evaluation; all kinds of features come here.

    Args:
        out: the JSON to write.
        features: of the splits `query` and `gallery`.
        splits: their rows of the manifest, in the same order.
        manifest: named in messages.
        run: what is evaluated, some of `RUN_KEYS` with their values.
        how: `metric`, `protocol`, `rerank` and whatever else is said of the matching.
        made_of: hashes of the inputs and of the code.
        queries: a CSV to write, too.
        distance: the method's own, in place of the metric.

    Returns:
        What was written.

    Raises:
        UserError: the features cannot be compared, or no query has a match.
    """
    metric, protocol, rerank = distance or how["metric"], how["protocol"], how["rerank"]
    result = compare(features, splits, manifest, metric, protocol, rerank)
    report = {**run, **result, **how, **made_of}
    if queries is not None:
        write_queries(rank_queries(features, splits, metric, rerank), queries)
    write_json(out, report)
    return report


def compare(
    features: Features,
    splits: dict[str, pd.DataFrame],
    manifest: Path,
    metric: Metric | OwnDistance,
    protocol: Protocol,
    rerank: bool,
) -> dict[str, object]:
    """Rank the gallery: percentages, counts, and what random features reach.

    Args:
        features: of the splits `query` and `gallery`.
        splits: their rows of the manifest, in the same order.
        manifest: named in messages.
        metric: `cosine`, `euclidean`, or a method's own distance.
        protocol: `multi_shot` or `single_shot`.
        rerank: whether the distances are re-ranked.

    Raises:
        UserError: no query has a match.
    """
    result = _score(features, splits, manifest, metric, protocol, rerank)
    return {
        **_percentages(result),
        "counts": {
            "query": len(splits["query"]),
            "valid_query": result.num_valid_queries,
            "gallery": len(splits["gallery"]),
            "query_identities": splits["query"]["pid"].nunique(),
            "gallery_identities": splits["gallery"]["pid"].nunique(),
        },
        "chance": chance(splits, manifest, protocol),
    }


def chance(
    splits: dict[str, pd.DataFrame], manifest: Path, protocol: Protocol = "multi_shot"
) -> dict[str, float]:
    """What features without any information reach: the mean over a few random draws.

    On a small test set that is far from zero, so every result carries its own yardstick.
    """
    draws = []
    for seed in range(CHANCE_DRAWS):
        rng = np.random.default_rng(seed)
        noise = {
            split: rng.standard_normal((len(table), CHANCE_CHANNELS), dtype=np.float32)
            for split, table in splits.items()
        }
        some = SINGLE_SHOT_DRAWS // CHANCE_DRAWS
        draws.append(_score(noise, splits, manifest, protocol=protocol, single_shot_draws=some))
    return {
        "rank1": float(np.mean([draw.cmc[1] for draw in draws])),
        "mAP": float(np.mean([draw.mAP for draw in draws])),
    }


def _percentages(result: Evaluation | SingleShot) -> dict[str, float]:
    found = {f"rank{rank}": value for rank, value in result.cmc.items()} | {"mAP": result.mAP}
    if isinstance(result, SingleShot):
        found |= {f"rank{rank}_std": value for rank, value in result.cmc_std.items()}
        found |= {"mAP_std": result.mAP_std}
    return found


def _score(
    features: Features,
    splits: dict[str, pd.DataFrame],
    manifest: Path,
    metric: Metric | OwnDistance = "cosine",
    protocol: Protocol = "multi_shot",
    rerank: bool = False,
    single_shot_draws: int = SINGLE_SHOT_DRAWS,
) -> Evaluation | SingleShot:
    query, gallery = splits["query"], splits["gallery"]

    def evaluate_rows(rows: np.ndarray | slice) -> Evaluation:
        return (evaluate_reranked if rerank else evaluate)(
            features["query"],
            features["gallery"][rows],
            query["pid"].to_numpy(),
            gallery["pid"].to_numpy()[rows],
            query["camid"].to_numpy(),
            gallery["camid"].to_numpy()[rows],
            metric=metric,
            ranks=RANKS,
        )

    try:
        if protocol == "single_shot":
            pids = gallery["pid"].to_numpy()
            return single_shot(evaluate_rows, pids, draws=single_shot_draws)
        return evaluate_rows(slice(None))
    except ValueError as error:
        raise UserError(f"{manifest}: cannot be evaluated: {error}") from None
