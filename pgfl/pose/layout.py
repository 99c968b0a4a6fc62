"""What a heatmap file must hold, whoever wrote it, and what it must not."""

import json

import h5py
import numpy as np

from pgfl.pose.keypoints import GROUPS, KEYPOINTS

FORMAT_VERSION = 1
MOST_CELLS = 4096
"""Rows or columns of a map; a larger number is damage."""


def layout_problems(file: h5py.File, count: int | None = None) -> list[str]:
    """What is wrong with attributes, data sets, shapes and types: one line a finding.

    Nothing is read but the file's directory, so a size that damage made up costs no memory.

    Args:
        file: open for reading.
        count: the number of images, or None to take the file's own word for it.
    """
    problems = []
    if file.attrs.get("format_version") != FORMAT_VERSION:
        problems.append(f"attribute format_version is not {FORMAT_VERSION}")
    if file.attrs.get("groups") != json.dumps(GROUPS):
        problems.append(f"attribute groups is not {json.dumps(GROUPS)}")
    maps, names = _dataset(file, "heatmaps"), _dataset(file, "image")
    if count is None and names is not None and names.ndim == 1:
        count = len(names)
    parts, keypoints = len(GROUPS), len(KEYPOINTS)
    shapes = {"image": (count,), "confidence": (count, keypoints)}
    if maps is not None and maps.dtype == np.uint8:
        shapes["affine"] = (count, parts, 2)
    elif maps is not None and maps.dtype.kind != "f":
        problems.append(f"/heatmaps holds {maps.dtype}, neither uint8 codes nor floating point")
    if _dataset(file, "usable") is not None:
        shapes["usable"] = (count,)
    for name, shape in shapes.items():
        problems += _table_problems(file, name, shape)
    if maps is None:
        problems.append("/heatmaps is missing")
    elif maps.ndim != 4 or maps.shape[:2] != (count, parts) or 0 in maps.shape:
        problems.append(f"/heatmaps has shape {maps.shape}, expected ({count}, {parts}, h, w)")
    elif max(maps.shape[2:]) > MOST_CELLS:
        problems.append(f"/heatmaps has shape {maps.shape}, more than {MOST_CELLS} cells a side")
    if names is not None and h5py.check_string_dtype(names.dtype) is None:
        problems.append("/image does not hold text")
    return problems + [f"/{name} lies in another file" for name in file if _is_outside(file, name)]


def _table_problems(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> list[str]:
    """What is wrong with a data set that is read whole."""
    found = _dataset(file, name)
    if found is None:
        return [f"/{name} is missing"]
    if found.shape != shape:
        return [f"/{name} has shape {found.shape}, expected {shape}"]
    if name != "image" and found.dtype.kind not in "fu":
        return [f"/{name} holds {found.dtype}, not numbers"]
    # These tables are not compressed, or hardly: they cannot be larger than the file.
    if found.nbytes > COMPRESSION * file.id.get_filesize():
        return [f"/{name} has shape {found.shape}, more than the file can hold"]
    return []


COMPRESSION = 1100
"""More than deflate can ever save."""


def _dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    if _is_outside(file, name):
        return None
    found = file.get(name)
    return found if isinstance(found, h5py.Dataset) else None


def _is_outside(file: h5py.File, name: str) -> bool:
    """Whether a name leads to another file's bytes: a heatmap file must stand for itself."""
    link = file.get(name, getlink=True)
    if link is None:
        return False
    if not isinstance(link, h5py.HardLink):
        return True
    found = file.get(name)
    return isinstance(found, h5py.Dataset) and (found.is_virtual or bool(found.external))
