"""How far everything is: trainings, heatmaps, and what is left of the workflow.

Read from files that the stages keep in the shared folder, so it tells of jobs on this machine and
on a cluster's nodes alike.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pgfl.errors import UserError
from pgfl.planning.plan import PlannedJob
from pgfl.runtime.files import read_json

SILENT_SECONDS = 300
"""After this long without a word a job is doubted: it speaks every 20 seconds, or every step."""
LAST_BLOCKS = 10
"""Of a heatmap file; the speed is measured over these."""

EXPECTED = {"epoch", "epochs", "losses", "images_per_second", "seconds_left", "time", "device"}


@dataclass(frozen=True)
class Training:
    """A training that has begun and has not ended well, as its `status.json` tells."""

    name: str
    """`{train}/{variant}/seed{n}`."""
    status: dict[str, Any]

    def silent(self, now: datetime) -> float:
        """Seconds since its last word."""
        return (now - datetime.fromisoformat(self.status["time"])).total_seconds()

    def trouble(self, now: datetime) -> str:
        """What is wrong with it, or nothing: it can be seen to be gone, or is silent for long."""
        here = self.status.get("host") == socket.gethostname()
        if here and not _is_alive(self.status["pid"]):
            return "STOPPED: the same snakemake command goes on after the last whole epoch"
        if self.silent(now) > SILENT_SECONDS:
            return f"SILENT for {duration(self.silent(now))}: stopped?"
        return ""

    def lines(self, now: datetime) -> Iterator[str]:
        """How far, how fast, where; then its losses; then what is wrong, if anything."""
        status = self.status
        where = [status["device"], *([f"GPU {gpus}"] if (gpus := status.get("gpus")) else [])]
        where += [status["host"]] if status.get("host") else []
        where += [f"Slurm job {job}"] if (job := status.get("slurm_job")) else []
        trouble = self.trouble(now)
        left = "" if trouble else f"  {duration(status['seconds_left'])} left"
        yield (
            f"  {self.name}  epoch {status['epoch']}/{status['epochs']}"
            f"  {status['images_per_second']:.3g} img/s{left}  on {', '.join(where)}"
        )
        yield "    " + "  ".join(f"{name} {value:.3f}" for name, value in status["losses"].items())
        if trouble:
            yield f"    {trouble}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def duration(seconds: float) -> str:
    """A length of time as people say it: `40 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def trainings(root: Path, experiment: str) -> list[Training]:
    """All trainings of an experiment that are under way or were stopped, by name.

    Args:
        root: the folder that the workflow runs in.
        experiment: demo, study or paper.
    """
    state = root / "cache" / experiment / "state"
    found = []
    for path in sorted(state.glob("*/*/seed*/status.json")):
        try:
            status = read_json(path)
        except UserError:  # it has just ended
            continue
        if isinstance(status, dict) and status.keys() >= EXPECTED:
            found.append(Training("/".join(path.parts[-4:-1]), status))
    return found


@dataclass(frozen=True)
class Heatmaps:
    """A heatmap file in the making."""

    name: str
    """`{dataset}/{split}`, and `@{pose}` behind it for one of `poses`."""
    done: int
    """Images of finished blocks."""
    images: int
    """Of the split; 0 where it is not known."""
    rate: float
    """Images per second, over the last blocks; 0 where there are too few to tell."""
    silent: float
    """Seconds since the last block."""

    def line(self) -> str:
        """How far and how fast."""
        total = f"/{self.images}" if self.images else ""
        line = f"  {self.name}  {self.done}{total} images"
        if self.silent > SILENT_SECONDS:
            return f"{line}  SILENT for {duration(self.silent)}: stopped?"
        if not self.rate:
            return line
        left = max(0, self.images - self.done) / self.rate
        return f"{line}  {self.rate:.3g} img/s" + (f"  {duration(left)} left" if total else "")


def heatmaps(root: Path, experiment: str, now: datetime) -> list[Heatmaps]:
    """All heatmap files of an experiment that are being made, or were stopped in the making."""
    found = []
    for folder in sorted((root / "cache" / experiment / "state").glob("heatmaps*/*/*")):
        # Each key is a run with other settings, code or images; the last one is the one.
        runs = [blocks for key in folder.iterdir() if (blocks := _blocks(key))]
        if runs:
            blocks = max(runs, key=lambda run: run[-1][1])
            reading, dataset, split = folder.parts[-3:]
            manifest = root / "data" / experiment / dataset / "manifest.csv"
            name = f"{dataset}/{split}{reading.removeprefix('heatmaps')}"
            found.append(_progress(name, blocks, _images(manifest, split), now))
    return found


def _blocks(folder: Path) -> list[tuple[Path, float]]:
    """Finished blocks and when they were finished, in the order of that."""
    blocks = []
    for path in folder.glob("*.npz"):
        if not path.name.startswith("."):
            try:
                blocks.append((path, path.stat().st_mtime))
            except FileNotFoundError:  # the file is whole by now and its blocks are gone
                continue
    return sorted(blocks, key=lambda block: block[1])


def _images(manifest: Path, split: str) -> int:
    try:
        return int(read_json(manifest.with_name("counts.json"))["splits"][split]["images"])
    except (UserError, KeyError, TypeError, ValueError):
        return 0


def _progress(name: str, blocks: list[tuple[Path, float]], images: int, now: datetime) -> Heatmaps:
    size = _block_size(min(path for path, _ in blocks))
    last = [time for _, time in blocks][-LAST_BLOCKS:]
    took = last[-1] - last[0]
    return Heatmaps(
        name=name,
        done=min(len(blocks) * size, images or len(blocks) * size),
        images=images,
        rate=(len(last) - 1) * size / took if took > 0 else 0.0,
        silent=now.timestamp() - last[-1],
    )


def _block_size(block: Path) -> int:
    """Images in a block; all but the last one have as many."""
    try:
        with np.load(block, allow_pickle=False) as stored:
            return len(stored["usable"])
    except (OSError, KeyError, ValueError):
        return 0


def progress_lines(root: Path, experiment: str, now: datetime | None = None) -> Iterator[str]:
    """What is under way, for people: a line or three for each training and heatmap file.

    Args:
        root: the folder that the workflow runs in.
        experiment: demo, study or paper.
        now: the time; default: this moment.
    """
    now = now or datetime.now(UTC)
    running = trainings(root, experiment)
    making = heatmaps(root, experiment, now)
    if running:
        yield "Trainings"
        for training in running:
            yield from training.lines(now)
    if making:
        yield "Heatmaps"
        yield from (one.line() for one in making)
    if not running and not making:
        yield "No training and no heatmaps are under way."


def left_lines(jobs: list[PlannedJob]) -> Iterator[str]:
    """What is done and left of the plan, jobs that run just now among what is left."""
    every, left = Counter(), Counter()
    for job in jobs:
        if job.rule != "all":
            every[job.rule] += 1
            left[job.rule] += job.needed
    if not left.total():
        yield "Nothing is left to do."
        return
    yield f"Trained: {every['train'] - left['train']} of {every['train']} models"
    rules = ", ".join(f"{rule} {count}" for rule, count in left.items() if count)
    yield f"Left, of {every.total()} jobs, {left.total()}: {rules}"
