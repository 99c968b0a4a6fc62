"""Evaluation files as the tables read them, and whose they are."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgfl.errors import UserError
from pgfl.files import read_json


@dataclass(frozen=True)
class Measured:
    """One `runs/{experiment}/{train}/{variant}/seed{n}/eval/{test set}.json`."""

    file: Path
    report: dict[str, Any]
    train: str
    variant: str
    seed: int

    @property
    def run(self) -> Path:
        """The folder of the model that was measured."""
        return self.file.parent.parent

    def value(self, metric: str) -> float:
        """A measure in percent: `rank1`, `mAP`, ...

        Raises:
            UserError: the file has none of that name.
        """
        if not isinstance(self.report.get(metric), int | float):
            raise UserError(f"{self.file}: has no number {metric!r}; evaluate the model again")
        return float(self.report[metric])


def read_evaluation(file: Path) -> Measured:
    """Read an evaluation file.

    Raises:
        UserError: it cannot be read, or does not lie in a run's folder.
    """
    *_, train, variant, seed, folder, _ = ("",) * 5 + file.parts
    number = re.fullmatch(r"seed(\d+)", seed)
    if folder != "eval" or number is None:
        raise UserError(f"{file}: must lie in a run's folder: train set/variant/seed0/eval")
    report = read_json(file)
    if not isinstance(report, dict):
        raise UserError(f"{file}: not an evaluation file")
    return Measured(file, report, train, variant, int(number.group(1)))
