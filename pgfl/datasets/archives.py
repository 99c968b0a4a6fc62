"""The archives of the data sets, or the folders they were unpacked to, laid out in one way."""

import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path, PurePosixPath

from pgfl.datasets.folders import files_in, find_root, split_folders
from pgfl.datasets.origin import write_origin
from pgfl.datasets.registry import DATASETS, SOURCES
from pgfl.errors import UserError
from pgfl.runtime.files import (
    file_hash,
    folders_with,
    link_or_copy,
    text_hash,
    whole_folder,
)
from pgfl.untrusted.obtain import in_words, matches
from pgfl.untrusted.packed import names_in, unpack


def extract(source: Path, dataset: str, target: Path) -> int:
    """Lay out a data set as its published archive does, whatever it comes from.

    Args:
        source: a zip or a tar, or the folder that one was unpacked to, which is only read; the
            data set may lie deep in it. Nothing of an archive can land outside `target`.
        dataset: its name in `SOURCES`. A set that has lists may be just these.
        target: replaced if it exists; gets `origin.json` besides.

    Returns:
        The number of files laid out.

    Raises:
        UserError: neither zip nor tar, damaged, unsafe members, too large, no space left, or the
            data set's folders are not in it.
    """
    if source.resolve().is_relative_to(target.resolve()):
        raise UserError(f"{target}: holds {source} itself and would be replaced")
    listed = holds_lists(dataset, source)
    with whole_folder(target) as temporary:
        if source.is_dir():
            count = _take(source, dataset, temporary, link_or_copy, listed)
        else:
            unpacked = temporary / ".unpacked"
            unpacked.mkdir()
            unpack(source, unpacked)
            try:
                count = _take(unpacked, dataset, temporary, os.replace, listed)
            except UserError as error:
                raise UserError(str(error).replace(str(unpacked), str(source))) from None
            shutil.rmtree(unpacked)
        write_origin(temporary, _origin(source, dataset))
    return count


def _take(
    source: Path, dataset: str, target: Path, put: Callable[[Path, Path], None], listed: bool
) -> int:
    """Put a data set's files, wherever they lie below `source`, to their places in `target`."""
    if listed:
        lists = DATASETS[dataset].lists
        folder = _lists_in(source, lists)
        for name in lists:
            put(folder / name, target / name)
        return len(lists)
    layout = DATASETS[dataset].layout
    count = 0
    for split, folder in split_folders(find_root(source, layout), layout).items():
        place = target / layout.root / layout.folders[split]
        place.mkdir(parents=True)
        for name, _ in files_in(folder):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            put(folder / name, place / name)
            count += 1
    return count


def _lists_in(source: Path, lists: tuple[str, ...]) -> Path:
    """The one folder that all lists of a data set lie in."""
    found = folders_with(source, lists)
    if len(found) != 1:
        names = in_words((lists,))
        raise UserError(f"{source}: {len(found)} folders hold {names}, expected one")
    return found[0]


MANY = 10_000
"""Names of an archive after which lists or images must have come."""


def holds_lists(dataset: str, source: Path) -> bool:
    """Whether an archive or folder of a data set holds lists of its images in place of them.

    Raises:
        UserError: neither, or it cannot be read.
    """
    data = DATASETS[dataset]
    if not data.lists:
        return False
    images, lists = tuple(data.layout.folders.values()), data.lists
    if source.is_dir():
        if folders_with(source, images):
            return False
        if folders_with(source, lists):
            return True
    else:
        for name in islice(names_in(source), MANY):
            path = PurePosixPath(name)
            if path.name in lists:
                return True
            if path.parent.name.casefold() in images and data.layout.name.fullmatch(path.name):
                return False
    raise UserError(f"{source}: holds no {in_words((images, lists))}")


def stamp(dataset: str, folder: Path) -> str:
    """A word that is another one when a file of an unpacked data set came, went or changed.

    Names, sizes and times are looked at, contents are not: the Snakefile asks at every plan.

    Args:
        dataset: its name in `SOURCES`.
        folder: holds it, however deep.

    Raises:
        UserError: it is not there, there twice, or cannot be read.
    """
    if holds_lists(dataset, folder):
        lists = DATASETS[dataset].lists
        place = _lists_in(folder, lists)
        files = [(name, (place / name).stat()) for name in lists]
    else:
        layout = DATASETS[dataset].layout
        files = [
            (f"{split}/{name}", entry.stat())
            for split, place in split_folders(find_root(folder, layout), layout).items()
            for name, entry in files_in(place)
        ]
    rows = [f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in files]
    return text_hash("\n".join(rows))[:16]


def _origin(source: Path, dataset: str) -> str:
    """What a data set is made of, in a few words."""
    if source.is_dir():
        return "folder"
    published = SOURCES[dataset].checksum
    if published and matches(source, published):
        return f"published archive ({published.replace(':', ' ')})"
    return f"archive (sha256 {file_hash(source)})"
