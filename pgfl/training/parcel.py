"""How a batch comes from a loader process: in memory of its own, never in /dev/shm.

PyTorch's loader puts tensors into /dev/shm. A container has 64 MB of it, four batches of the
paper's: the loader then waits for ever for a batch that found no room. Here a batch travels in
anonymous memory (memfd), for which only the memory itself is a limit, and just as fast: nothing
is copied. Where a system has no such memory, it goes through the queue's pipe.
"""

import mmap
import os
from collections.abc import Callable, Sequence
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np

Layout = list[tuple[str, tuple[int, ...]]]
"""Type and shape of each array, one after the other."""


class Parcel:
    """Stacked arrays; what arrives in another process is what is made of them."""

    def __init__(self, columns: Sequence[Sequence[np.ndarray]], make: Callable[..., Any]):
        """Stack each column of arrays: n of (...) to one (n, ...).

        Args:
            columns: arrays of one type and shape each.
            make: called with the stacked arrays by the process that they arrive in.

        Raises:
            OSError: there is no memory, or no file handle, left.
        """
        self._make = make
        self._layout: Layout = [
            (column[0].dtype.str, (len(column), *column[0].shape)) for column in columns
        ]
        try:
            handle = os.memfd_create("pgfl-batch")
        except (AttributeError, OSError):  # not Linux, or forbidden
            self._arrays = [np.stack(column) for column in columns]
            self._handle = None
            return
        try:
            os.ftruncate(handle, sum(map(_length, self._layout)))
            for array, column in zip(_mapped(handle, self._layout), columns, strict=True):
                np.stack(column, out=array)
            self._handle = DupFd(handle)
        finally:
            os.close(handle)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._handle is None:
            return self._make, tuple(self._arrays)
        return _unpacked, (self._make, self._handle, self._layout)


def _unpacked(make: Callable[..., Any], handle: Any, layout: Layout) -> Any:
    own = handle.detach()
    try:
        return make(*_mapped(own, layout))
    finally:
        os.close(own)


def _mapped(handle: int, layout: Layout) -> list[np.ndarray]:
    """The arrays in a file of memory; it lives as long as one of them."""
    # All pages at once: a fault for each would take longer than the copying.
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    memory = mmap.mmap(handle, sum(map(_length, layout)), flags)
    arrays, start = [], 0
    for one in layout:
        kind, shape = np.dtype(one[0]), one[1]
        flat = np.frombuffer(memory, kind, int(np.prod(shape)), start)
        arrays.append(flat.reshape(shape))
        start += _length(one)
    return arrays


def _length(one: tuple[str, tuple[int, ...]]) -> int:
    """Bytes of an array, up to where the next one may begin."""
    kind, shape = one
    return -(-np.dtype(kind).itemsize * int(np.prod(shape)) // 64) * 64
