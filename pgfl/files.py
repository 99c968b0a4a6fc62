"""Small file helpers: hashes, JSON, and outputs that appear whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
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
    """Whether a process of this number runs on this machine, whoever's it is."""
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
