"""The archives of the data sets: what they are called, how they are checked and unpacked."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pgfl.errors import UserError
from pgfl.files import whole_folder
from pgfl.obtain import Source

LIGHTAS = "https://github.com/lightas"

PARTIAL_SETS = Source(
    name="dataset2.zip",
    url=f"{LIGHTAS}/ICCV19_Pose_Guided_Occluded_Person_ReID/raw/master/dataset2.zip",
)
"""Holds the archives of both partial data sets."""

SOURCES: dict[str, Source] = {
    "market1501": Source(
        name="Market-1501-v15.09.15.zip",
        checksum="md5:65005ab7d12ec1c44de4eeafe813e68a",
        note="Market-1501 has no lasting official download address: ask its authors or take a "
        "mirror (archives.urls can name one).",
    ),
    "dukemtmc_reid": Source(
        name="DukeMTMC-reID.zip",
        checksum="md5:2f93496f9b516d1ee5ef51c1d5e7d601",
        note="DukeMTMC-reID was withdrawn by its authors in 2019 and cannot be downloaded; "
        "Occluded-Duke and Partial-Duke are made from it.",
    ),
    "occluded_duke": Source(
        name="Occluded-DukeMTMC-Dataset-master.zip",
        url=f"{LIGHTAS}/Occluded-DukeMTMC-Dataset/archive/refs/heads/master.zip",
        note="Occluded-Duke is three public lists of DukeMTMC-reID file names.",
    ),
    "occluded_reid": Source(
        name="Occluded_REID.zip",
        checksum="sha256:1c8854e02db775da6a51399df4b7e02c299804850dff9985451d610fc8c6d57d",
        note="Occluded-REID is given out by its authors on request (archives.urls can name a "
        "mirror).",
    ),
    "partial_reid": Source(
        name="Partial-REID_Dataset.zip",
        checksum="sha256:b22ba2d780dd272d081b75ec5b320748d5b0f582c17db3bf7020b2d999b0fb3e",
        container=PARTIAL_SETS,
    ),
    "partial_ilids": Source(
        name="Partial_iLIDS.zip",
        checksum="sha256:affe69541e8697ce4057e94e59c4b8fce46f2a15cd6bf131c8617fb7bae0d287",
        container=PARTIAL_SETS,
    ),
}

WANTED: dict[str, Callable[[str], bool]] = {
    # The repository that holds the lists holds a paper and a script too.
    "occluded_duke": lambda name: name.endswith(".list"),
}

MAX_BYTES = 20 << 30
"""More than any of these data sets unpacks to; an archive that declares more is a zip bomb."""
MAX_RATIO = 200
"""Photographs hardly shrink; a member that grows more than this when unpacked is no photograph."""


def extract(archive: Path, dataset: str, folder: Path) -> int:
    """Unpack an archive to `folder`, which appears whole or not at all.

    Args:
        archive: a zip file; nothing in it can land outside `folder`.
        dataset: its name in `SOURCES`.
        folder: replaced if it exists.

    Returns:
        The number of files written.

    Raises:
        UserError: not a zip, damaged, unsafe members, too large, or no space left.
    """
    wanted = WANTED.get(dataset, lambda name: True)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [m for m in packed.infolist() if not m.is_dir() and wanted(m.filename)]
            if not members:
                raise UserError(f"{archive}: holds no files of {dataset}")
            check_members(archive, members, free=shutil.disk_usage(_existing(folder)).free)
            with whole_folder(folder) as temporary:
                for member in members:
                    packed.extract(member, temporary)
    except FileNotFoundError:
        raise UserError(f"{archive}: no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError: the archive is encrypted
        raise UserError(f"{archive}: damaged or not a zip archive ({error})") from None
    return len(members)


def check_members(archive: Path, members: list[zipfile.ZipInfo], free: int) -> None:
    """Refuse unsafe names, links and bombs from the directory alone, before a byte is written.

    Args:
        archive: named in messages.
        members: what is to be unpacked.
        free: bytes free where it is to be unpacked.

    Raises:
        UserError: listing every offending member, at most ten by name.
    """
    wrong = [f"{m.filename!r} ({why})" for m in members if (why := _unsafe(m))]
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(f"{archive}: refused, unsafe members: {', '.join(wrong[:10])}{more}")
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise UserError(f"{archive}: refused, unpacks to {total} bytes (allowed: {MAX_BYTES})")
    if total > free:
        raise UserError(f"{archive}: needs {total} bytes of disk, {free} are free")


def _unsafe(member: zipfile.ZipInfo) -> str:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return "leads outside the folder"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link"
    if member.file_size > MAX_RATIO * max(member.compress_size, 1) + BOMB_FLOOR:
        return "a zip bomb"
    return ""


BOMB_FLOOR = 1 << 20
"""Bytes below which no member is suspected, however well it shrinks (empty text files do)."""


def _existing(path: Path) -> Path:
    """The nearest folder at or above `path` that exists."""
    return path if path.is_dir() else _existing(path.parent)
