import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_training_benchmark_runs():
    command = [sys.executable, "benchmarks/training.py", "--smoke", "--threads", "1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    titles = [line for line in result.stdout.splitlines() if line.startswith("### ")]
    assert len(titles) >= 4  # one more on a GPU
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert any(row.startswith("| PGFL-KD step, hrnet_small inside |") for row in rows)
    assert sum(row.startswith("| ours") for row in rows) == 6
