"""Walking an unpacked archive: folders and images by name, known extras skipped."""

import re
from pathlib import Path

from pgfl.datasets.manifest import Entry, Listing
from pgfl.errors import UserError

KNOWN_EXTRAS = {"thumbs.db", ".ds_store", "readme.txt"}


def find_folder(root: Path, name: str) -> Path:
    """The one folder of this name below `root`, however deep the archive put it.

    Raises:
        UserError: there is none, or more than one.
    """
    found = [path for path in root.rglob(name) if path.is_dir() and "__MACOSX" not in path.parts]
    if len(found) != 1:
        raise UserError(f"{root}: {len(found)} folders named {name!r} in it, expected one")
    return found[0]


def read_folders(images: Path, folders: dict[str, str], name: re.Pattern[str]) -> Listing:
    """One entry for each image of each split; other files are problems, a line each.

    Args:
        images: the folder that the archive was unpacked to; the manifest lies beside it.
        folders: the name of each split's folder, wherever the archive has it.
        name: must match an image's whole path below its split's folder. Its group `pid` is the
            identity and its group `camid` the camera. Sets without cameras have no such group:
            their queries get camera 0 and their gallery camera 1, so that no match is filtered.

    Raises:
        UserError: a folder is missing or there twice.
    """
    listing = Listing([])
    for split, folder_name in folders.items():
        folder = find_folder(images, folder_name)
        for path in sorted(folder.rglob("*")):
            if path.is_dir() or path.name.lower() in KNOWN_EXTRAS:
                continue
            image = path.relative_to(images.parent).as_posix()
            match = name.fullmatch(path.relative_to(folder).as_posix())
            if match is None:
                listing.problems.append(f"{image}: the name does not match {name.pattern}")
                continue
            groups = match.groupdict()
            camid = int(groups.get("camid", split == "gallery"))
            listing.entries.append(Entry(image, split, int(groups["pid"]), camid))
    return listing
