"""All about one GPU on one page, in eight minutes: `make gpu`.

    python benchmarks/gpu.py [--minutes 8] [--out gpu-report.md] [--only agreement step ...]
    python benchmarks/gpu.py --device cpu --small      # a rehearsal where there is no GPU

Each part runs in a process of its own, within its share of the time that is left, and has its
section of the page at once: whatever a part dies of, and whenever all of it is stopped, the other
sections are there. What needs a package that is not installed is left out by name. Nothing is
downloaded. The exit status is 0 where no check failed and no part broke.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DONE, BROKE, LEFT_OUT, FAILED, SHORTENED = 0, 1, 10, 11, 12
STATES = {
    DONE: "done",
    LEFT_OUT: "left out",
    FAILED: "**a check failed**",
    SHORTENED: "done in part",
}
GRACE = 5.0
"""Seconds that a part may be over its time; it keeps it by itself, but for a hang."""
LEAST = 10.0
"""Seconds without which no part is begun."""


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    title: str
    weight: float
    """Its share of the time, against those of the parts after it."""


PARTS = {
    "machine": Part("The machine", 25),
    "agreement": Part("Does the GPU compute what the CPU computes?", 60),
    "step": Part("A training step", 110),
    "training": Part("Ten epochs on drawn people", 110),
    "loader": Part("Waiting for images", 50),
    "pose": Part("HRNet", 35),
    "student": Part("The student in use", 45),
    "tests": Part("The tests that compute on a GPU", 70),
}
"""In the order of their worth."""


@dataclass
class Section:
    """What became of a part."""

    part: Part
    state: str = "not begun"
    seconds: float = 0.0
    text: str = ""


def shares(names: list[str], left: float) -> float:
    """Seconds for the first of these parts: what one leaves over goes to those after it."""
    weights = [PARTS[name].weight for name in names]
    return left * weights[0] / sum(weights)


def page(sections: Iterable[Section], title: str) -> str:
    """The whole page in Markdown."""
    rows = [f"| {s.part.title} | {s.state} | {s.seconds:.0f} |" for s in sections]
    parts = [f"## {s.part.title}\n\n{s.text.strip()}\n" for s in sections if s.text.strip()]
    head = ["| part | | s |", "| --- | --- | ---: |", *rows]
    return "\n".join([f"# {title}\n", *head, "", *parts])


def write(path: Path, text: str) -> None:
    """Write a file whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def reason(log: str) -> str:
    """The last line that a broken part wrote to stderr, without what Markdown would read in it."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return re.sub(r"[|`*<>]", "'", lines[-1])[:200] if lines else "it said nothing"


def end(process: subprocess.Popen) -> None:
    """Stop a part and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(name: str, seconds: float, options: argparse.Namespace, sections: list[Section]) -> int:
    """Run a part; its section grows on the page as it goes. Gives its exit status."""
    section = sections[list(PARTS).index(name)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(_paths()), "HF_HUB_OFFLINE": "1"}
    # Without this workspace strict training refuses CUDA's matrix products.
    environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if options.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, str(HERE / "gpu_parts.py"), name, options.device, str(seconds)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "out", Path(folder) / "log"
        with out.open("w") as stdout, log.open("w") as stderr:
            process = subprocess.Popen(
                [*command, *(["--small"] * options.small)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
                cwd=ROOT,
            )
            try:
                while process.poll() is None and time.monotonic() < began + seconds + GRACE:
                    time.sleep(0.2)
                    section.seconds = time.monotonic() - began
                    text = out.read_text(encoding="utf-8", errors="replace")
                    if text != section.text:
                        section.text, section.state = text, "under way"
                        write(options.out, page(sections, options.title))
                status = process.poll()
            finally:
                end(process)
        section.text = out.read_text(encoding="utf-8", errors="replace")
        why = reason(log.read_text(encoding="utf-8", errors="replace"))
    section.seconds = time.monotonic() - began
    if status is None:
        section.state = f"stopped after {seconds:.0f} s, its share of the time"
        return SHORTENED
    section.state = STATES.get(status, f"**broke**: {why}")
    if status not in STATES:
        section.text += f"\nBroke: {why}\n"
    return status


def _paths() -> list[str]:
    """Where a part finds the package: this checkout first, whatever else is installed."""
    return [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]


def check_device(options: argparse.Namespace) -> None:
    """End the program where its device cannot be used."""
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit(f"error: {sys.executable} has no torch; make gpu PYTHON=/path/to/python")
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            f"error: torch {torch.__version__} of {sys.executable} sees no GPU; another python: "
            "make gpu PYTHON=/path/to/python; a rehearsal without one: make gpu "
            'GPU="--device cpu --small"'
        )


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--out", type=Path, default=Path("gpu-report.md"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error("--minutes: must be above zero")
    options.out = options.out.resolve()
    options.title = "What a GPU does" if options.device == "cuda" else "A rehearsal on the CPU"
    return options


def main() -> None:
    """Run the parts in turn."""
    options = parsed()
    start = time.monotonic()
    check_device(options)
    # A stopped program ends its part, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    end_at = start + 60 * options.minutes
    sections = [Section(part) for part in PARTS.values()]
    names = [name for name in PARTS if name in options.only]
    for name, section in zip(PARTS, sections, strict=True):
        if name not in names:
            section.state = "not asked for"
    statuses = []
    for place, name in enumerate(names):
        section = sections[list(PARTS).index(name)]
        seconds = shares(names[place:], end_at - time.monotonic() - GRACE)
        print(f"{section.part.title}: up to {seconds:.0f} s", flush=True)
        if seconds < LEAST:
            section.state = "left out: no time is left"
        else:
            statuses.append(run(name, seconds, options, sections))
        print(f"    {section.state} ({section.seconds:.0f} s)", flush=True)
        write(options.out, page(sections, options.title))
    print(f"{options.out}: written in {time.monotonic() - start:.0f} s")
    sys.exit(int(any(s not in (DONE, LEFT_OUT, SHORTENED) for s in statuses)))


if __name__ == "__main__":
    main()
