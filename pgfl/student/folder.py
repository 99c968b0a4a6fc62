"""A folder of images to `features.npz`; goes on where it was stopped."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pgfl.datasets.images import loaded_batches
from pgfl.errors import UserError
from pgfl.retrieval.embed import batch_features
from pgfl.runtime.files import text_hash, whole_file
from pgfl.runtime.locks import locked
from pgfl.runtime.messages import shown
from pgfl.student.embedder import Embedder, unit_length
from pgfl.student.features_file import (
    FeaturesFile,
    local_name,
    printed,
    read_features_file,
    stored_name,
    write_features_file,
    wrong_name,
)

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MOST_SAID = 10
"""Unreadable files that are printed; the file lists all."""
BATCHES_A_BLOCK = 8
"""What is embedded between two saves: this is lost at most."""


class _Block(NamedTuple):
    """Features of some images that follow each other."""

    features: np.ndarray
    reasons: np.ndarray
    """Text, why an image could not be read; its row then means nothing. Empty for the others."""


class Found(NamedTuple):
    """What a folder holds; names are paths below it."""

    names: list[str]
    """Of images, sorted."""
    left_out: dict[str, str]
    """Of what looks like an image or a folder and cannot be used, and why; escaped where not
    UTF-8."""


def find_images(folder: Path) -> Found:
    """The images in a folder and in the folders below it, by their suffix.

    Hidden files and folders do not count.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names, left_out = [], {}
    for path, reason in _looked_through(folder):
        name = path.relative_to(folder).as_posix()
        if reason:
            left_out[printed(name)] = reason
        else:
            names.append(stored_name(name))
    if not names:
        _say_unreadable(folder, left_out)
        raise UserError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))})")
    return Found(sorted(names), left_out)


def _looked_through(folder: Path) -> Iterator[tuple[Path, str]]:
    """All that looks like an image, and folders that are not looked into; with what is wrong."""
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if name[0] != "."]
        for path in (Path(place, name) for name in folders):
            if path.is_symlink():
                yield path, "a link to a folder, which may lead in circles"
        for path in (Path(place, name) for name in files):
            if path.suffix.lower() in SUFFIXES and path.name[0] != ".":
                yield path, _fault(path, folder)
    for error in closed:
        yield Path(error.filename), str(error.strerror)


def _fault(path: Path, folder: Path) -> str:
    # Unlike pathlib's, it takes files that may not be looked at.
    if not os.path.isfile(path):  # noqa: PTH113
        return "not a file, or a link to none"
    wrong = wrong_name(stored_name(path.relative_to(folder).as_posix()))
    return wrong and f"its name {wrong}"


def _say_unreadable(folder: Path, reasons: dict[str, str]) -> None:
    """Print what was left out, the first ten of it."""
    for name, reason in list(reasons.items())[:MOST_SAID]:
        print(f"note: {printed(folder)}/{name}: {reason}; left out")
    if len(reasons) > MOST_SAID:
        print(f"note: and {len(reasons) - MOST_SAID:,} more")


def embed_folder(
    student: Embedder,
    folder: Path,
    out: Path,
    names: Sequence[str] | None = None,
    batch_size: int = 64,
) -> FeaturesFile:
    """Embed all images of a folder.

    Finished blocks of images are kept in a hidden folder beside `out` until all are done, so
    that the same call after an interruption does only the rest. A block counts as the same only
    for the same student, precision, and unchanged files (by name, size and time of change).

    Args:
        student: from `pgfl.load`.
        folder: of the images.
        out: the .npz file, written whole.
        names: only these, below the folder; None for all that look like images.
        batch_size: images at a time.

    Returns:
        What was written.

    Raises:
        UserError: there is no image, or none that can be read; a name leads out of the folder
            or is not UTF-8; another process writes the same file.
    """
    if out.suffix != ".npz":
        raise UserError(f"{out}: features are written as .npz; choose such a name")
    found = find_images(folder) if names is None else Found(_checked(folder, names), {})
    kept = out.with_name(f".{out.stem}.parts")
    with locked(kept):
        files = _embedded(student, folder, found.names, kept, batch_size)
        _put_together(student, folder, found, files, out)
        shutil.rmtree(kept)
        return read_features_file(out)


def _checked(folder: Path, names: Sequence[str]) -> list[str]:
    names = [stored_name(name) for name in names]
    for name in names:
        if wrong := wrong_name(name):
            raise UserError(f"{folder}: the name {shown(name)} {wrong}; rename the image")
    return names


def _embedded(
    student: Embedder, folder: Path, names: Sequence[str], kept: Path, batch_size: int
) -> list[Path]:
    """The files of all blocks in order; those that were not there have been computed."""
    size = batch_size * BATCHES_A_BLOCK
    starts = range(0, len(names), size)
    blocks = {start: names[start : start + size] for start in starts}
    files = {start: kept / _key(student, folder, batch_size, blocks[start]) for start in starts}
    todo = [start for start in starts if _read(files[start], student.channels) is None]
    if len(todo) < len(starts):
        print(f"{len(starts) - len(todo)} of {len(starts)} parts are there already")
    waiting = [name for start in todo for name in blocks[start]]
    lengths = [len(blocks[start]) for start in todo]
    computed = _computed(student, folder, waiting, lengths, batch_size)
    for start, block in zip(todo, computed, strict=True):
        _write(files[start], block)
    return [files[start] for start in starts]


def _key(student: Embedder, folder: Path, batch_size: int, names: Sequence[str]) -> str:
    """A file name for a block, which another student or a changed image changes."""
    found = [(folder / local_name(name)).stat() for name in names]
    images = [
        (name, file.st_size, file.st_mtime_ns) for name, file in zip(names, found, strict=True)
    ]
    how = [student.sha256, student.precision, student.device.type, batch_size, images]
    return f"{text_hash(json.dumps(how))[:32]}.npz"


def _computed(
    student: Embedder,
    folder: Path,
    names: Sequence[str],
    lengths: Sequence[int],
    batch_size: int,
) -> Iterator[_Block]:
    """Blocks of these lengths, of images in this order; no batch reaches into two blocks."""
    reasons = [""] * len(names)

    def load(place: int) -> np.ndarray:
        path = folder / local_name(names[place])
        try:
            return student.prepare(path)
        except UserError as error:
            reasons[place] = str(error).removeprefix(f"{path}: ")
            return np.zeros((student.height, student.width, 3), dtype=np.uint8)

    batches = loaded_batches(range(len(names)), load, batch_size, "embedding")
    arrays = (np.stack(batch) for _, batch in batches)
    features = batch_features(student.network, arrays, precision=student.precision)
    start = 0
    for length in lengths:
        rows = np.empty((length, student.channels), dtype=np.float32)
        filled = 0
        while filled < length:
            found = next(features)
            rows[filled : filled + len(found)] = found
            filled += len(found)
        yield _Block(unit_length(rows), np.array(reasons[start : start + length], dtype=str))
        start += length


def _put_together(
    student: Embedder, folder: Path, found: Found, files: Sequence[Path], out: Path
) -> None:
    """One file of all blocks, less the images that could not be read."""
    reasons = np.concatenate([_kept_block(file, student.channels).reasons for file in files])
    wrong = {str(name): str(why) for name, why in zip(found.names, reasons, strict=True) if why}
    left_out = dict(sorted({**found.left_out, **wrong}.items()))
    _say_unreadable(folder, left_out)
    if len(wrong) == len(found.names):
        shutil.rmtree(files[0].parent)
        raise UserError(f"{folder}: none of {len(found.names)} images can be read")
    pieces = (_kept_block(file, student.channels) for file in files)
    texts = {
        "folder": stored_name(folder.resolve()),
        "model_sha256": student.sha256,
        "precision": student.precision,
    }
    write_features_file(
        out,
        [name for name in found.names if name not in wrong],
        student.channels,
        (block.features[block.reasons == ""] for block in pieces),
        texts,
        left_out,
    )


def _write(file: Path, block: _Block) -> None:
    with whole_file(file) as temporary:
        np.savez(temporary, **block._asdict())


def _read(file: Path, channels: int) -> _Block | None:
    """A finished block; None where there is none, or a damaged one."""
    try:
        with np.load(file, allow_pickle=False) as content:
            block = _Block(content["features"], content["reasons"])
    except Exception:  # zip, zlib and NumPy raise many kinds for a damaged file
        return None
    return block if block.features.shape == (len(block.reasons), channels) else None


def _kept_block(file: Path, channels: int) -> _Block:
    block = _read(file, channels)
    if block is None:
        raise UserError(f"{file}: damaged while others were made; run the same command again")
    return block
