"""Where a data set's images are from, in a few words that go with them to `counts.json`."""

from pathlib import Path

from pgfl.errors import UserError
from pgfl.runtime.files import read_json, write_json

NAME = "origin.json"
"""Lies among the images."""


def write_origin(images: Path, origin: str) -> None:
    """Say where the images of a folder are from."""
    write_json(images / NAME, {"origin": origin})


def read_origin(images: Path) -> str:
    """Where the images of a folder are from; empty where nobody has said so.

    Raises:
        UserError: the file that says it is damaged.
    """
    if not (images / NAME).exists():
        return ""
    content = read_json(images / NAME)
    origin = content.get("origin") if isinstance(content, dict) else None
    if not isinstance(origin, str):
        raise UserError(f"{images / NAME}: does not say where the images are from; unpack again")
    return origin
