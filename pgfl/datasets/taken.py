"""A user's photographs as they were taken, so that changed ones behind the same table are noticed.

Planning looks at every listed photograph's size and time, and reads only those whose size or time
is another one, as git does. Nothing heavy is imported: the Snakefile calls this.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pgfl.datasets.own_table import read_own_table, spellings
from pgfl.errors import UserError
from pgfl.runtime.files import file_hash, read_json, text_hash, write_text
from pgfl.runtime.messages import few, shown

NAME = "taken.json"
"""Lies in the data set's folder. No declared output, so that a new taking can still read it."""

Photograph = tuple[int, int, str]
"""Size in bytes, time of the last change in nanoseconds, first digits of the sha256."""


def look(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def remember(folder: Path, photographs: Mapping[str, Photograph], stamp: str) -> None:
    """Write down what was taken.

    Args:
        folder: of the data set.
        photographs: by the names of the user's table.
        stamp: what `stamp_of` said before.
    """
    content = {"stamp": stamp, "photographs": dict(photographs)}
    write_text(folder / NAME, json.dumps(content))


def stamp_of(table: Path, source: Path, folder: Path) -> str:
    """A word that is another one exactly when a listed photograph's content has changed.

    While nothing has changed it is the word of the last taking, empty for the first one.

    Args:
        table: the user's CSV.
        source: the folder that its image names start from.
        folder: of the data set.

    Raises:
        UserError: a photograph that the table lists, and that was taken, is gone.
    """
    if not (folder / NAME).is_file():
        return ""
    taken = read_json(folder / NAME)
    known = _known(table, folder)
    try:
        # A name that is not known is the table's own change, which is noticed anyway.
        now = {name: _now(source / name, was) for name, was in known.items() if was is not None}
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} is gone, but {table} lists it: put it back, or take it out there"
        ) from None
    changed = {name: sha256 for name, sha256 in now.items() if sha256}
    return text_hash(json.dumps([taken["stamp"], changed]))[:16] if changed else taken["stamp"]


def _known(table: Path, folder: Path) -> dict[str, Photograph | None]:
    """What was taken of each image of a user's table, by its name on disk."""
    taken = read_json(folder / NAME)["photographs"]
    names = (
        next((name for name in spellings(image) if name in taken), image)
        for image in _listed(table)
    )
    return {name: taken.get(name) for name in names}


def _now(path: Path, was: Photograph) -> str:
    """A photograph's hash if its content is another one, else nothing."""
    *seen, sha256 = was
    if list(look(path)) == seen:
        return ""
    now = file_hash(path)
    return "" if now.startswith(sha256) else now


def _listed(table: Path) -> list[str]:
    """The image names of a user's table; a wrong table is the taking's own business."""
    try:
        return sorted({row["image"] for row in read_own_table(table).rows.values()})
    except UserError:
        return []


def since(table: Path, source: Path, folder: Path) -> list[str]:
    """What is no longer as it was taken, one line for each finding.

    Args:
        table: the user's CSV.
        source: the folder that its image names start from.
        folder: of the data set.
    """
    known = _known(table, folder)
    changed, gone = [], []
    for name, was in known.items():
        try:
            if was is not None and _now(source / name, was):
                changed.append(f"{source / name}: has changed since it was taken")
        except FileNotFoundError:
            gone.append(f"{source / name}: is gone since it was taken")
    new = [f"{table}: {shown(name)} is new" for name, was in known.items() if was is None]
    taken = read_json(folder / NAME)["photographs"]
    left = [f"{table}: {shown(name)} is no longer in it" for name in taken if name not in known]
    return [line for lines in (changed, gone, new, left) for line in few(lines)]
