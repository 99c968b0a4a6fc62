"""Reading images: one way, used by every stage, so that all of them see the same pixels."""

import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from pgfl.errors import UserError
from pgfl.runtime.messages import shown_key
from pgfl.runtime.progress import progress

try:
    import cv2

    JPEG_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
except (ModuleNotFoundError, AttributeError):
    # pyproject.toml asks for none: two wheels in one place overwrite each other's files.
    raise ModuleNotFoundError(
        "OpenCV 4.11 or later is needed: pip install '.[opencv]' in the repository's folder, or "
        "any one of opencv-python, opencv-contrib-python and their headless twins",
        name="cv2",
    ) from None

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of RGB values in [0, 255], as torchvision's pretrained networks expect."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000")
"""Pillow's names of what is read. None of these starts another program, as EPS would."""
MOST_PIXELS = 178_956_970
"""Of one image: Pillow's own limit against small files that unpack to huge images."""
LARGE = 2**24
"""Pixels above which images are decoded one at a time, however many threads read."""
BAND = 2**22
"""Pixels that leave Pillow at a time, so that it holds no second copy of a large image."""
FAST_BYTES = 2**28
"""JPEG files up to this size are read at once and decoded by OpenCV."""

READERS = 4
"""Threads that decode images beside the network."""
BATCHES_AHEAD = 2

Given = TypeVar("Given")
Loaded = TypeVar("Loaded")

_one_large = threading.Lock()
if hasattr(os, "register_at_fork"):
    # The thread that holds it is not there in the child.
    os.register_at_fork(after_in_child=lambda: _one_large._at_fork_reinit())


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an image file: its first frame, upright by its EXIF or XMP orientation.

    The pixels are those of Pillow's `ImageOps.exif_transpose(image).convert("RGB")`, except for
    grey images of 16 bits: their upper byte counts, where Pillow makes white of all above 255.

    Args:
        path: a file in one of `FORMATS`, by its content.
        size: (height, width) to resize to. Two images of more than `LARGE` pixels are then never
            in memory at once.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        UserError: the file is missing, may not be read, is empty, does not decode, has more than
            `MOST_PIXELS` pixels, or holds numbers without a known range.
    """
    try:
        # To open a pipe would mean to wait for whoever writes into it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError("cannot be read (not a file)")
        with path.open("rb") as file:
            return _read(file, size)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        # Pillow's own, about the content, have no number.
        reason = f"cannot be read ({error.strerror})" if error.errno else _damage(error)
        raise UserError(f"{path}: {reason}") from None
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise UserError(f"{path}: {_damage(error)}") from None


def _read(file: BinaryIO, size: tuple[int, int] | None) -> np.ndarray:
    try:
        picture = Image.open(file, formats=FORMATS)  # the header only
    except UnidentifiedImageError:
        if not os.fstat(file.fileno()).st_size:
            raise UserError("an empty file; get it again") from None
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"too large ({str(error).partition(',')[0]})") from None
    with picture:
        _check_size(picture)
        large = picture.width * picture.height > LARGE
        with _one_large if large else nullcontext():
            image = _fast(file, picture)
            if image is None:
                image = upright_rgb(picture)
            return image if size is None else resized(image, *size)


def _damage(error: Exception) -> str:
    """What is said of content that does not decode; one line."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image, or damaged, or none of {', '.join(FORMATS)}"
    detail = f" ({shown_key(error)})" if str(error) else ""
    return f"not an image, or damaged{detail}; get this file again"


def _check_size(picture: Image.Image) -> None:
    size = f"{picture.width} x {picture.height}"
    if picture.width * picture.height > MOST_PIXELS:
        raise UserError(f"too large ({size} pixels, at most {MOST_PIXELS:,} in all)")


def _fast(file: BinaryIO, picture: Image.Image) -> np.ndarray | None:
    """An ordinary JPEG by OpenCV: the same bits in half the time; None of anything else."""
    jpeg = picture.format in ("JPEG", "MPO") and picture.mode in ("RGB", "L")
    if not jpeg or os.fstat(file.fileno()).st_size > FAST_BYTES:
        return None
    file.seek(0)
    data = np.frombuffer(file.read(), dtype=np.uint8)
    file.seek(0)
    try:
        image = cv2.imdecode(data, JPEG_FLAGS)
    except cv2.error:
        return None
    return None if image is None else _turned(image, _orientation(picture))


def upright_rgb(picture: Image.Image) -> np.ndarray:
    """The pixels of a Pillow image; see `read_image`.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        UserError: it is too large, or its numbers have no known range.
        Exception: of many kinds, where it does not decode.
    """
    _check_size(picture)
    picture.load()
    # Pillow gives 16 bits as I;16, and as I for some formats, by its version.
    deep = picture.mode.startswith("I;16")
    deep = deep or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    if picture.mode in ("I", "F") and not deep:
        raise UserError(f"numbers without a known range (mode {picture.mode}); store 8 bits")
    image = np.empty((picture.height, picture.width, 3), dtype=np.uint8)
    rows = max(1, BAND // max(1, picture.width))
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        if deep:
            image[top : top + rows] = (np.asarray(band) >> 8)[..., np.newaxis]
        else:
            image[top : top + rows] = band.convert("RGB")
    return _turned(image, _orientation(picture))


def _orientation(picture: Image.Image) -> int:
    """By EXIF or XMP, from 1 (upright) to 8; damaged metadata say nothing."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (H, W, 3) stored in an orientation of EXIF, upright."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


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
        return read_image(folder / name, size)

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
