"""What the workflow would do: its jobs, as Snakemake itself plans them."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgfl.errors import UserError
from pgfl.runtime.files import read_json

PLAN_FILE = "PGFL_PLAN"
"""Environment variable: where a dry run writes its jobs to (workflow/rules/start.smk)."""


@dataclass(frozen=True)
class PlannedJob:
    """A job of the DAG."""

    rule: str
    wildcards: dict[str, str]
    needed: bool
    """Whether a run would do it now; else its outputs are there and up to date."""


@dataclass(frozen=True)
class Plan:
    """The whole DAG of some targets."""

    config: dict[str, Any]
    """What the user configured, command line included; `load_config` completes it."""
    jobs: list[PlannedJob]
    left_out: list[str]
    """What cannot be made for want of files, as lines; nothing where all can be made."""


def make_plan(targets: Sequence[str] = (), config: Sequence[str] = ()) -> Plan:
    """Have Snakemake plan its jobs, in the current folder; nothing is run or changed.

    Args:
        targets: as on Snakemake's command line; none means everything.
        config: `key=value`, as after Snakemake's `--config`.

    Raises:
        UserError: Snakemake cannot be run here, or cannot make a plan; with what it says.
    """
    # Without a lock: it changes nothing, and is not to be taken for another run.
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock"]
    command += ["--quiet", "rules", "progress"]
    command += ["--config", *config] if config else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        done = subprocess.run(
            [*command, "--", *targets],
            env=os.environ | {PLAN_FILE: str(file)},
            capture_output=True,
            text=True,
        )
        if done.returncode or not file.exists():
            raise UserError(_complaint(done.stderr + done.stdout))
        content = read_json(file)
    jobs = [PlannedJob(**job) for job in content["jobs"]]
    return Plan(content["config"], jobs, content["left_out"])


def _complaint(output: str) -> str:
    """What Snakemake said, from the error on; its banner and places in its files are left out."""
    error = re.search(r"(?m)^\w*(Error|Exception)\b.*\n((?!  File ).+\n?)*", output)
    lines = (error.group() if error else output).strip().splitlines()
    return "\n".join(["Snakemake cannot plan the workflow here", *lines])
