import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "pose.py"


def test_the_benchmark_runs_and_prints_its_tables(tmp_path):
    command = [sys.executable, str(SCRIPT), "--smoke"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "| hrnet_w32_256x192 | 256x192 | inference_topdown, one by one |" in result.stdout
    assert "| hrnet_small | half |" in result.stdout
    assert "| ours: uint8, offset and step, gzip |" in result.stdout
    assert not list(tmp_path.iterdir())
