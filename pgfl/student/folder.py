"""A folder of images to `features.npz`; goes on where it was stopped."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pgfl.errors import UserError
from pgfl.explain import shown
from pgfl.files import text_hash, whole_file
from pgfl.images import loaded_batches
from pgfl.locks import locked
from pgfl.retrieval.embed import batch_features
from pgfl.student.embedder import Embedder, unit_length
from pgfl.student.features_file import (
    FeaturesFile,
    read_features_file,
    write_features_file,
    wrong_name,
)

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
BATCHES_A_BLOCK = 8
"""What is embedded between two saves: this is lost at most."""


class _Block(NamedTuple):
    """Features of some images that follow each other."""

    features: np.ndarray
    usable: np.ndarray
    """bool: images that could not be read have a row, too, which means nothing."""


class Found(NamedTuple):
    """What a folder holds; names are paths below it."""

    names: list[str]
    """Of images, sorted."""
    left_out: list[str]
    """Of what looks like an image or a folder and cannot be used; escaped where not UTF-8."""


def find_images(folder: Path) -> Found:
    """The images in a folder and in the folders below it, by their suffix.

    Hidden files and folders do not count. What cannot be used is said.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names, left_out = [], []
    for path, reason in _looked_through(folder):
        name = path.relative_to(folder).as_posix()
        if reason:
            print(f"note: {_text(path)}: {reason}; left out")
            left_out.append(_text(name))
        else:
            names.append(name)
    if not names:
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
    wrong = wrong_name(path.relative_to(folder).as_posix())
    return wrong and f"its name {wrong}"


def _text(path: Path | str) -> str:
    """A path to print or to store; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


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
    found = find_images(folder) if names is None else Found(_checked(folder, names), [])
    kept = out.with_name(f".{out.stem}.parts")
    with locked(kept):
        files = _embedded(student, folder, found.names, kept, batch_size)
        _put_together(student, folder, found, files, out)
        shutil.rmtree(kept)
        return read_features_file(out)


def _checked(folder: Path, names: Sequence[str]) -> list[str]:
    for name in names:
        if wrong := wrong_name(name):
            raise UserError(f"{folder}: the name {shown(name)} {wrong}; rename the image")
    return list(names)


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
    found = [(folder / name).stat() for name in names]
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
    usable = np.ones(len(names), dtype=bool)

    def load(place: int) -> np.ndarray:
        try:
            return student.prepare(folder / names[place])
        except UserError:
            usable[place] = False
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
        yield _Block(unit_length(rows), usable[start : start + length])
        start += length


def _put_together(
    student: Embedder, folder: Path, found: Found, files: Sequence[Path], out: Path
) -> None:
    """One file of all blocks, less the images that could not be read."""
    usable = np.concatenate([_kept_block(file, student.channels).usable for file in files])
    if not usable.any():
        shutil.rmtree(files[0].parent)
        raise UserError(f"{folder}: none of {len(found.names)} images can be read")
    unreadable = [name for name, good in zip(found.names, usable, strict=True) if not good]
    for name in unreadable:
        print(f"note: {_text(folder / name)}: cannot be read as an image; left out")
    pieces = (_kept_block(file, student.channels) for file in files)
    texts = {
        "folder": str(folder.resolve()),
        "model_sha256": student.sha256,
        "precision": student.precision,
    }
    write_features_file(
        out,
        [name for name, good in zip(found.names, usable, strict=True) if good],
        student.channels,
        (block.features[block.usable] for block in pieces),
        texts,
        sorted([*found.left_out, *unreadable]),
    )


def _write(file: Path, block: _Block) -> None:
    with whole_file(file) as temporary:
        np.savez(temporary, **block._asdict())


def _read(file: Path, channels: int) -> _Block | None:
    """A finished block; None where there is none, or a damaged one."""
    try:
        with np.load(file, allow_pickle=False) as content:
            block = _Block(content["features"], content["usable"])
    except Exception:  # zip, zlib and NumPy raise many kinds for a damaged file
        return None
    return block if block.features.shape == (len(block.usable), channels) else None


def _kept_block(file: Path, channels: int) -> _Block:
    block = _read(file, channels)
    if block is None:
        raise UserError(f"{file}: damaged while others were made; run the same command again")
    return block
