"""What can be seen of a run while it goes on: a line, a status file, TensorBoard."""

import os
import shutil
import socket
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pgfl.errors import UserError
from pgfl.runtime.files import write_json
from pgfl.runtime.machine import VISIBLE
from pgfl.runtime.progress import SECONDS_BETWEEN_LINES
from pgfl.training.meter import Meter

SECONDS_BETWEEN_BARS = 1.0
"""On a terminal. Reading the losses has a GPU wait, so not after every step."""
BAR = 20


class Live:
    """Tells a person how a run goes; nothing of it changes the run."""

    def __init__(
        self,
        epochs: int,
        images: int,
        status: Path | None,
        device: str,
        tensorboard: Path | None = None,
    ):
        """Prepare.

        Args:
            epochs: of the whole run.
            images: in a batch.
            status: the JSON file that says how far the run is; None keeps silent altogether
                (all processes of a run but the first).
            device: named in the status.
            tensorboard: the folder of its event files; None writes none.

        Raises:
            UserError: TensorBoard is wanted, but not installed.
        """
        self.epochs, self.images, self.status, self.device = epochs, images, status, device
        wanted = tensorboard is not None and status is not None
        self._new_board = partial(_tensorboard(), str(tensorboard)) if wanted else None
        self._board: Any = None
        self.terminal = sys.stderr.isatty()
        self._start = self._last = 0.0

    def begin(self) -> None:
        """An epoch begins."""
        self._start = self._last = time.monotonic()

    def step(self, epoch: int, meter: Meter, steps: int) -> None:
        """A step is done: show it, if the last one shown is long ago.

        Args:
            epoch: from 0.
            meter: what happened in this epoch so far.
            steps: in this epoch.
        """
        now = time.monotonic()
        pause = SECONDS_BETWEEN_BARS if self.terminal else SECONDS_BETWEEN_LINES
        if self.status is None or now - self._last < pause or meter.steps == steps:
            return
        means = meter.means(epoch)
        self._last = time.monotonic()
        rate, left = self._speed(meter, steps)
        bar = "#" * (BAR * meter.steps // steps)
        line = (
            f"epoch {epoch + 1}/{self.epochs} [{bar:-<{BAR}}] {meter.steps}/{steps}  "
            f"{_shown(means)}  {rate:.0f} img/s  {left:.0f} s left"
        )
        if self.terminal:
            line = f"\r{line[: shutil.get_terminal_size().columns - 1]}\033[K"
        print(line, end="" if self.terminal else "\n", file=sys.stderr, flush=True)
        self._write(epoch, meter, steps, means)

    def epoch(self, epoch: int, meter: Meter, means: dict[str, float], rate: float) -> None:
        """An epoch is done: one line, wherever the output goes."""
        if self.status is None:
            return
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        speed, _ = self._speed(meter, meter.steps)
        left = self._seconds_left(epoch, meter, meter.steps)
        print(
            f"epoch {epoch + 1}/{self.epochs}  {_shown(means)}  {speed:.0f} img/s  "
            f"{left:.0f} s left",
            flush=True,
        )
        self._write(epoch, meter, meter.steps, means)
        if self._new_board is not None:
            # Points that an earlier, broken off run left behind this one are dropped.
            self._board = self._board or self._new_board(purge_step=epoch + 1)
            shown = means | {"learning_rate": rate, "images_per_second": speed}
            for name, value in shown.items():
                self._board.add_scalar(name, value, epoch + 1)
            self._board.flush()

    def _speed(self, meter: Meter, steps: int) -> tuple[float, float]:
        """Images per second in this epoch, and the seconds that are left of it."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        return meter.steps * self.images / seconds, seconds * (steps / meter.steps - 1)

    def _seconds_left(self, epoch: int, meter: Meter, steps: int) -> float:
        """Of the whole run, if every epoch takes as long as this one."""
        rate, left = self._speed(meter, steps)
        return left + (self.epochs - epoch - 1) * steps * self.images / rate

    def _write(self, epoch: int, meter: Meter, steps: int, means: dict[str, float]) -> None:
        assert self.status is not None
        content = {
            "epoch": epoch + 1,
            "epochs": self.epochs,
            "step": meter.steps,
            "steps": steps,
            "losses": means,
            "images_per_second": round(self._speed(meter, steps)[0], 1),
            "seconds_left": round(self._seconds_left(epoch, meter, steps)),
            "device": self.device,
            "gpus": os.environ.get(VISIBLE, ""),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(self.status, content)


def _shown(means: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in means.items())


def _tensorboard() -> type:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard: the package tensorboard is not installed: type pip install "
            "-e '.[tensorboard]' in the clone, or set resources.tensorboard: false"
        ) from None
    return SummaryWriter
