import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_allocator_benchmark_runs():
    options = ["--smoke", "--threads", "1", "--only", "PGFL-KD step"]
    command = [sys.executable, "benchmarks/allocator.py", *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| PGFL-KD step"]
