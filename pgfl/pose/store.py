"""The heatmap cache: one HDF5 file for each split of each data set.

    /image       (N,)          the manifest's image names of the split, in the same order
    /heatmaps    (N, 8, h, w)  uint8 codes, or floating-point values
    /affine      (N, 8, 2)     float32: offset and step of each map; only with codes
    /confidence  (N, 17)       float32: HRNet's peak response for each keypoint, before softmax
    /usable      (N,)          uint8: 0 where the photograph could not be used and the maps are
                               flat; may be missing

A map of codes decodes as `offset + step * code`. The offset is chosen so that the decoded map sums
to one: it gives back, evenly, the mass of all the small values that fell below one step. Without
it the background's mass would be lost, or pushed onto the peak.

Files of ours begin with a user block (which HDF5 skips) that holds the sha256 of all the rest:
HDF5 itself notices few of the flipped bits, and may hang or crash on others.

docs/heatmaps.md documents the format for those who write it with another estimator.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from pgfl.errors import UserError
from pgfl.pose.blocks import Block
from pgfl.pose.keypoints import GROUPS
from pgfl.pose.layout import FORMAT_VERSION, layout_problems
from pgfl.pose.origin import MADE_AGAIN, USER_BLOCK, advice, is_intact, is_sealed, user_block
from pgfl.pose.probe import probe

MEBI = 2**20

DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError, OverflowError)
"""What h5py raises at a damaged file."""


@contextmanager
def damage_said(path: Path) -> Iterator[None]:
    """Reading a heatmap file; what h5py says of a damaged one becomes one line.

    Raises:
        UserError: it cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such heatmap file") from None
    except DAMAGE as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: not a heatmap file, or damaged ({why}); {advice(path)}"
        ) from None


def encode(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise normalised maps to bytes.

    Args:
        heatmaps: float32 (N, K, h, w), not negative, each map summing to one.

    Returns:
        Codes, uint8 (N, K, h, w), and (offset, step), float32 (N, K, 2). Every decoded value is
        within one step of the true one, and a step is 1/255 of the map's range.
    """
    maps = heatmaps.astype(np.float64)
    low, high = maps.min(axis=(2, 3), keepdims=True), maps.max(axis=(2, 3), keepdims=True)
    step = np.maximum(high - low, np.finfo(np.float32).tiny) / 255
    exact = (maps - low) / step
    codes = np.rint(exact)
    # Where rounding went up so much that the offset would be negative, round down instead.
    negative = _offset(maps, codes, step) < 0
    codes = np.where(negative, np.floor(exact), codes)
    affine = np.concatenate([_offset(maps, codes, step), step], axis=3)[:, :, 0]
    return codes.astype(np.uint8), affine.astype(np.float32)


def _offset(maps: np.ndarray, codes: np.ndarray, step: np.ndarray) -> np.ndarray:
    return (maps - step * codes).mean(axis=(2, 3), keepdims=True)


def decode(codes: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Maps (..., h, w) float32, each summing to one, from codes and (offset, step) (..., 2)."""
    offset, step = affine[..., 0, None, None], affine[..., 1, None, None]
    return codes.astype(np.float32) * step + offset


class HeatmapWriter:
    """Fills a store block by block."""

    def __init__(
        self, path: Path, images: Sequence[str], size: tuple[int, int], attributes: dict[str, Any]
    ):
        """Create the file.

        Args:
            path: a new file.
            images: the manifest's image names, in its order.
            size: (h, w) of the maps.
            attributes: estimator, checkpoint sha256, input size, softmax scale.
        """
        count, parts = len(images), len(GROUPS)
        # Made in memory and written at the end: HDF5 ends the process when the disk runs full.
        self._path = path
        self._estimator = str(attributes.get("estimator", ""))
        memory = {"driver": "core", "backing_store": False, "block_size": MEBI}
        self._file = h5py.File(path, "w", userblock_size=USER_BLOCK, **memory)
        self._file.attrs.update(attributes)
        self._file.attrs["format_version"] = FORMAT_VERSION
        self._file.attrs["groups"] = json.dumps(GROUPS)
        self._file["image"] = np.array(images, dtype=h5py.string_dtype())
        self._codes = self._file.create_dataset(
            "heatmaps",
            (count, parts, *size),
            "uint8",
            chunks=(1, parts, *size),  # training reads single images, in any order
            compression="gzip",
            shuffle=False,
        )
        self._affine = self._file.create_dataset("affine", (count, parts, 2), "float32")
        self._confidence = self._file.create_dataset("confidence", (count, 17), "float32")
        self._usable = self._file.create_dataset("usable", (count,), "uint8")

    def write(self, start: int, heatmaps: np.ndarray, confidence: np.ndarray) -> None:
        """Store normalised maps (n, 8, h, w) and confidences (n, 17) from row `start` on."""
        usable = np.ones(len(heatmaps), dtype=bool)
        self.write_block(start, Block(*encode(heatmaps), confidence, usable))

    def write_block(self, start: int, block: Block) -> None:
        """The same with maps that `encode` has encoded."""
        rows = slice(start, start + len(block.codes))
        self._codes[rows], self._affine[rows] = block.codes, block.affine
        self._confidence[rows], self._usable[rows] = block.confidence, block.usable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._file.flush()
        content = self._file.id.get_file_image()
        self._file.close()
        if failure is None:
            with self._path.open("wb") as file:
                file.write(user_block(content, self._estimator))
                file.write(content)


def check_seal(path: Path) -> None:
    """Compare a file with the checksum in its user block; one without is read by way of trial.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return  # said by who opens it
    with damage_said(path):
        sealed = is_sealed(path)
    if not sealed:
        probe(path)
    elif not is_intact(path):
        raise UserError(f"{path}: damaged: its checksum is wrong; {MADE_AGAIN}")


class HeatmapReader:
    """Reads a store; opens the file at the first read, so each worker process has its own."""

    def __init__(self, path: Path):
        self.path = path
        self._checked = False
        self._file: h5py.File | None = None
        # Looked up once: that takes longer than reading an image's maps.
        self._heatmaps: h5py.Dataset | None = None
        self._affine: np.ndarray | None = None

    def _open(self) -> h5py.File:
        if self._file is None:
            if not self._checked:
                check_seal(self.path)
                self._checked = True
            with damage_said(self.path):
                file = h5py.File(self.path, "r")
                if problems := layout_problems(file):
                    file.close()
                    raise UserError("\n".join(f"{self.path}: {one}" for one in problems))
                self._file, self._heatmaps = file, file["heatmaps"]
                self._affine = file["affine"][:] if "affine" in file else None
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        closed = {"_file": None, "_heatmaps": None, "_affine": None}
        return {"path": self.path, "_checked": self._checked, **closed}

    def images(self) -> list[str]:
        """The image names, in the order of the rows."""
        with damage_said(self.path):
            return [name.decode() for name in self._open()["image"][:]]

    def attributes(self) -> dict[str, Any]:
        """Estimator, checkpoint, scale and the rest."""
        with damage_said(self.path):
            return dict(self._open().attrs)

    def __len__(self) -> int:
        return len(self._open()["image"])

    def __getitem__(self, row: int) -> np.ndarray:
        """The eight maps of one image: float32 (8, h, w), each summing to one."""
        return self.read(row)

    def read(self, rows: int | slice) -> np.ndarray:
        """The maps of one image (8, h, w) or of several (n, 8, h, w), float32."""
        self._open()
        with damage_said(self.path):
            stored = self._heatmaps[rows]
        if self._affine is None:
            return stored.astype(np.float32)
        return decode(stored, self._affine[rows])

    def confidence(self) -> np.ndarray:
        """HRNet's peak responses: float32 (N, 17)."""
        with damage_said(self.path):
            return self._open()["confidence"][:]

    def usable(self) -> np.ndarray:
        """Whether each image could be used: bool (N,); all where the file does not say."""
        file = self._open()
        with damage_said(self.path):
            return file["usable"][:] != 0 if "usable" in file else np.ones(len(self), dtype=bool)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = self._heatmaps = self._affine = None

    def require(self, images: Sequence[str]) -> None:
        """Raise UserError unless the rows are exactly these images, in this order, undamaged.

        Closes the file again: worker processes forked later must not share its handle.
        """
        own = self.images()
        self.close()
        if own == list(images):
            return
        hint = f"it was made for another manifest; {advice(self.path)}"
        if len(own) != len(images):
            raise UserError(
                f"{self.path}: holds {len(own)} images, the manifest {len(images)}: {hint}"
            )
        row = next(i for i, (a, b) in enumerate(zip(own, images, strict=True)) if a != b)
        raise UserError(
            f"{self.path}: row {row} is {own[row]}, the manifest has {images[row]}: {hint}"
        )
