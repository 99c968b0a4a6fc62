"""The resume state: written after every epoch, taken up only by the very same run.

A file is what torch writes, then the sha256 of that: torch itself does not notice a flipped bit.
The checkpoint of the epoch before is kept beside it, for when it is damaged.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from pgfl.files import whole_file

DIGEST = hashlib.sha256().digest_size


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole; a kill at any moment leaves the last one, or the one before."""
    # In memory first: torch has an error of its own for a full disk.
    stream = io.BytesIO()
    torch.save(content, stream)
    with whole_file(path) as temporary:
        with temporary.open("wb") as file:
            file.write(stream.getbuffer())
            file.write(hashlib.sha256(stream.getbuffer()).digest())
        if path.exists():
            os.replace(path, previous(path))


def load_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """The checkpoint, or None where there is none that this run can go on from.

    Args:
        path: written by `save_checkpoint`.
        key: names recipe, code and data; a checkpoint of another key is another run's.
    """
    found = [file for file in (path, previous(path)) if file.is_file()]
    for file in found:
        try:
            content = _read(file)
        except Exception as error:  # torch raises many kinds for a damaged file
            why = str(error).partition("\n")[0]
            other = "trying the one before" if file != found[-1] else "starting afresh"
            print(f"note: {file} is damaged ({why}): {other}")
            continue
        if not isinstance(content, dict) or content.get("key") != key:
            print(f"note: {file} is of other settings, code or data: starting afresh")
            return None
        return content
    return None


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint and the one before it; a finished run needs neither."""
    path.unlink(missing_ok=True)
    previous(path).unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Where the checkpoint of the epoch before `path` lies."""
    return path.with_suffix(f".previous{path.suffix}")


def _read(path: Path) -> Any:
    content = path.read_bytes()
    content, digest = content[:-DIGEST], content[-DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its checksum is wrong")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
