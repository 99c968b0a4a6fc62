"""What a person should read at the end of a run that failed, below everything else."""

from collections.abc import Sequence
from pathlib import Path

MARK = "error: "
MOST = 5
"""Lines of one job."""


def explain(logs: Sequence[str]) -> list[str]:
    """Lines for the end of a run.

    Args:
        logs: of the jobs that failed; none where the run was stopped by hand.
    """
    if not logs:
        return ["Stopped. Type the same command again to go on where it was."]
    said = [line for log in logs for line in [f"{log}:", *(f"    {s}" for s in _said(Path(log)))]]
    return [*said, "Mend this, then type the same command again: what is done stays done."]


def _said(log: Path) -> list[str]:
    """What a job said of its end."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    errors = [line for line in lines if line.startswith(MARK)]
    if len(errors) > MOST:
        errors = [*errors[:MOST], f"and {len(errors) - MOST} more"]
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return errors or [f"no message (killed? out of memory?); the last line is: {last}"]
