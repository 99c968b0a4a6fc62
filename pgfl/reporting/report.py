"""Snakemake's HTML report of finished results."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pgfl.errors import UserError
from pgfl.runtime.files import whole_file, write_json


def write_report(targets: list[str], config: dict[str, Any], snakefile: Path, out: Path) -> None:
    """Let Snakemake describe finished results; it only reads, so another run may hold the lock.

    Args:
        targets: the results to show; what they are made of is described with them.
        config: the configuration of the run, every override included.
        snakefile: the workflow.
        out: the `.html` to write.

    Raises:
        UserError: Snakemake could not; its own messages are in the output above.
    """
    with tempfile.TemporaryDirectory() as folder, whole_file(out) as temporary:
        configfile = Path(folder) / "config.json"
        write_json(configfile, config)
        command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(snakefile)),
            *("--configfile", str(configfile), "--workflow-profile", "none", "--cores", "1"),
            *("--nolock", "--report", str(temporary), "--", *targets),
        ]
        if subprocess.run(command).returncode != 0:
            raise UserError(f"{out}: Snakemake could not write the report; its messages say why")
