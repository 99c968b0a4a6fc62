"""How much memory this process has taken at most."""

import re
import resource
from pathlib import Path


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
