"""Walking an unpacked data set: its folders wherever they lie, images by name, extras skipped."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgfl.datasets.listing import Entry, Listing
from pgfl.errors import UserError
from pgfl.runtime.files import DEPTH, folders_with, scanned
from pgfl.runtime.messages import few

KNOWN_EXTRAS = {"thumbs.db", "desktop.ini", "readme.txt", "@eadir"}
"""What Windows, the publishers and disk stations add; hidden files are extras, too."""


@dataclass(frozen=True)
class Layout:
    """How a data set's folders and files are called."""

    root: str
    """The folder around all others in the published archive."""
    folders: dict[str, str]
    """The name of each split's folder."""
    name: re.Pattern[str]
    """Matches an image's whole path below its split's folder. The group `pid` is the identity and
    the group `camid` the camera. Sets without cameras have no such group: their queries get camera
    0 and their gallery camera 1, so that no match is filtered."""


def find_root(folder: Path, layout: Layout) -> Path:
    """The one folder at or below `folder` that holds all folders of a data set.

    Raises:
        UserError: there is none, or more than one, also by the names of the images in them.
    """
    names = list(layout.folders.values())
    beside = f"{', '.join(names[:-1])} and {names[-1]} beside each other"
    found = folders_with(folder, names)
    if not found:
        raise UserError(f"{folder}: no folder in it holds {beside} ({_instead(folder, names)})")
    # DukeMTMC-reID has the folders of Market-1501.
    if len(found) > 1:
        found = [one for one in found if _fits(one, layout)] or found
    if len(found) > 1:
        several = ", ".join(map(str, found))
        raise UserError(f"{folder}: {len(found)} folders hold {beside}: {several}; name one")
    return found[0]


def _instead(folder: Path, names: Sequence[str]) -> str:
    """What is there where not all folders of a data set are."""
    roots = [root for name in names for root in folders_with(folder, [name])]
    if not roots:
        return "nor any of them" if scanned(folder) else "it is empty"
    there = {entry.name.casefold() for entry in scanned(roots[0])}
    missing = [name for name in names if name.casefold() not in there]
    return f"{roots[0]} lacks {', '.join(missing)}"


def _fits(root: Path, layout: Layout) -> bool:
    """Whether the first image of each split has a name of this data set."""
    return all(
        layout.name.fullmatch(name) is not None
        for folder in split_folders(root, layout).values()
        for name in [next(files_in(folder), ("", None))[0]]
    )


def split_folders(root: Path, layout: Layout) -> dict[str, Path]:
    """Each split's folder, whatever the case of its letters."""
    there = {entry.name.casefold(): root / entry.name for entry in scanned(root)}
    return {split: there[name.casefold()] for split, name in layout.folders.items()}


def files_in(
    folder: Path, above: str = "", depth: int = DEPTH
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Each file's path below a folder, with forward slashes and in order; extras are left out.

    Links are followed.

    Raises:
        UserError: a folder cannot be read, or a link leads nowhere.
    """
    for entry in scanned(folder):
        if entry.name.startswith(".") or entry.name.lower() in KNOWN_EXTRAS:
            continue
        name = f"{above}{entry.name}"
        if not entry.is_dir():
            yield name, entry
        elif depth:
            yield from files_in(folder / entry.name, f"{name}/", depth - 1)


def read_folders(images: Path, layout: Layout) -> Listing:
    """One entry for each image of each split; other files are problems, at most ten named.

    Args:
        images: the folder that the data set lies in; the manifest lies beside it.
        layout: of the data set.

    Raises:
        UserError: a folder is missing, the whole set is there twice, or it cannot be read.
    """
    listing = Listing([])
    wrong = []
    for split, folder in split_folders(find_root(images, layout), layout).items():
        for name, _ in files_in(folder):
            image = (folder / name).relative_to(images.parent).as_posix()
            match = layout.name.fullmatch(name)
            if match is None:
                wrong.append(f"{image}: the name does not match {layout.name.pattern}")
                continue
            groups = match.groupdict()
            camid = int(groups.get("camid", split == "gallery"))
            listing.entries.append(Entry(image, split, int(groups["pid"]), camid))
    listing.problems.extend(few(wrong, "names that do not match"))
    return listing
