import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "planning.py"


def test_the_benchmark_runs_and_prints_its_lines(tmp_path):
    command = [sys.executable, str(SCRIPT), "--repeats", "1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    jobs = re.fullmatch(r"paper, three seeds: (\d+) jobs; medians of 1", lines[0])
    assert jobs and int(jobs[1]) > 60  # the trainings alone
    assert [line[:20].strip() for line in lines[1:]] == [
        "the whole plan",
        "the same for one tar",
        "importing Snakemake",
        "hashing the code",
        "reading the settings",
    ]
    assert not list(tmp_path.iterdir())
