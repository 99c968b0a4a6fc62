"""`features.npz`: the features of a folder's images, readable by plain NumPy, without pickle.

    with numpy.load("features.npz") as file:
        names, features = file["names"], file["features"]

| array | |
| --- | --- |
| `features` | float32 (N, d), each row of length one; or (N, K, c), K vectors per image |
| `visibility` | float32 (N, K) in [0, 1], how far each part is seen; only beside (N, K, c) |
| `names` | text (N,), paths below `folder`, sorted |
| `folder` | text, where the names started from when they were embedded |
| `model_sha256` | text, of the student's file |
| `precision` | text, the precision they were computed in |
| `unreadable` | text (M,), what looks like images or folders of them and could not be read |
| `reasons` | text (M,), why |

Names are UTF-8 whatever the system's own encoding of file names is.
"""

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.lib import format as npy

from pgfl.errors import UserError
from pgfl.nn.embedding import Embedding
from pgfl.runtime.files import whole_file
from pgfl.runtime.messages import shown, shown_key

FEATURES = "features"
TEXTS = ("folder", "model_sha256", "precision")
ZIP_NAME_LENGTHS = 26
"""Where in a member's local header the lengths of its name and extra fields stand."""
NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""In a name: what no path may hold, and what stands for bytes that are not UTF-8."""
CHUNK_BYTES = 64 * 2**20
"""How much of the features is read at a time."""


@dataclass(frozen=True)
class FeaturesFile:
    """What such a file holds, less the features: these are read piece by piece."""

    path: Path
    names: np.ndarray
    folder: Path
    model_sha256: str
    precision: str
    unreadable: tuple[str, ...]
    reasons: tuple[str, ...]
    """One for each of `unreadable`; empty texts in files that say none."""
    channels: int
    """The length of a vector."""
    parts: int | None = None
    """Vectors per image; None where the features are (N, d)."""
    visibility: np.ndarray | None = None
    """float32 (N, K)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image's features."""
        return (self.channels,) if self.parts is None else (self.parts, self.channels)

    def image(self, row: int) -> Path:
        """Where an image lies, or lay.

        Raises:
            UserError: it has a name that `pgfl embed` does not write. A stranger's file must not
                put any picture of this machine onto a page that is sent on.
        """
        name = str(self.names[row])
        if wrong := wrong_name(name):
            raise UserError(f"{self.path}: the name {shown(name)} {wrong}; embed again")
        return self.folder / local_name(name)

    def chunks(self, rows: int | None = None) -> Iterator[Embedding]:
        """The features in order, some rows at a time; memory does not grow with their number.

        Args:
            rows: in a piece; None for about 64 MiB.

        Yields:
            float32 (n, d) or (n, K, c), overwritten by the next one, with its visibility.

        Raises:
            UserError: the file is damaged.
        """
        rows = rows or max(1, CHUNK_BYTES // (4 * math.prod(self.shape)))
        room = np.empty((min(rows, len(self.names)), *self.shape), dtype=np.float32)
        try:
            with _Stored(self.path) as stored:
                for start in range(0, len(self.names), rows):
                    piece = room[: len(self.names) - start]
                    stored.fill(piece)
                    yield Embedding(piece, self._seen(slice(start, start + rows)))
                stored.check()
        except Exception as error:  # see read_features_file
            raise _damaged(self.path, error) from None

    def _seen(self, rows: slice) -> np.ndarray | None:
        return None if self.visibility is None else self.visibility[rows]

    def load(self) -> Embedding:
        """All features at once: float32 (N, d) or (N, K, c).

        Raises:
            UserError: the file is damaged.
        """
        features = np.empty((len(self.names), *self.shape), dtype=np.float32)
        start = 0
        for piece in self.chunks():
            features[start : start + len(piece)] = piece.vectors
            start += len(piece)
        return Embedding(features, self.visibility)


class _Stored:
    """The bytes of the features within the zip file.

    They are stored as they are, and read without zipfile, which would copy them several times:
    reading takes longer than the search itself.
    """

    def __init__(self, path: Path):
        with zipfile.ZipFile(path) as archive:
            self.info = archive.getinfo(f"{FEATURES}.npy")
        if self.info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("features are compressed")
        self.file = path.open("rb")
        self.file.seek(self.info.header_offset + ZIP_NAME_LENGTHS)
        # The local header ends with a name and extra fields of lengths of its own.
        lengths = struct.unpack("<2H", self.file.read(4))
        self.file.seek(sum(lengths), io.SEEK_CUR)
        start = self.file.tell()
        self.shape = _header(self.file)
        size = self.file.tell() - start
        if min(self.shape) < 1:
            raise ValueError(f"features are {' x '.join(map(str, self.shape))}")
        if os.fstat(self.file.fileno()).st_size < start + size + 4 * math.prod(self.shape):
            raise ValueError("it ends too early")
        self.file.seek(start)
        self.checksum = zlib.crc32(self.file.read(size))

    def fill(self, array: np.ndarray) -> None:
        """Read the next rows into an array."""
        if self.file.readinto(memoryview(array).cast("B")) < array.nbytes:
            raise ValueError("it ends too early")
        self.checksum = zlib.crc32(array, self.checksum)

    def check(self) -> None:
        """After the last row: whether all bytes were those that were written."""
        if self.checksum != self.info.CRC:
            raise ValueError("wrong checksum")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def read_features_file(path: Path) -> FeaturesFile:
    """Open a file that `write_features_file` has written.

    Raises:
        UserError: missing, damaged, or something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as content:
            names, unreadable = (_texts(content[key], 1) for key in ("names", "unreadable"))
            # Older files say no reasons.
            reasons = content["reasons"] if "reasons" in content else np.full(len(unreadable), "")
            reasons = _texts(reasons, 1)
            visibility = content.get("visibility")
            folder, model_sha256, precision = (str(_texts(content[key], 0)) for key in TEXTS)
        if "\0" in folder:
            raise ValueError("its folder is no path")
        folder = Path(local_name(folder))
        with _Stored(path) as stored:
            count, *parts, channels = stored.shape
    except KeyError as error:
        raise UserError(f"{path}: not written by `pgfl embed` ({error.args[0]})") from None
    except Exception as error:  # zip, zlib and NumPy raise many kinds for a damaged file
        raise _damaged(path, error) from None
    if len(names) != count:
        raise _damaged(path, f"{len(names)} names, {count} features")
    if visibility is not None and (
        visibility.dtype != np.float32 or visibility.shape != (count, *parts) or not parts
    ):
        said = f"visibility is {visibility.dtype} {visibility.shape}"
        raise _damaged(path, f"{said}, features are {(count, *parts, channels)}")
    if len(reasons) != len(unreadable):
        raise _damaged(path, f"{len(unreadable)} unreadable, {len(reasons)} reasons")
    return FeaturesFile(
        path=path,
        names=names,
        folder=folder,
        model_sha256=model_sha256,
        precision=precision,
        unreadable=tuple(map(str, unreadable)),
        reasons=tuple(map(str, reasons)),
        channels=channels,
        parts=parts[0] if parts else None,
        visibility=visibility,
    )


def wrong_name(name: str) -> str:
    """What is wrong with an image's name below its folder; empty if nothing is."""
    if name.startswith("/") or ".." in name.split("/"):
        return "leads out of the folder"
    # There, `a\..\..\b` and `c:b` are paths; elsewhere they are plain names.
    if os.name == "nt" and re.search(r"[\\:]", name):
        return "leads out of the folder"
    if NO_TEXT.search(name):
        return "is not UTF-8"
    return ""


def stored_name(path: Path | str) -> str:
    """A path as it is stored and printed: UTF-8, other bytes as surrogates.

    Python reads file names in the locale's encoding: in ASCII, `ë` would be two unknown bytes.
    """
    return os.fsencode(path).decode(errors="surrogateescape")


def local_name(name: str) -> str:
    """The same name as this process opens it; the inverse of `stored_name`."""
    return os.fsdecode(name.encode(errors="surrogateescape"))


def printed(path: Path | str) -> str:
    """A path to show; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def write_features_file(
    path: Path,
    names: list[str],
    channels: int,
    pieces: Iterable[np.ndarray | Embedding],
    texts: dict[str, str],
    unreadable: dict[str, str],
    parts: int | None = None,
) -> None:
    """Write such a file whole, with no more than one piece in memory.

    Args:
        path: the file.
        names: of all rows.
        channels: the length of a vector.
        pieces: float32 (n, channels) each, together as many rows as names; with `parts`
            embeddings (n, parts, channels), all with visibilities in [0, 1] or none.
        texts: `folder`, `model_sha256` and `precision`.
        unreadable: for each name of what was left out, why.
        parts: vectors per image; None writes the plain (N, channels).

    Raises:
        ValueError: the pieces together are not of that shape, or only some have visibilities.
            No file is written then.
    """
    shape = (len(names), channels) if parts is None else (len(names), parts, channels)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    seen: list[np.ndarray] = []
    rows = 0
    small = {key: np.array(texts[key]) for key in TEXTS}
    lists = {"names": names, "unreadable": [*unreadable], "reasons": [*unreadable.values()]}
    small |= {key: _text_array(texts) for key, texts in lists.items()}
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in small.items():
            with _member(archive, name) as file:
                npy.write_array(file, array, allow_pickle=False)
        with _member(archive, FEATURES) as file:
            npy.write_array_header_1_0(file, header)
            for piece in map(_embedding, pieces):
                if piece.shape[1:] != shape[1:]:
                    raise ValueError(f"features of {piece.shape[1:]}, but the file's are {shape}")
                file.write(np.ascontiguousarray(piece.vectors, dtype="<f4").data)
                seen += [] if piece.visibility is None else [piece.visibility]
                rows += len(piece)
        if rows != len(names) or sum(map(len, seen)) not in (0, rows):
            raise ValueError(
                f"{len(names)} names, {rows} features, {sum(map(len, seen))} visibilities"
            )
        if seen:
            with _member(archive, "visibility") as file:
                npy.write_array(file, np.concatenate(seen).astype("<f4"), allow_pickle=False)


def _embedding(piece: np.ndarray | Embedding) -> Embedding:
    return piece if isinstance(piece, Embedding) else Embedding(piece)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    # Without a date, so that equal features make equal files.
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


def _text_array(texts: list[str]) -> np.ndarray:
    return np.array(texts, dtype=str) if texts else np.empty(0, dtype="<U1")


def _texts(array: np.ndarray, dimensions: int) -> np.ndarray:
    if array.dtype.kind != "U" or array.ndim != dimensions:
        raise ValueError(f"{array.dtype} {array.shape} where text belongs")
    return array


def _header(file: IO[bytes]) -> tuple[int, ...]:
    """(N, d) or (N, K, c), by the header; `file` then stands at the first number."""
    if npy.read_magic(file) != (1, 0):
        raise ValueError("an unknown version of npy")
    shape, fortran, kind = npy.read_array_header_1_0(file)
    if fortran or kind != np.dtype("<f4") or len(shape) not in (2, 3):
        raise ValueError(f"features are {kind} {shape}")
    return shape


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(
        f"{path}: not a file of features, or damaged ({shown_key(reason)}); embed again"
    )
