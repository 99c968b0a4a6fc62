"""Small file helpers: hashes, JSON, and outputs that appear whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pgfl.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is gone.

    Readers therefore never meet a half-written file under the final name. What a killed process
    left of its temporary file is removed. An error of the operating system names `path`.
    """
    if path.is_dir():  # said now, before what is to be written costs any work
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, so that libraries which look at it (PIL, h5py, zip) still work.
    temporary = _temporary(path.parent, path.stem, path.suffix)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # whatever went wrong above is what has to be said
            temporary.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Like `whole_file` for a folder, which replaces whatever lay at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path.parent, path.name, "")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(folder: Path, stem: str, suffix: str) -> Path:
    """This process's temporary name for an output; those of dead processes are removed."""
    host = socket.gethostname()
    # With the host's name: on a shared disk a number says nothing about another host's process.
    names = [re.escape(part) for part in (stem, host, suffix)]
    pattern = re.compile(r"\.{}\.(\d+)@{}\.tmp{}".format(*names))
    for entry in folder.iterdir():
        found = pattern.fullmatch(entry.name)
        if found and not is_alive(int(found[1])):
            _remove(entry)
    return folder / f".{stem}.{os.getpid()}@{host}.tmp{suffix}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine, whoever's it is.

    On Windows, where to ask means to interrupt it, always yes.
    """
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def text_hash(text: str) -> str:
    """The hexadecimal sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON whole; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON, too long a number
        raise UserError(f"{path}: not a JSON file ({error})") from None


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: a hard link where possible, else a copy."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


DEPTH = 4
"""Folders that a data set's own may lie in, one in another."""


def folders_with(folder: Path, names: Iterable[str]) -> list[Path]:
    """Folders at or below `folder` that hold all of these names, in any case of letters.

    Links are followed, hidden folders and those that macOS adds are left out, and below one that
    is found nothing is looked for.

    Raises:
        UserError: a folder cannot be read.
    """
    wanted = {name.casefold() for name in names}
    found: list[Path] = []
    seen: set[Path] = set()
    level = [folder]
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for one in level:
            if one.resolve() in seen:
                continue
            seen.add(one.resolve())
            entries = scanned(one)
            if wanted <= {entry.name.casefold() for entry in entries}:
                found.append(one)
            else:
                below += [one / entry.name for entry in entries if _may_hold(entry)]
        level = below
    return found


def _may_hold(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith((".", "__MACOSX")) and entry.is_dir()


def scanned(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
