"""Images to features, with nothing but the student."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pgfl.datasets.images import image_batches
from pgfl.nn.settings import ModelSettings
from pgfl.runtime.devices import half_precision


def embed(
    student: nn.Module,
    settings: ModelSettings,
    folder: Path,
    names: Sequence[str],
    *,
    after_norm: bool = True,
    batch_size: int = 64,
) -> np.ndarray:
    """The matching feature f_G of every image.

    Args:
        student: in evaluation mode, on any device.
        settings: its own, for the input size.
        folder: where the names start from.
        names: image paths below it.
        after_norm: after the BNNeck's normalisation or before it.
        batch_size: images at a time.

    Returns:
        float32 (images, c), not normalised to length one.

    Raises:
        UserError: an image cannot be read.
    """
    size = (settings.height, settings.width)
    batches = image_batches(folder, names, size, batch_size, "embedding")
    features = np.empty((len(names), student.channels), dtype=np.float32)
    start = 0
    for found in batch_features(student, (batch for _, batch in batches), after_norm=after_norm):
        features[start : start + len(found)] = found
        start += len(found)
    return features


@torch.inference_mode()
def batch_features(
    student: nn.Module,
    batches: Iterable[np.ndarray],
    *,
    after_norm: bool = True,
    precision: str = "fp32",
) -> Iterator[np.ndarray]:
    """The matching feature f_G of images, batch by batch.

    A batch's features are fetched when the next one is under way, so that a GPU never waits.

    Args:
        student: in evaluation mode, on any device.
        batches: uint8 (n, H, W, 3), RGB, of the student's input size.
        after_norm: after the BNNeck's normalisation or before it.
        precision: `fp32`, `half` or `auto` (see `pgfl.runtime.devices.half_precision`).

    Yields:
        float32 (n, c) for each batch, not normalised to length one.
    """
    device = next(student.parameters()).device
    under_way: torch.Tensor | None = None
    for batch in batches:
        images = torch.from_numpy(batch)
        if device.type == "cuda":
            images = images.pin_memory().to(device, non_blocking=True)
        with half_precision(device, precision):
            features = student(images.to(device), after_norm)
        if under_way is not None:
            yield under_way.cpu().numpy()
        under_way = features.float()
    if under_way is not None:
        yield under_way.cpu().numpy()
