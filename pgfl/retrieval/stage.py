"""The evaluation stage: a student and a manifest in, `eval/{dataset}.json` out."""

from pathlib import Path

import numpy as np
import pandas as pd

from pgfl.datasets.manifest import read_manifest
from pgfl.devices import pick_device
from pgfl.errors import UserError
from pgfl.files import file_hash, write_json
from pgfl.models.student_file import load_student
from pgfl.provenance import code_hash
from pgfl.retrieval.embed import embed
from pgfl.retrieval.metrics import Evaluation, Metric, evaluate

RANKS = (1, 3, 5, 10)
CHANCE_DRAWS = 5
CHANCE_CHANNELS = 128


def run_evaluation(
    model: Path, manifest: Path, out: Path, *, metric: Metric, feature: str, batch_size: int
) -> dict[str, object]:
    """Evaluate a student on the query and gallery splits of a manifest.

    Args:
        model: `model.safetensors`.
        manifest: of the test set.
        out: the JSON to write.
        metric: `cosine` or `euclidean`.
        feature: `after_bnneck` or `before_bnneck`.
        batch_size: images at a time.

    Returns:
        What was written: percentages, counts, what random features reach, and hashes.

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
    result = _score(features, splits, metric, manifest)
    report = {
        **{f"rank{rank}": value for rank, value in result.cmc.items()},
        "mAP": result.mAP,
        "counts": {
            "query": len(splits["query"]),
            "valid_query": result.num_valid_queries,
            "gallery": len(splits["gallery"]),
            "query_identities": splits["query"]["pid"].nunique(),
            "gallery_identities": splits["gallery"]["pid"].nunique(),
        },
        "chance": chance(splits, manifest),
        "metric": metric,
        "feature": feature,
        "model_sha256": file_hash(model),
        "manifest_sha256": file_hash(manifest),
        "code": code_hash("pgfl.retrieval.stage"),
    }
    write_json(out, report)
    return report


def chance(splits: dict[str, pd.DataFrame], manifest: Path) -> dict[str, float]:
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
        draws.append(_score(noise, splits, "cosine", manifest))
    return {
        "rank1": float(np.mean([draw.cmc[1] for draw in draws])),
        "mAP": float(np.mean([draw.mAP for draw in draws])),
    }


def _score(
    features: dict[str, np.ndarray],
    splits: dict[str, pd.DataFrame],
    metric: Metric,
    manifest: Path,
) -> Evaluation:
    query, gallery = splits["query"], splits["gallery"]
    try:
        return evaluate(
            features["query"],
            features["gallery"],
            query["pid"].to_numpy(),
            gallery["pid"].to_numpy(),
            query["camid"].to_numpy(),
            gallery["camid"].to_numpy(),
            metric=metric,
            ranks=RANKS,
        )
    except ValueError as error:
        raise UserError(f"{manifest}: cannot be evaluated: {error}") from None
