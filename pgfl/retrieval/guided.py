"""Evaluation with the whole network, and with the pose where it is needed at test time.

That is how a method without a student is evaluated, and how PGFL-KD's other features are: f_P,
f_V, f_F and f_E (Table 8).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pgfl.datasets.images import image_batches
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.networks.build import matcher_of
from pgfl.networks.saved import load_trained
from pgfl.nn.embedding import Embedding, joined
from pgfl.nn.settings import ModelSettings
from pgfl.pose.check import open_store
from pgfl.pose.keypoints import part_confidence
from pgfl.pose.store import HeatmapReader
from pgfl.retrieval.distances import Metric
from pgfl.retrieval.own import OwnDistance
from pgfl.retrieval.parts import as_embedding
from pgfl.retrieval.protocols import Protocol
from pgfl.retrieval.stage import write_evaluation
from pgfl.runtime.devices import half_precision, pick_device
from pgfl.runtime.files import file_hash
from pgfl.runtime.provenance import code_hash


def run_guided_evaluation(
    model: Path,
    manifest: Path,
    out: Path,
    *,
    use: str,
    branches: Path,
    heatmaps: dict[str, Path] | None = None,
    metric: Metric,
    feature: str,
    batch_size: int,
    protocol: Protocol = "multi_shot",
    rerank: bool = False,
    queries: Path | None = None,
    run: dict[str, object] | None = None,
) -> dict[str, object]:
    """Evaluate one of a method's features on the query and gallery splits of a manifest.

    Args:
        model: `model.safetensors`.
        manifest: of the test set.
        out: the JSON to write.
        use: the feature to match with; `global` is what the method itself matches with.
        branches: `branches.safetensors` of the same run.
        heatmaps: the stores of the splits `query` and `gallery`, where they are needed.
        metric: `cosine` or `euclidean`; not read where the method has a distance of its own.
        feature: `after_bnneck` or `before_bnneck`. A feature without a BNNeck is taken as it
            is, and the report then says `no_bnneck`.
        batch_size: images at a time.
        protocol: as for the student.
        rerank: whether the distances are re-ranked.
        queries: a CSV to write, too, as for the student.
        run: what is evaluated, some of `pgfl.retrieval.stage.RUN_KEYS` with their values.

    Returns:
        What was written: a student's report, and which feature it is of.

    Raises:
        UserError: an input cannot be used, inputs do not fit each other, or no query has a match.
    """
    network, recipe = load_trained(model, branches)
    run = run or {}
    if run.get("method", recipe.method) != recipe.method:
        raise UserError(
            f"{branches}: is of the method {recipe.method}, not of {run['method']}; give the "
            "files of one run"
        )
    needs_heatmaps = use != "global" or recipe.settings.needs_heatmaps_at_test
    if needs_heatmaps and heatmaps is None:
        raise UserError(
            f"{branches}: {recipe.method} needs the heatmaps of query and gallery to match with "
            f"feature {use}; give --heatmaps-query and --heatmaps-gallery"
        )
    if use != "global" and use not in getattr(network, "necks", ()):
        feature = "no_bnneck"
    after_norm = feature == "after_bnneck"
    device = pick_device()
    matcher = matcher_of(network, recipe, use, after_norm).to(device)
    splits = {split: read_manifest(manifest, split) for split in ("query", "gallery")}
    readers = {
        split: open_store(heatmaps[split], list(table["image"])) if heatmaps else None
        for split, table in splits.items()
    }
    features = {
        split: embed_guided(
            matcher,
            recipe.model,
            manifest.parent,
            list(table["image"]),
            readers[split],
            batch_size,
        )
        for split, table in splits.items()
    }
    # Only what the method itself matches with is made for its own distance.
    distance = OwnDistance.of(network, device) if use == "global" else None
    how = {"use": use, "metric": metric, "feature": feature}
    how |= {"distance": "own"} if distance else {}
    how |= {"protocol": protocol, "rerank": rerank}
    made_of = {
        "model_sha256": file_hash(model),
        "branches_sha256": file_hash(branches),
        "manifest_sha256": file_hash(manifest),
        "heatmaps_sha256": {split: file_hash(file) for split, file in (heatmaps or {}).items()},
        "code": code_hash("pgfl.retrieval.guided", recipe.module),
    }
    return write_evaluation(out, features, splits, manifest, run, how, made_of, queries, distance)


@torch.inference_mode()
def embed_guided(
    matcher: nn.Module,
    settings: ModelSettings,
    folder: Path,
    names: Sequence[str],
    heatmaps: HeatmapReader | None = None,
    batch_size: int = 64,
) -> Embedding:
    """The matcher's feature of every image; images and maps are read side by side, in order.

    Args:
        matcher: in evaluation mode, on any device.
        settings: its network's, for the input size.
        folder: where the names start from.
        names: image paths below it.
        heatmaps: row i holds the maps of `names[i]`; `open_store` proves it. None where the
            matcher reads none.
        batch_size: images at a time.

    Returns:
        float32, not normalised to length one, of one vector per image or several.

    Raises:
        UserError: an image cannot be read.
    """
    device = next(matcher.parameters()).device
    size = (settings.height, settings.width)
    sure = None if heatmaps is None else part_confidence(heatmaps.confidence())
    parts = []
    for start, batch in image_batches(folder, names, size, batch_size, "embedding"):
        given = [batch]
        if heatmaps is not None:
            rows = slice(start, start + len(batch))
            given += [heatmaps.read(rows), sure[rows]]
        tensors = [torch.from_numpy(array).to(device) for array in given]
        with half_precision(device, "fp32"):
            parts.append(as_embedding(matcher(*tensors), "matcher").mapped(_as_array))
    return joined(parts)


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
