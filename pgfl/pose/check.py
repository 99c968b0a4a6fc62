"""Proving that a heatmap file, whoever wrote it, is what training takes it for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pgfl.errors import UserError
from pgfl.pose.origin import advice
from pgfl.pose.store import HeatmapReader
from pgfl.runtime.messages import few

TOLERANCE = 1e-3
"""How far the sum of a decoded map may be from one."""
BLOCK = 256


def check_store(path: Path, images: Sequence[str]) -> None:
    """Check every row of a file against the manifest's names and the format.

    Args:
        path: an HDF5 file as docs/heatmaps.md describes it.
        images: the manifest's image names of its split, in order.

    Raises:
        UserError: everything that is wrong, a line each; images with the same fault are named,
            the first ten of them.
    """
    open_store(path, images)


def open_store(path: Path, images: Sequence[str]) -> HeatmapReader:
    """A reader of a file that `check_store` finds in order; what uses maps opens them by this.

    The file itself is closed: worker processes forked later must not share its handle.
    """
    reader = HeatmapReader(path)
    reader.require(images)
    problems = _contents(reader, images)
    reader.close()
    if problems:
        problems[-1] += f"; {advice(path)}"
        raise UserError("\n".join(f"{path}: {problem}" for problem in problems))
    return reader


def _contents(reader: HeatmapReader, images: Sequence[str]) -> list[str]:
    """What is wrong with the values."""
    faults: dict[str, list[int]] = {}
    confidence = reader.confidence()
    for start in range(0, len(images), BLOCK):
        maps = reader.read(slice(start, start + BLOCK))
        finite = np.isfinite(maps).all(axis=(1, 2, 3))
        sums = np.abs(maps.sum(axis=(2, 3), dtype=np.float64) - 1).max(axis=1)
        # Rounding of float32 may leave a tiny value below zero.
        found = {
            "a map holds NaN or infinity": ~finite,
            "a map is negative": finite & (maps.min(axis=(1, 2, 3)) < -1e-6),
            f"a map's sum is more than {TOLERANCE} from one": finite & (sums > TOLERANCE),
            "confidence holds NaN or infinity": ~np.isfinite(
                confidence[start : start + BLOCK]
            ).all(axis=1),
        }
        for fault, rows in found.items():
            faults.setdefault(fault, []).extend((start + np.flatnonzero(rows)).tolist())
    return [
        f"{fault}: {len(rows)} images, the first is row {rows[0]}: "
        f"{', '.join(few([images[row] for row in rows]))}"
        for fault, rows in faults.items()
        if rows
    ]
