"""Where a student responds: the strength of its last feature map over the image (Section 4.6)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from pgfl.datasets.images import image_batches
from pgfl.networks.saved import load_student
from pgfl.runtime.devices import half_precision, pick_device

BATCH = 64
CLEARLY = 2.0
"""A part's map shows the part where it is this many times what a flat map would be."""


@torch.inference_mode()
def response_maps(model: Path, folder: Path, names: Sequence[str]) -> np.ndarray:
    """The L2 norm over channels of the feature map F, at each of its places.

    Args:
        model: `model.safetensors`.
        folder: where the names start from.
        names: image paths below it.

    Returns:
        float32 (images, h, w), not negative.

    Raises:
        UserError: the model or an image cannot be read.
    """
    student, settings = load_student(model)
    device = pick_device()
    student.to(device)
    size = (settings.height, settings.width)
    with half_precision(device, "fp32"):
        responses = [
            student.feature_map(torch.from_numpy(batch).to(device)).float().norm(dim=1).cpu()
            for _, batch in image_batches(folder, names, size, BATCH, "responses")
        ]
    return torch.cat(responses).numpy()


def enlarged(responses: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Responses (N, h, w) at another size, bilinear: float32 (N, *size)."""
    maps = torch.from_numpy(responses)[:, None]
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0].numpy()


def stretched(responses: np.ndarray) -> np.ndarray:
    """Each map of (N, h, w) moved and scaled to reach from 0 to 1; one without contrast is 0."""
    low = responses.min(axis=(1, 2), keepdims=True)
    span = responses.max(axis=(1, 2), keepdims=True) - low
    return (responses - low) / np.where(span > 0, span, 1)


def share_on_parts(responses: np.ndarray, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of each image's response lies on the visible body parts.

    A place is on a part where any of the parts' maps is at least twice as high as a flat map. The
    map of a hidden part is nearly flat, so hidden parts add no place.

    Args:
        responses: (N, h, w), not negative, from `response_maps`; at the maps' size they are
            interpolated.
        heatmaps: (N, 8, h', w'), each map summing to one.

    Returns:
        The share of the response on the parts, and the share of the image that they take up: each
        float (N,) in [0, 1]. A response that does not look at the content has the two equal.
    """
    size = heatmaps.shape[2:]
    on_parts = heatmaps.max(axis=1) >= CLEARLY / (size[0] * size[1])
    mass = enlarged(responses, size).astype(np.float64)
    total = mass.sum(axis=(1, 2))
    share = (mass * on_parts).sum(axis=(1, 2)) / np.where(total > 0, total, 1)
    return share, on_parts.mean(axis=(1, 2))
