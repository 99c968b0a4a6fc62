"""Images to features, with nothing but the student."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pgfl.images import image_batches
from pgfl.models.pgfl import Student
from pgfl.recipe import ModelSettings


@torch.inference_mode()
def embed(
    student: Student,
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
    device = next(student.parameters()).device
    size = (settings.height, settings.width)
    features = np.empty((len(names), student.channels), dtype=np.float32)
    for start, batch in image_batches(folder, names, size, batch_size, "embedding"):
        images = torch.from_numpy(batch).to(device)
        features[start : start + len(batch)] = student(images, after_norm).cpu().numpy()
    return features
