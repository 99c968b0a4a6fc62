"""Reading images: one way, used by every stage, so that all of them see the same pixels."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from pgfl.errors import UserError
from pgfl.progress import progress

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of RGB values in [0, 255], as torchvision's pretrained networks expect."""

READERS = 4
"""Threads that decode images beside the network."""
BATCHES_AHEAD = 2

Given = TypeVar("Given")
Loaded = TypeVar("Loaded")


def read_image(path: Path) -> np.ndarray:
    """Decode an image file (JPEG, PNG, TIFF).

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        UserError: the file is missing, or its content does not decode.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if image is None:
        raise UserError(f"{path}: not an image, or damaged; get this file again")
    return image


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an uint8 (H, W, 3) image, ignoring its aspect ratio as ReID does."""
    if image.shape[:2] == (height, width):
        return image
    # Averaging when shrinking: plain bilinear sampling would skip pixels.
    shrinks = image.shape[0] > height and image.shape[1] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def image_batches(
    folder: Path, names: Sequence[str], size: tuple[int, int], batch_size: int, what: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Batches of decoded images in order.

    Args:
        folder: where the names start from.
        names: image paths below it.
        size: (height, width) that every image is resized to.
        batch_size: images in a batch.
        what: said in the progress line.

    Yields:
        The first image's place in `names`, and uint8 (n, height, width, 3).

    Raises:
        UserError: an image cannot be read.
    """

    def load(name: str) -> np.ndarray:
        return resized(read_image(folder / name), *size)

    for start, images in loaded_batches(names, load, batch_size, what):
        yield start, np.stack(images)


def loaded_batches(
    names: Sequence[Given], load: Callable[[Given], Loaded], batch_size: int, what: str
) -> Iterator[tuple[int, list[Loaded]]]:
    """Batches of whatever `load` makes of each name, in order, read ahead by threads.

    While the caller uses a batch, the next two are loaded beside it: decoding and resizing let
    go of Python's lock.

    Args:
        names: what `load` is called with.
        load: runs in threads.
        batch_size: results in a batch.
        what: said in the progress line; empty for no such line.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    starts = range(0, len(names), batch_size)
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        ahead: deque[list[Future[Loaded]]] = deque()

        def submit(start: int) -> None:
            ahead.append([pool.submit(load, name) for name in names[start : start + batch_size]])

        for start in starts[:BATCHES_AHEAD]:
            submit(start)
        try:
            for start in progress(starts, what, unit=batch_size) if what else starts:
                batch = [waiting.result() for waiting in ahead.popleft()]
                if start + BATCHES_AHEAD * batch_size < len(names):
                    submit(start + BATCHES_AHEAD * batch_size)
                yield start, batch
        finally:
            pool.shutdown(cancel_futures=True)
            cv2.setNumThreads(threads)
