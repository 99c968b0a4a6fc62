"""Evaluation with a feature that needs the pose at test time: f_P, f_V, f_F or f_E (Table 8)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pgfl.datasets.images import image_batches
from pgfl.datasets.manifest import read_manifest
from pgfl.networks.build import matcher_of
from pgfl.networks.saved import load_trained
from pgfl.nn.settings import ModelSettings
from pgfl.pose.check import open_store
from pgfl.pose.store import HeatmapReader
from pgfl.retrieval.distances import Metric
from pgfl.retrieval.protocols import Protocol
from pgfl.retrieval.stage import compare
from pgfl.runtime.devices import half_precision, pick_device
from pgfl.runtime.files import file_hash, write_json
from pgfl.runtime.provenance import code_hash


def run_guided_evaluation(
    model: Path,
    manifest: Path,
    out: Path,
    *,
    use: str,
    branches: Path,
    heatmaps: dict[str, Path],
    metric: Metric,
    feature: str,
    batch_size: int,
    protocol: Protocol = "multi_shot",
    rerank: bool = False,
) -> dict[str, object]:
    """Evaluate one of a method's features on the query and gallery splits of a manifest.

    Args:
        model: `model.safetensors`.
        manifest: of the test set.
        out: the JSON to write.
        use: the feature to match with.
        branches: `branches.safetensors` of the same run.
        heatmaps: the stores of the splits `query` and `gallery`.
        metric: `cosine` or `euclidean`.
        feature: `after_bnneck` or `before_bnneck`. A feature without a BNNeck is taken as it
            is, and the report then says `no_bnneck`.
        batch_size: images at a time.
        protocol: as for the student.
        rerank: whether the distances are re-ranked.

    Returns:
        What was written: a student's report, and which feature it is of.

    Raises:
        UserError: an input cannot be used, inputs do not fit each other, or no query has a match.
    """
    network, recipe = load_trained(model, branches)
    if use not in network.necks:
        feature = "no_bnneck"
    after_norm = feature == "after_bnneck"
    matcher = matcher_of(network, recipe, use, after_norm).to(pick_device())
    splits = {split: read_manifest(manifest, split) for split in ("query", "gallery")}
    readers = {
        split: open_store(heatmaps[split], list(table["image"])) for split, table in splits.items()
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
    report = {
        **compare(features, splits, manifest, metric, protocol, rerank),
        "use": use,
        "metric": metric,
        "feature": feature,
        "protocol": protocol,
        "rerank": rerank,
        "model_sha256": file_hash(model),
        "branches_sha256": file_hash(branches),
        "manifest_sha256": file_hash(manifest),
        "heatmaps_sha256": {split: file_hash(heatmaps[split]) for split in splits},
        "code": code_hash("pgfl.retrieval.guided", recipe.module),
    }
    write_json(out, report)
    return report


@torch.inference_mode()
def embed_guided(
    matcher: nn.Module,
    settings: ModelSettings,
    folder: Path,
    names: Sequence[str],
    heatmaps: HeatmapReader,
    batch_size: int = 64,
) -> np.ndarray:
    """The matcher's feature of every image; images and maps are read side by side, in order.

    Args:
        matcher: in evaluation mode, on any device.
        settings: its network's, for the input size.
        folder: where the names start from.
        names: image paths below it.
        heatmaps: row i holds the maps of `names[i]`; `open_store` proves it.
        batch_size: images at a time.

    Returns:
        float32 (images, c), not normalised to length one.

    Raises:
        UserError: an image cannot be read.
    """
    device = next(matcher.parameters()).device
    size = (settings.height, settings.width)
    features = []
    for start, batch in image_batches(folder, names, size, batch_size, "embedding"):
        maps = torch.from_numpy(heatmaps.read(slice(start, start + len(batch))))
        images = torch.from_numpy(batch)
        with half_precision(device, "fp32"):
            features.append(matcher(images.to(device), maps.to(device)).cpu().numpy())
    return np.concatenate(features)
