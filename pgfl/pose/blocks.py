"""Finished blocks of a heatmap run: what an interruption leaves and other machines contribute."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pgfl.runtime.files import whole_file


class Block(NamedTuple):
    """What is computed of consecutive images."""

    codes: np.ndarray
    """uint8 (n, 8, h, w)."""
    affine: np.ndarray
    """float32 (n, 8, 2), offset and step of each map."""
    confidence: np.ndarray
    """float32 (n, 17)."""
    usable: np.ndarray
    """bool (n,): whether the photograph could be used; its maps are flat otherwise."""


@dataclass(frozen=True)
class BlockFolder:
    """A folder with one file for each finished block of images."""

    path: Path
    images: int
    """Images in all."""
    size: int
    """Images in a block; the last one may have fewer."""

    @property
    def starts(self) -> range:
        """The first image of each block."""
        return range(0, self.images, self.size)

    def file(self, start: int) -> Path:
        """Where the block that begins with image `start` lies."""
        return self.path / f"{start:08d}.npz"

    def read(self, start: int) -> Block | None:
        """A block, or None where it is not finished (or its file was damaged)."""
        try:
            with np.load(self.file(start), allow_pickle=False) as stored:
                block = Block(*(stored[name] for name in Block._fields))
        except Exception:  # zip, zlib and NumPy raise many kinds for a damaged file
            return None
        expected = min(self.size, self.images - start)
        return block if all(len(part) == expected for part in block) else None

    def write(self, start: int, block: Block) -> None:
        """Keep a finished block; it appears whole or not at all."""
        # In memory first: a zip file that runs into a full disk is noisy about it at its end.
        content = io.BytesIO()
        np.savez(content, **block._asdict())
        with whole_file(self.file(start)) as temporary:
            temporary.write_bytes(content.getbuffer())
