import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_inference_benchmark_runs():
    command = [sys.executable, "benchmarks/inference.py", "--smoke", "--threads", "1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert any(row.startswith("| `.embed`, JPEG files 40x20 |") for row in rows)
    assert any(row.startswith("| `.embed` of a JPEG file |") for row in rows)
    assert sum("`pgfl search`" in row for row in rows) == 2
    exports = importlib.util.find_spec("onnxscript") is not None
    assert any("ONNX Runtime, fp16" in row for row in rows) == exports
