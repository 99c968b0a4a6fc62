"""Finished runs archived beside the resume state: what was trained already is not trained again.

Snakemake plans by files: heatmaps that somebody deleted and another run now needs are made again,
and with them all that was ever made from them, though not a bit has changed. Training is too dear
for that. A finished run's outputs are therefore hard-linked, and the very same run restores them
within seconds.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgfl.errors import UserError
from pgfl.runtime.files import (
    file_hash,
    link_or_copy,
    read_json,
    whole_file,
    whole_folder,
    write_json,
)

NAME = "run.json"


def archive_run(outputs: Sequence[Path], identity: dict[str, Any], folder: Path) -> None:
    """Archive a finished run.

    Args:
        outputs: its files.
        identity: all that they are a function of.
        folder: where to, replaced whole; on the same file system it takes no space of its own.
    """
    with whole_folder(folder) as temporary:
        for output in outputs:
            link_or_copy(output, temporary / output.name)
        hashes = {output.name: file_hash(output) for output in outputs}
        write_json(temporary / NAME, {"identity": identity, "sha256": hashes})


def restore_run(outputs: Sequence[Path], identity: dict[str, Any], folder: Path) -> bool:
    """Put an archived run's files back, if it is this very run and they are unharmed.

    Returns:
        Whether it did; if not, nothing has changed.
    """
    try:
        archived = read_json(folder / NAME)
    except UserError:
        return False
    files = [folder / output.name for output in outputs]
    if archived["identity"] != identity or not all(
        file.is_file() and file_hash(file) == archived["sha256"].get(file.name) for file in files
    ):
        return False
    for file, output in zip(files, outputs, strict=True):
        with whole_file(output) as temporary:
            link_or_copy(file, temporary)
            # Newer than all that it was made from, as Snakemake wants it.
            os.utime(temporary)
    return True
