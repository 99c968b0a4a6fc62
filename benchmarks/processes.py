"""Measuring in a process of its own, and how much memory it has taken at most."""

import multiprocessing
import re
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def peak_mib() -> float:
    """The highest resident size of this process so far, in MiB.

    `ru_maxrss` starts at the size of the process that started this one, and so hides what a small
    child of a large parent takes; Linux's own VmHWM does not.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def alone(work: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(work, *arguments).result()
