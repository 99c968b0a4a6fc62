"""Saying how far a long stage is: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

SECONDS_BETWEEN_LINES = 20

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, unit: int = 1, total: int = 0) -> Iterator[Item]:
    """Pass items on while showing count, rate and time left on stderr.

    Args:
        items: what to go through; sized, or give `total`.
        what: a few words before the numbers.
        unit: images in an item, to show images per second.
        total: the number of items.
    """
    total = total or (len(items) if isinstance(items, Sized) else 0)
    live = sys.stderr.isatty()
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last > (0.2 if live else SECONDS_BETWEEN_LINES) or (done == total and live):
            last = now
            rate = done / (now - start)
            left = (total - done) / rate
            line = f"{what}: {done}/{total}  {rate * unit:.0f} img/s  {left:.0f} s left"
            print(f"\r{line}\033[K" if live else line, end="" if live else "\n", file=sys.stderr)
    if live:
        print(file=sys.stderr)
    else:
        print(f"{what}: done in {time.monotonic() - start:.0f} s", file=sys.stderr)
