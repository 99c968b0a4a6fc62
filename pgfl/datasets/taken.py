"""A user's photographs as they were taken, so that changed ones behind the same table are noticed.

Planning looks at every listed photograph's size and time, and reads only those whose size or time
is another one, as git does. Nothing heavy is imported: the Snakefile calls this.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from pgfl.errors import UserError
from pgfl.files import file_hash, read_json, text_hash, write_text

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
    known = {name: taken["photographs"].get(name) for name in _listed(table)}
    try:
        # A name that is not known is the table's own change, which is noticed anyway.
        now = {name: _now(source / name, was) for name, was in known.items() if was is not None}
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} is gone, but {table} lists it: put it back, or take it out there"
        ) from None
    changed = {name: sha256 for name, sha256 in now.items() if sha256}
    return text_hash(json.dumps([taken["stamp"], changed]))[:16] if changed else taken["stamp"]


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
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return sorted({row["image"] for row in csv.DictReader(file) if row.get("image")})
    except csv.Error:
        return []
