"""Proving that a heatmap file, whoever wrote it, is what training takes it for."""

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from pgfl.errors import UserError
from pgfl.pose.keypoints import GROUPS, KEYPOINTS
from pgfl.pose.store import DAMAGED, FORMAT_VERSION, HeatmapReader, check_seal

TOLERANCE = 1e-3
"""How far the sum of a decoded map may be from one."""
BLOCK = 256


def check_store(path: Path, images: Sequence[str]) -> None:
    """Check every row of a file against the manifest's names and the format.

    Args:
        path: an HDF5 file as docs/heatmaps.md describes it.
        images: the manifest's image names of its split, in order.

    Raises:
        UserError: everything that is wrong, a line each; rows with the same fault are counted
            and the first is named.
    """
    check_seal(path)
    try:
        with h5py.File(path, "r") as file:
            problems = _structure(file, len(images))
    except OSError as error:
        raise UserError(f"{path}: not a heatmap file, or damaged ({error}); {DAMAGED}") from None
    if not problems:
        reader = HeatmapReader(path)
        reader.require(images)
        try:
            problems = _contents(reader, images)
        except OSError as error:
            problems = [f"cannot be read to the end ({error})"]
    if problems:
        raise UserError("\n".join(f"{path}: {problem}" for problem in problems))


def _structure(file: h5py.File, count: int) -> list[str]:
    """What is wrong with attributes, data sets, shapes and types."""
    problems = []
    if file.attrs.get("format_version") != FORMAT_VERSION:
        problems.append(f"attribute format_version is not {FORMAT_VERSION}")
    if file.attrs.get("groups") != json.dumps(GROUPS):
        problems.append(f"attribute groups is not {json.dumps(GROUPS)}")
    maps = _dataset(file, "heatmaps")
    parts, keypoints = len(GROUPS), len(KEYPOINTS)
    shapes = {"image": (count,), "confidence": (count, keypoints)}
    if maps is not None and maps.dtype == np.uint8:
        shapes["affine"] = (count, parts, 2)
    elif maps is not None and maps.dtype.kind != "f":
        problems.append(f"/heatmaps holds {maps.dtype}, neither uint8 codes nor floating point")
    if _dataset(file, "usable") is not None:
        shapes["usable"] = (count,)
    for name, shape in shapes.items():
        found = _dataset(file, name)
        if found is None:
            problems.append(f"/{name} is missing")
        elif found.shape != shape:
            problems.append(f"/{name} has shape {found.shape}, expected {shape}")
    if maps is None:
        problems.append("/heatmaps is missing")
    elif maps.ndim != 4 or maps.shape[:2] != (count, parts) or 0 in maps.shape:
        problems.append(f"/heatmaps has shape {maps.shape}, expected ({count}, {parts}, h, w)")
    names = _dataset(file, "image")
    if names is not None and h5py.check_string_dtype(names.dtype) is None:
        problems.append("/image does not hold text")
    return problems


def _dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    found = file.get(name)
    return found if isinstance(found, h5py.Dataset) else None


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
        f"{fault}: {len(rows)} images, the first is row {rows[0]}, {images[rows[0]]}"
        for fault, rows in faults.items()
        if rows
    ]
