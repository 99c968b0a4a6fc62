"""Reading every image once: does it decode, how large is it, what are its bytes?"""

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pgfl.progress import progress

THREADS = 4
"""As many as the workflow counts for a manifest; several of them are made at once."""


@dataclass(frozen=True)
class Inspected:
    """An image that decodes."""

    width: int
    height: int
    sha256: str
    """The first 16 digits, of the file's bytes."""


def inspect_images(folder: Path, images: Sequence[str]) -> list[Inspected | str]:
    """Inspect images in parallel, with a line of progress.

    Args:
        folder: where the names start from.
        images: paths below it.

    Returns:
        For each image what was found, or one line that says what is wrong with it.
    """
    cv2.setNumThreads(1)
    # Decoding leaves Python's lock, so threads are enough to keep cores busy.
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda name: _inspect(folder, name), images)
        return list(progress(results, "checking images", total=len(images)))


def _inspect(folder: Path, name: str) -> Inspected | str:
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        return f"{name}: cannot be read ({error.strerror})"
    if not data:
        return f"{name}: is empty (0 bytes); get this file again"
    try:
        # Pillow refuses a truncated file; OpenCV, which the stages read with, would fill it grey.
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            width, height = picture.size
    except Exception as error:  # Pillow raises whatever a damaged file makes it stumble over
        return f"{name}: not an image, or damaged ({error})"
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # more than 2^30 pixels, for one
        decoded = None
    if decoded is None:
        return f"{name}: OpenCV cannot decode it"
    return Inspected(width, height, hashlib.sha256(data).hexdigest()[:16])
