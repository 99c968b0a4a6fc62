import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from pgfl.runtime.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(16_000_000)
print(sum(faults(4_000_000) for _ in range(3)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_tensors_memory_is_used_again():
    faults = {}
    for mode in ("kept", "as it is"):
        command = [sys.executable, "-c", FAULTS, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[mode] = int(done.stdout)
    # Three times 16 MB, in pages of 64 kB at most.
    assert 10 * faults["kept"] < 3 * 16_000_000 / 65_536 < faults["as it is"]


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch):
    from pgfl.runtime import allocator

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_freed_memory()
