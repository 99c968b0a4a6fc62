"""Zip archives that somebody else made: unsafe ones are refused before a byte is written."""

import lzma
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EINVAL
from pathlib import Path, PurePosixPath

from pgfl.errors import UserError

MAX_BYTES = 20 << 30
"""More than any of these data sets unpacks to; an archive that declares more is a zip bomb."""
MAX_FILES = 200_000
"""Five times as many as the largest of them has."""
MAX_RATIO = 200
"""Photographs hardly shrink; a member that grows more than this when unpacked is no photograph."""
BOMB_FLOOR = 1 << 20
"""Bytes below which no member is suspected, however well it shrinks (empty text files do)."""
MAX_NAME = 255
"""Bytes that file systems take in one part of a path; the whole may have sixteen times as many."""

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    NotImplementedError,
    RuntimeError,  # encrypted
    UnicodeError,
    ValueError,
    OverflowError,
)
"""What the standard library raises at a damaged archive."""


@contextmanager
def opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """An archive to read; whatever is wrong with its bytes becomes one line.

    Raises:
        UserError: no such file, not a zip, or damaged.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            yield packed
    except FileNotFoundError:
        raise UserError(f"{archive}: no such file") from None
    except DAMAGED as error:
        raise UserError(f"{archive}: damaged or not a zip archive ({error})") from None
    except OSError as error:
        # Bad bzip2 data, or a place before the file's beginning: an error, but not the system's.
        if error.errno in (None, EINVAL):
            raise UserError(f"{archive}: damaged ({error})") from None
        raise


def check_members(archive: Path, members: Sequence[zipfile.ZipInfo], target: Path) -> None:
    """Refuse unsafe names, links, devices and bombs from the directory alone.

    Args:
        archive: named in messages.
        members: what is to be unpacked.
        target: where to; need not exist yet.

    Raises:
        UserError: listing every offending member, at most ten by name.
    """
    if len(members) > MAX_FILES:
        raise UserError(f"{archive}: refused, {len(members)} files (allowed: {MAX_FILES})")
    wrong = [f"{m.filename!r} ({why})" for m in members if (why := _unsafe(m))]
    wrong += [f"{name!r} (stands for two files)" for name in _clashing(members)]
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(f"{archive}: refused, unsafe members: {', '.join(wrong[:10])}{more}")
    if sum(member.compress_size for member in members) > archive.stat().st_size:
        raise UserError(f"{archive}: refused, its members overlap (a zip bomb)")
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise UserError(f"{archive}: refused, unpacks to {total} bytes (allowed: {MAX_BYTES})")
    free = shutil.disk_usage(_existing(target)).free
    if total > free:
        raise UserError(f"{archive}: needs {total} bytes of disk, {free} are free")


def _unsafe(member: zipfile.ZipInfo) -> str:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        return "leads outside the folder"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "a link" if stat.S_ISLNK(member.external_attr >> 16) else "a device"
    sizes = [len(part.encode(errors="surrogateescape")) for part in path.parts]
    if max(sizes) > MAX_NAME or sum(sizes) > 16 * MAX_NAME or not member.filename.isprintable():
        return "a name that file systems refuse"
    if member.file_size > MAX_RATIO * max(member.compress_size, 1) + BOMB_FLOOR:
        return "a zip bomb"
    return ""


def _clashing(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Names that would fall together on some file system, or are a file and a folder at once."""
    names = [unicodedata.normalize("NFC", m.filename).casefold() for m in members]
    parts = [PurePosixPath(name.replace("\\", "/")) for name in names]
    files = Counter(parts)
    folders = {parent for path in parts for parent in path.parents}
    return [str(path) for path, count in files.items() if count > 1 or path in folders]


def _existing(path: Path) -> Path:
    """The nearest folder at or above `path` that exists."""
    return path if path.is_dir() else _existing(path.parent)
