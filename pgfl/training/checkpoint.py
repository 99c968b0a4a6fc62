"""The resume state: written after every epoch, taken up only by the very same run."""

from pathlib import Path
from typing import Any

import torch

from pgfl.files import whole_file


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole; a kill at any moment leaves the last one."""
    with whole_file(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """The checkpoint, or None where there is none that this run can go on from.

    Args:
        path: written by `save_checkpoint`.
        key: names recipe, code and data; a checkpoint of another key is another run's.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        why = str(error).partition("\n")[0]
        print(f"note: {path} is damaged ({why}): starting afresh")
        return None
    if not isinstance(content, dict) or content.get("key") != key:
        print(f"note: {path} is of other settings, code or data: starting afresh")
        return None
    return content
