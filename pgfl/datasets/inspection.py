"""Reading every image once: does it decode, how large is it, what are its bytes?"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2

from pgfl.datasets.images import read_image
from pgfl.errors import UserError
from pgfl.runtime.files import file_hash
from pgfl.runtime.progress import progress

THREADS = 4
"""As many as the workflow counts for a manifest; several of them are made at once."""


@dataclass(frozen=True)
class Inspected:
    """An image that decodes."""

    width: int
    height: int
    """In pixels, upright."""
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
    path = folder / name
    try:
        height, width, _ = read_image(path).shape
        return Inspected(width, height, file_hash(path)[:16])
    except UserError as error:
        return f"{name}: {str(error).removeprefix(f'{path}: ')}"
    except OSError as error:
        return f"{name}: cannot be read ({error.strerror})"
