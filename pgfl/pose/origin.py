"""Whose a heatmap file is: ours, which is made again, or another estimator's, which is kept.

Read with plain Python: the Snakefile asks for every file at the cache's place before it plans.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pgfl.errors import UserError
from pgfl.pose.estimators import ESTIMATORS

USER_BLOCK = 512
"""Bytes before the HDF5 file proper, which all HDF5 programs skip."""
SEAL = b"sha256 "
MAKER = b"\nestimator "
DIGEST = 64
"""Hexadecimal digits of a sha256."""
HDF5 = b"\x89HDF\r\n\x1a\n"

MADE_AGAIN = "delete it, then run the same command: it is made again"
KEPT = (
    "it is another estimator's, so the workflow keeps it: write it again (docs/heatmaps.md), or "
    "delete it, and the workflow makes one by pose.estimator"
)

SAMPLES, SAMPLE = 64, 4096
"""Places of a file that `stamp` reads, and bytes at each."""


def user_block(content: bytes, estimator: str) -> bytes:
    """The first 512 bytes of a file of ours: a checksum of all else, and the estimator's name."""
    maker = MAKER + estimator.encode()[: USER_BLOCK // 2] if estimator else b""
    digest = hashlib.sha256(maker + content).hexdigest().encode()
    return (SEAL + digest + maker).ljust(USER_BLOCK, b"\0")


def is_sealed(path: Path) -> bool:
    """Whether a file claims a checksum of ours."""
    with path.open("rb") as file:
        return file.read(len(SEAL)) == SEAL


def is_intact(path: Path) -> bool:
    """Whether a sealed file is as it was written."""
    with path.open("rb") as file:
        block = file.read(USER_BLOCK)
        maker = _maker(block)
        found = hashlib.file_digest(file, lambda: hashlib.sha256(maker)).hexdigest()
    return block == (SEAL + found.encode() + maker).ljust(USER_BLOCK, b"\0")


def _maker(block: bytes) -> bytes:
    return block[len(SEAL) + DIGEST :].rstrip(b"\0")


def is_external(path: Path) -> bool:
    """Whether what lies at a heatmap file's place is not ours, and so must never be overwritten.

    Ours begins with our seal and names one of our estimators, or none. An HDF5 file without the
    seal is another program's, or one of ours that somebody has changed on purpose. So is what
    cannot be read, and a link whose target is away. A file that is no HDF5 at all is nobody's.
    """
    try:
        with path.open("rb") as file:
            block = file.read(USER_BLOCK)
            if block.startswith(SEAL):
                _, _, estimator = _maker(block).partition(MAKER)
                return estimator.decode(errors="replace") not in ("", *ESTIMATORS)
            return _holds_hdf5(file)
    except FileNotFoundError:
        return path.is_symlink()
    except OSError:
        return True


def _holds_hdf5(file) -> bool:  # noqa: ANN001 (any binary file)
    """Whether HDF5's signature stands where a user block of any size would let it stand."""
    size = file.seek(0, 2)
    place = 0
    while place < size:
        file.seek(place)
        if file.read(len(HDF5)) == HDF5:
            return True
        place = 2 * place or USER_BLOCK
    return False


def check_links(files: Iterable[str]) -> None:
    """Raise UserError with a line for each link that leads nowhere: a disk is away, perhaps.

    Snakemake takes such a link for a file, and then stops with a riddle.
    """
    lines = [
        f"{file} is a link to {file.readlink()}, which is not there: mend the link, or delete it"
        for file in map(Path, files)
        if file.is_symlink() and not file.exists()
    ]
    if lines:
        raise UserError("\n".join(lines))


def advice(path: Path) -> str:
    """What to do about a file that cannot be used."""
    return KEPT if is_external(path) else MADE_AGAIN


def stamp(path: Path) -> str:
    """Another word for another content, from samples all over a file; quick for any size.

    A file that is replaced by an older one has no newer time, and of the same shape no other size.
    """
    try:
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with path.open("rb") as file:
            for place in range(SAMPLES):
                file.seek(max(0, size - SAMPLE) * place // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
    except OSError:
        return ""
    return digest.hexdigest()[:16]
