"""One process at a time where two would do the same work twice."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pgfl.errors import UserError
from pgfl.runtime.files import is_alive

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where only students are used
    fcntl = None

PATIENCE = 15.0
"""Seconds that a lock is waited for: what a stopping process needs to let go of it."""
TAKEN = (errno.EACCES, errno.EAGAIN)
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""File systems of some clusters have no locks."""


@contextmanager
def locked(folder: Path, *, shared: bool = False, patience: float | None = None) -> Iterator[None]:
    """Hold `folder` (a stage's state) for this process; the lock lies beside it, as `*.lock`.

    The kernel lets go of it when the process ends, however it ends. Unlike flock(2), which loader
    processes would inherit and outlive their parent with, this lock belongs to one process.

    Args:
        folder: need not exist.
        shared: whether others may share it; nobody can hold it alone then.
        patience: seconds to wait for it; PATIENCE if not said.

    Raises:
        UserError: another process holds it; which one, and what to do.
    """
    path = folder.with_name(f"{folder.name}.lock")
    file = _take(path, shared, time.monotonic() + (PATIENCE if patience is None else patience))
    try:
        yield
    finally:
        if fcntl is None:
            file.close()  # Windows removes no open file
        if not shared:
            path.unlink(missing_ok=True)
        file.close()


def join(folder: Path) -> tuple[TextIO, str]:
    """Be one of those at work in `folder`, for as long as the returned file is open.

    Returns:
        The file, and who was there before: `process 12 on node7`; empty where nobody was.
    """
    path = folder.with_name(f"{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    if _try(file, path, shared=False):
        others = ""
        file.truncate(0)
    else:
        others = holders_of(file)
    _try(file, path, shared=True)
    _sign(file)
    return file, others


def _take(path: Path, shared: bool, until: float) -> TextIO:
    """The open file of a lock that is ours now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+")
        if _try(file, path, shared):
            if not _is_at(file, path):
                file.close()  # its last holder has just removed it
                continue
            if not shared:
                file.truncate(0)
            _sign(file)
            return file
        holders = holders_of(file)
        file.close()
        if time.monotonic() > until:
            raise UserError(
                f"{path.with_suffix('')} is in use by {holders}: wait until that is done, or stop "
                "it, then run the same command again"
            )
        time.sleep(0.2)


def _try(file: TextIO, path: Path, shared: bool) -> bool:
    """Whether the lock is ours now; where there are no locks at all it always is."""
    if fcntl is None:
        return True
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in UNKNOWN:
            print(f"note: {path}: no locks on this file system; start nothing twice")
        elif error.errno in TAKEN:
            return False
        else:
            raise
    return True


def _sign(file: TextIO) -> None:
    print(f"{os.getpid()} {socket.gethostname()}", file=file, flush=True)


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def holders_of(file: TextIO) -> str:
    """Who holds a lock, by what they have written into it: `process 12 on node7, ...`."""
    file.seek(0)
    holders = []
    for line in file.read().splitlines():
        pid, _, host = line.partition(" ")
        if pid.isdecimal() and (host != socket.gethostname() or is_alive(int(pid))):
            holders.append(f"process {pid} on {host}")
    return ", ".join(holders) or "another process"
