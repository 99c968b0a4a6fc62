"""How long Snakemake takes to plan the paper's whole workflow, and what its parts cost.

    python benchmarks/planning.py

Prints processor time (user and system), which other work on the machine disturbs little, and wall
time. Nothing of the workflow is run.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAPER = ("--config", "experiment=paper", "seeds=[0,1,2]")
PLAN = ("-m", "snakemake", "--dry-run", "--quiet", "rules", "progress")

HASHES = """
import time
from pgfl.runtime.provenance import code_hash
began = time.process_time()
code_hash("pgfl.training.stage", "pgfl.pose.stage", "pgfl.retrieval.guided")
print(time.process_time() - began)
"""

SETTINGS = """
import time
began = time.process_time()
from pgfl.config.load import load_config
load_config({"experiment": "paper"})
print(time.process_time() - began)
"""


def python(arguments: Sequence[str], **variables: str) -> str:
    """What Python prints when it is called in the repository's root."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def processor_seconds(arguments: Sequence[str], repeats: int) -> tuple[float, float]:
    """The median of processor seconds and of wall seconds of a Python call."""
    spent, passed = [], []
    for _ in range(repeats):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        python(arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        passed.append(time.monotonic() - began)
    return statistics.median(spent), statistics.median(passed)


def inside(script: str, repeats: int) -> float:
    """The median of what a script says that a part of it took."""
    return statistics.median(float(python(["-c", script])) for _ in range(repeats))


def number_of_jobs() -> int:
    """The jobs of the plan."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        python([*PLAN, *PAPER], PGFL_PLAN=str(file))
        return len(json.loads(file.read_text())["jobs"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"paper, three seeds: {number_of_jobs()} jobs; medians of {repeats}")
    rows = {
        "the whole plan": (*PLAN, *PAPER),
        "the same for one target": (*PLAN, *PAPER, "--", "results/table1.csv"),
        "importing Snakemake": ("-c", "import snakemake.cli"),
    }
    for name, arguments in rows.items():
        spent, passed = processor_seconds(arguments, repeats)
        print(f"{name:26} {spent:6.2f} s of a processor, {passed:6.2f} s passed")
    print(f"{'hashing the code':26} {inside(HASHES, repeats):6.2f} s of a processor")
    print(f"{'reading the settings':26} {inside(SETTINGS, repeats):6.2f} s of a processor")


if __name__ == "__main__":
    main()
