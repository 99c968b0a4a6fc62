"""What this machine has, and which of its GPUs a process may take.

Snakemake counts GPUs but names none, so jobs that run at the same time would all compute on the
first. Each process therefore takes a lock of the kernel for every GPU that it computes on. The
lock lives as long as the process, whatever ends it. Nothing heavy is imported here: the Snakefile
reads this, too.
"""

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pgfl.errors import UserError

GPUS = "PGFL_GPUS"
"""Environment variable: how many GPUs there are, where that cannot be seen in /dev."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_TRIES = 1.0
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
MEGABYTE = 1_000_000


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them.

    Those of `CUDA_VISIBLE_DEVICES` where it is set (a scheduler's or the user's choice), else as
    many as `PGFL_GPUS` says, else as many as Nvidia's driver shows in /dev.

    Raises:
        UserError: `PGFL_GPUS` is not a number.
    """
    if VISIBLE in os.environ:
        names = [name.strip() for name in os.environ[VISIBLE].split(",")]
        # CUDA itself stops at the first that is none.
        ends = (at for at, name in enumerate(names) if name in ("", "-1", "NoDevFiles"))
        return names[: next(ends, None)]
    count = os.environ.get(GPUS, "")
    if count and not count.isdecimal():
        raise UserError(f"{GPUS}={count}: must be a number of GPUs, as 2")
    return [str(index) for index in range(int(count) if count else _nvidia_devices())]


def _nvidia_devices() -> int:
    return sum(
        re.fullmatch(r"nvidia\d+", path.name) is not None for path in Path("/dev").iterdir()
    )


def memory_mb() -> int:
    """The machine's memory in MB (10^6 bytes), or what a container may have of it."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or "max"
        found = min(found, int(CGROUP_LIMIT.read_text()))
    return found // MEGABYTE


@contextmanager
def own_gpus(wanted: int = 1) -> Iterator[list[str]]:
    """Take GPUs that no other process of ours has, and make CUDA see no others.

    Must come before anything asks CUDA a question. Waits until enough of them are free. Without a
    GPU nothing happens; nor where there is no choice to make: in a Slurm job that was given no
    more than it wants, and under torchrun, which deals the devices itself.

    Args:
        wanted: how many.

    Yields:
        Their names, as in `visible_gpus`; empty where nothing was taken.

    Raises:
        UserError: there are fewer.
    """
    names = visible_gpus()
    dealt = "SLURM_JOB_ID" in os.environ and len(names) <= wanted
    if not names or dealt or "TORCHELASTIC_RUN_ID" in os.environ:
        yield []
        return
    if wanted > len(names):
        raise UserError(f"{wanted} GPUs are wanted, but there are {len(names)} to use")
    with ExitStack() as locks:
        taken = _wait_for(names, wanted, locks)
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = ",".join(taken)
        print(f"GPU {', '.join(taken)} of {', '.join(names)}", flush=True)
        try:
            yield taken
        finally:
            os.environ.pop(VISIBLE)
            if before is not None:
                os.environ[VISIBLE] = before


def _wait_for(names: list[str], wanted: int, locks: ExitStack) -> list[str]:
    """Lock as many GPUs as wanted, all or none: two processes never wait for each other."""
    folder = _lock_folder()
    said = False
    while True:
        with ExitStack() as tried:
            taken = []
            for name in names:
                if len(taken) < wanted and _lock(folder / re.sub(r"\W", "_", name), tried):
                    taken.append(name)
            if len(taken) == wanted:
                locks.push(tried.pop_all())
                return taken
        if not said:
            print(f"waiting: {wanted} of GPU {', '.join(names)} wanted, all taken", flush=True)
            said = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _lock_folder() -> Path:
    """Where this user's locks lie; in a Slurm job, where the numbers are its own, apart."""
    job = os.environ.get("SLURM_JOB_ID", "")
    folder = Path(tempfile.gettempdir()) / f"pgfl-gpus-{os.getuid()}" / job
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _lock(path: Path, locks: ExitStack) -> bool:
    """Lock a file if nobody has; held until `locks` closes or the process ends."""
    import fcntl  # not on Windows, whose commands for students come by here

    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    locks.callback(os.close, file)
    return True
