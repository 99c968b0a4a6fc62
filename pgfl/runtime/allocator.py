"""How the C library hands out memory."""

import ctypes

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
"""Parameters of glibc's mallopt, by the names of its manual."""


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for what is allocated next; other C libraries are left alone.

    Networks allocate and free blocks of a hundred megabytes all the time. Unless told otherwise
    glibc gives each back to the kernel, which then has to find and zero all of its pages again: a
    third of a training step on a CPU (docs/benchmarks.md). In return a process stays as large as
    it once was. For our own commands only, since it concerns all of a process.
    """
    try:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    except TypeError:  # Windows, where a process has no symbols of its own
        return
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
