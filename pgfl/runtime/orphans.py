"""No stage outlives the Snakemake that started it.

A kill -9 of Snakemake, or of the shell between the two, tells their children nothing: a training
would go on for hours beside the one that the next Snakemake starts.
"""

import ctypes
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

from pgfl.runtime.files import is_alive

SNAKEMAKE = "PGFL_SNAKEMAKE"
"""The environment variable in which the Snakefile says its process number to the stages."""
PR_SET_PDEATHSIG = 1
GRACE = 5.0
"""Seconds to put things in order after being stopped."""


def end_with_snakemake() -> None:
    """Stop this process when Snakemake or the shell that it runs us in is gone.

    Without the environment variable (a person's own command) nothing is watched: `nohup` and `&`
    work as ever. A stage that is stopped, by this or by SIGTERM, removes what it has half written.
    """
    _stop_in_order()
    snakemake = os.environ.get(SNAKEMAKE, "")
    if snakemake.isdecimal():
        end_with(
            (int(snakemake), os.getppid()),
            f"stopped, because Snakemake (process {snakemake}) or its shell was killed; the same "
            "command goes on from here, after `snakemake --unlock` if it asks for that",
        )


def end_with(processes: tuple[int, ...], why: str) -> None:
    """Stop this process when the first of these is gone, saying why; called by the main thread."""
    _stop_in_order()
    threading.Thread(target=_watch, args=(processes, why), daemon=True).start()


def die_with_parent() -> None:
    """Have the kernel end this process with the one that started it, where it can (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop_in_order() -> None:
    """Unwind the stack at SIGTERM and Ctrl-C, so that locks are left and temporary files removed.

    A process in the background, which ignores Ctrl-C, goes on ignoring it.
    """
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    if _in_destructor(frame):
        # Python drops what a destructor raises, with a trace, and would run on.
        again = threading.Timer(0.02, signal.pthread_kill, (threading.get_ident(), number))
        again.daemon = True
        again.start()
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        sys.exit(128 + number)


def _in_destructor(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def _watch(processes: tuple[int, ...], why: str) -> None:
    wait_for_any(processes)
    try:
        print(f"error: {why}", file=sys.stderr, flush=True)
    finally:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)  # something holds the main thread up


def wait_for_any(processes: tuple[int, ...]) -> None:
    """Return when the first of these processes has ended."""
    try:
        handles = [os.pidfd_open(process) for process in processes]
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux, or an old one
        while all(is_alive(process) for process in processes):
            time.sleep(1)
        return
    select.select(handles, [], [])
