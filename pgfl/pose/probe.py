"""Reading a heatmap file of unknown origin in a process of its own.

HDF5 can loop for ever, or crash, on a damaged file. Ours carry a checksum and are not opened when
it is wrong; one without is read here first, by `python -m pgfl.pose.probe FILE`.
"""

import os
import subprocess
import sys
from pathlib import Path

import h5py

from pgfl.errors import UserError
from pgfl.pose.layout import layout_problems

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60
BYTES_A_SECOND = 5e6
"""Slower than any disk that one would train from."""
ROWS = 64


def probe(path: Path) -> None:
    """Prove that reading a file comes to an end, be it that it cannot be read.

    Raises:
        UserError: HDF5 crashes, or does not come to an end.
    """
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "pgfl.pose.probe", str(path)]
    limit = SECONDS + path.stat().st_size / BYTES_A_SECOND
    try:
        answer = subprocess.run(command, capture_output=True, timeout=limit, env=environment)
    except subprocess.TimeoutExpired:
        raise UserError(f"{path}: damaged: HDF5 cannot read it in {limit:.0f} seconds") from None
    # An exception would come again, and is said by whoever reads the file.
    if answer.returncode < 0:
        raise UserError(f"{path}: damaged: HDF5 crashes at it (signal {-answer.returncode})")


def read_all(path: Path) -> None:
    """Read everything that `HeatmapReader` may read; what is wrong is left to be said by it."""
    with h5py.File(path, "r") as file:
        if layout_problems(file):
            return
        dict(file.attrs)
        for name in set(file) & {"image", "affine", "confidence", "usable"}:
            file[name][:]
        for start in range(0, len(file["heatmaps"]), ROWS):
            file["heatmaps"][start : start + ROWS]


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))
