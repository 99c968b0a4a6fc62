"""Zip and tar archives that somebody else made: unsafe ones are refused before a byte is written.

Links and devices are never made: a tar's hard link becomes a file with the content of the member
that it stands for, and all else that is no plain file is refused.
"""

import bz2
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from pgfl.errors import UserError

MAX_BYTES = 20 << 30
"""More than any of these data sets unpacks to; an archive that declares more is a bomb."""
MAX_FILES = 200_000
"""Five times as many as the largest of them has."""
MAX_RATIO = 200
"""Photographs hardly shrink; a member that grows more than this when unpacked is no photograph."""
BOMB_FLOOR = 1 << 20
"""Bytes below which no member is suspected, however well it shrinks (empty text files do)."""
MAX_NAME = 255
"""Bytes that file systems take in one part of a path; the whole may have sixteen times as many."""
BLOCK = 1 << 20
MAX_TAIL = 16 << 20
"""Bytes that may follow a tar's last member; `tar` itself fills up to some ten thousand."""

SUFFIXES = (
    *(".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz"),
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.lzma"),
)
"""What names of archives end with that can be read here."""

COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""How the file of a compressed tar begins, and what reads it."""
FOREIGN = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7-Zip archive", b"\x28\xb5\x2f\xfd": "zstd"}
"""How files begin that Python cannot unpack."""

WAY_OUT = "get it again, or unpack it yourself and name the folder (archives.files)"

DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
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


@dataclass(frozen=True)
class Member:
    """A file in an archive, as its directory describes it."""

    name: str
    """Its path with forward slashes; Windows programs may have written backslashes."""
    size: int
    """Bytes, unpacked."""
    packed: int | None
    """Bytes in the archive; None where only all members together are compressed."""
    wrong: str
    """Why it is no plain file, or nothing."""
    raw: Any
    """The library's own description."""


class Packed(Protocol):
    """An archive that is open."""

    members: Sequence[Member]
    """Its files; folders are left out."""

    def open(self, member: Member) -> IO[bytes]:
        """The content of a member, to be read in pieces."""

    def finish(self) -> None:
        """Read what follows the last member, so that its checksums are compared, too."""


class ZipPacked:
    """A zip. Every member has a checksum, which reading compares."""

    def __init__(self, packed: zipfile.ZipFile):
        """List the members."""
        self._packed = packed
        self.members = [
            Member(
                info.filename.replace("\\", "/"),
                info.file_size,
                info.compress_size,
                _kind(info.external_attr >> 16),
                info,
            )
            for info in packed.infolist()
            if not info.filename.endswith(("/", "\\"))
        ]

    def open(self, member: Member) -> IO[bytes]:
        """The content of a member, to be read in pieces."""
        return self._packed.open(member.raw)

    def finish(self) -> None:
        """Nothing: a zip's directory is its end."""


class Bounded:
    """A stream that is never asked for much at once: tarfile keeps whole headers in memory."""

    def __init__(self, stream: IO[bytes]):
        """Read from a stream, which must be able to seek."""
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes.

        Raises:
            tarfile.ReadError: more are asked for than any part of an honest tar needs.
        """
        if not 0 <= size <= BLOCK:
            raise tarfile.ReadError("a header of an impossible size")
        return self._stream.read(size)


class TarPacked:
    """A tar, compressed or not. Only a compressed one has checksums of its content."""

    def __init__(self, stream: IO[bytes], archive: Path):
        """List the members; a compressed tar is read once for that.

        Raises:
            UserError: too many members, or more bytes than so small an archive can hold.
        """
        self._stream = Bounded(stream)
        self._tar = tarfile.TarFile(fileobj=self._stream)  # type: ignore[arg-type]
        self.members: list[Member] = []
        limit = min(MAX_BYTES, MAX_RATIO * archive.stat().st_size + BOMB_FLOOR)
        plain: dict[str, tarfile.TarInfo] = {}
        total = 0
        # One by one: a bomb's first header is enough, its content need not be passed over.
        for number, info in enumerate(self._tar, start=1):
            content = plain.get(info.linkname, info) if info.islnk() else info
            total += content.size
            if number > MAX_FILES:
                raise UserError(f"{archive}: refused, more than {MAX_FILES} files")
            if total > limit:
                raise UserError(f"{archive}: refused, unpacks to more than {limit} bytes (a bomb)")
            if info.isdir():
                continue
            if content.isreg() and not content.issparse():
                plain[info.name] = content
                wrong = ""
            else:
                wrong = "a device" if not (info.issym() or info.islnk()) else "a link"
            self.members.append(Member(info.name, content.size, None, wrong, content))
        # tarfile takes a damaged header for the end.
        self._stream.seek(self._tar.offset)
        if self._stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end is missing, or a header is damaged")

    def open(self, member: Member) -> IO[bytes]:
        """The content of a member, to be read in pieces."""
        content = self._tar.extractfile(member.raw)
        assert content is not None, "no plain file"
        return content

    def finish(self) -> None:
        """Read to the end, where compressed files have their checksum."""
        self._stream.seek(self._tar.offset)
        for _ in range(MAX_TAIL // BLOCK):
            if not self._stream.read(BLOCK):
                return
        raise tarfile.ReadError("something follows its end")


@contextmanager
def opened(archive: Path) -> Iterator[Packed]:
    """An archive to read; whatever is wrong with its bytes becomes one line.

    Raises:
        UserError: no such file, neither zip nor tar, or damaged.
    """
    with _stream_of(archive) as found:
        is_zip = isinstance(found, zipfile.ZipFile)
        yield ZipPacked(found) if is_zip else TarPacked(found, archive)


def names_in(archive: Path) -> Iterator[str]:
    """The members' names, one by one: of a tar no more is read than is asked for.

    Raises:
        UserError: as `opened`.
    """
    with _stream_of(archive) as found:
        if isinstance(found, zipfile.ZipFile):
            yield from found.namelist()
        else:
            yield from (info.name for info in tarfile.TarFile(fileobj=Bounded(found)))


@contextmanager
def _stream_of(archive: Path) -> Iterator[zipfile.ZipFile | IO[bytes]]:
    """A zip, or the stream of a tar; errors of the libraries become one line."""
    try:
        with archive.open("rb") as file:
            beginning = file.read(tarfile.BLOCKSIZE)
            for start, kind in FOREIGN.items():
                if beginning.startswith(start):
                    raise UserError(
                        f"{archive}: {kind}, which cannot be read here: unpack it yourself and "
                        "name the folder (archives.files)"
                    )
            # A zip may lie within a tar, uncompressed.
            is_tar = beginning[257:262] == b"ustar"
            if beginning.startswith(b"PK") or (not is_tar and zipfile.is_zipfile(file)):
                with zipfile.ZipFile(file) as packed:
                    yield packed
                return
            file.seek(0)
            unpack = next(
                (f for start, f in COMPRESSED.items() if beginning.startswith(start)), None
            )
            with unpack(file) if unpack else file as stream:
                yield stream
    except FileNotFoundError:
        raise UserError(f"{archive}: no such file") from None
    except DAMAGED as error:
        raise UserError(
            f"{archive}: damaged, or neither a zip nor a tar archive ({error}): {WAY_OUT}"
        ) from None
    except OSError as error:
        # Bad gzip or bzip2 data, or a place before the file's beginning: not the system's error.
        if error.errno in (None, EINVAL):
            raise UserError(f"{archive}: damaged ({error}): {WAY_OUT}") from None
        raise


def unpack(archive: Path, target: Path) -> int:
    """Unpack a whole archive into a folder that exists.

    Returns:
        The number of files written.

    Raises:
        UserError: neither zip nor tar, damaged, unsafe members, too large, or no space left.
    """
    with opened(archive) as packed:
        if not packed.members:
            raise UserError(f"{archive}: holds no files")
        check_members(archive, packed.members, target)
        for member in packed.members:
            path = target / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as content, path.open("wb") as file:
                shutil.copyfileobj(content, file, BLOCK)
            # A tar that was cut short delivers less and says nothing.
            if path.stat().st_size != member.size:
                raise EOFError(f"{member.name} is cut short")
        packed.finish()
        return len(packed.members)


def check_members(archive: Path, members: Sequence[Member], target: Path) -> None:
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
    wrong = [f"{m.name!r} ({why})" for m in members if (why := _unsafe(m))]
    wrong += [f"{name!r} (stands for two files)" for name in _clashing(members)]
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(f"{archive}: refused, unsafe members: {', '.join(wrong[:10])}{more}")
    if sum(member.packed or 0 for member in members) > archive.stat().st_size:
        raise UserError(f"{archive}: refused, its members overlap (a zip bomb)")
    total = sum(member.size for member in members)
    if total > MAX_BYTES:
        raise UserError(f"{archive}: refused, unpacks to {total} bytes (allowed: {MAX_BYTES})")
    free = shutil.disk_usage(_existing(target)).free
    if total > free:
        raise UserError(f"{archive}: needs {total} bytes of disk, {free} are free")


def _unsafe(member: Member) -> str:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        return "leads outside the folder"
    if member.wrong:
        return member.wrong
    sizes = [len(part.encode(errors="surrogateescape")) for part in path.parts]
    if max(sizes) > MAX_NAME or sum(sizes) > 16 * MAX_NAME or not member.name.isprintable():
        return "a name that file systems refuse"
    if member.packed is not None and (
        member.size > MAX_RATIO * max(member.packed, 1) + BOMB_FLOOR
    ):
        return "a zip bomb"
    return ""


def _kind(mode: int) -> str:
    """Why a zip's member with these bits is no plain file, or nothing."""
    if stat.S_IFMT(mode) in (0, stat.S_IFREG):
        return ""
    return "a link" if stat.S_ISLNK(mode) else "a device"


def _clashing(members: Sequence[Member]) -> list[str]:
    """Names that would fall together on some file system, or are a file and a folder at once."""
    names = [unicodedata.normalize("NFC", member.name).casefold() for member in members]
    parts = [PurePosixPath(name) for name in names]
    files = Counter(parts)
    folders = {parent for path in parts for parent in path.parents}
    return [str(path) for path, count in files.items() if count > 1 or path in folders]


def _existing(path: Path) -> Path:
    """The nearest folder at or above `path` that exists."""
    return path if path.is_dir() else _existing(path.parent)
