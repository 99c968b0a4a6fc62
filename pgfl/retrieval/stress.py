"""The occlusion stress test: how a student's ranking falls as queries are covered step by step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from pgfl.datasets.images import loaded_batches, read_image, resized
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.networks.saved import load_student
from pgfl.nn.settings import ModelSettings
from pgfl.retrieval.distances import Metric
from pgfl.retrieval.embed import embed
from pgfl.retrieval.metrics import evaluate
from pgfl.retrieval.obstacles import SIDES, Side, covered
from pgfl.runtime.devices import half_precision, pick_device

NO_SIDE = "none"
"""What stands for the side where nothing is covered."""


def covers(shares: Sequence[float]) -> list[tuple[float, str]]:
    """Share and side of every cover that is tried: nothing, then each share from each side."""
    rest = sorted({share for share in shares if share > 0})
    return [(0.0, NO_SIDE), *((share, side) for share in rest for side in SIDES)]


def stress(
    model: Path,
    manifest: Path,
    shares: Sequence[float],
    *,
    metric: Metric = "cosine",
    after_norm: bool = True,
    batch_size: int = 64,
) -> pd.DataFrame:
    """Rank the gallery for queries of which more and more is covered.

    Only a student can be tested so: of a covered image there are no heatmaps, which a method
    without a student may need. The gallery stays as it is and is embedded once. A query is read
    once, too, and covered before it is resized to the student's input.

    Args:
        model: `model.safetensors`.
        manifest: of the test set.
        shares: of the image, in (0, 1]; 0 is always tried.
        metric: `cosine` or `euclidean`.
        after_norm: whether features are compared after the BNNeck's normalisation.
        batch_size: images at a time.

    Returns:
        A row for each of `covers(shares)`: covered (share), side, rank1 and mAP (percent),
        queries (those with a match) and gallery (images).

    Raises:
        UserError: an input cannot be used, or no query has a match.
    """
    student, settings = load_student(model)
    student.to(pick_device())
    query, gallery = (read_manifest(manifest, split) for split in ("query", "gallery"))
    found = embed(
        student,
        settings,
        manifest.parent,
        list(gallery["image"]),
        after_norm=after_norm,
        batch_size=batch_size,
    )
    tried = covers(shares)
    names = list(query["image"])
    features = _embed_covered(
        student, settings, manifest.parent, names, tried, after_norm, batch_size
    )
    ids = [table[column].to_numpy() for column in ("pid", "camid") for table in (query, gallery)]
    rows = []
    for place, (share, side) in enumerate(tried):
        try:
            result = evaluate(features[:, place], found, *ids, metric=metric, ranks=(1,))
        except ValueError as error:
            raise UserError(f"{manifest}: cannot be evaluated: {error}") from None
        rows.append(
            {
                "covered": share,
                "side": side,
                "rank1": result.cmc[1],
                "mAP": result.mAP,
                "queries": result.num_valid_queries,
                "gallery": len(gallery),
            }
        )
    return pd.DataFrame(rows)


@torch.inference_mode()
def _embed_covered(
    student: nn.Module,
    settings: ModelSettings,
    folder: Path,
    names: Sequence[str],
    tried: Sequence[tuple[float, str]],
    after_norm: bool,
    batch_size: int,
) -> np.ndarray:
    """float32 (images, covers, c)."""
    device = next(student.parameters()).device
    size = (settings.height, settings.width)

    def load(name: str) -> np.ndarray:
        image = read_image(folder / name)
        return np.stack([resized(cover(image, *one, name), *size) for one in tried])

    features = np.empty((len(names), len(tried), student.channels), dtype=np.float32)
    at_once = max(1, batch_size // len(tried))
    for start, versions in loaded_batches(names, load, at_once, "embedding covered queries"):
        images = torch.from_numpy(np.concatenate(versions)).to(device)
        with half_precision(device, "fp32"):
            found = student(images, after_norm).cpu().numpy()
        features[start : start + len(versions)] = found.reshape(len(versions), len(tried), -1)
    return features


def cover(image: np.ndarray, share: float, side: Side | str, name: str) -> np.ndarray:
    """An image with one of `covers` before it."""
    return image if side == NO_SIDE else covered(image, share, side, name)
