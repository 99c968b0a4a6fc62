"""Evaluation files as the tables read them, and whose they are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgfl.errors import UserError
from pgfl.files import read_json
from pgfl.recipe import Feature

COUNTED = ("query_identities", "query", "gallery")
"""What a table says that its numbers stand on."""
ROUNDING = 1e-6
"""How far rounding may lift a percentage above 100."""


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
        return self._percent(self.report, metric)

    @property
    def chance(self) -> float:
        """The mAP of random features, in percent.

        Raises:
            UserError: the file does not say.
        """
        return self._percent(self.report.get("chance"), "mAP")

    @property
    def counts(self) -> dict[str, int]:
        """People, queries and gallery images that it stands on.

        Raises:
            UserError: the file does not say.
        """
        counts = self.report.get("counts")
        if not isinstance(counts, dict) or not all(
            isinstance(counts.get(name), int) for name in COUNTED
        ):
            raise UserError(f"{self.file}: has no counts; evaluate the model again")
        return counts

    def _percent(self, numbers: Any, name: str) -> float:
        value = numbers.get(name) if isinstance(numbers, dict) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= 100 + ROUNDING:
            raise UserError(
                f"{self.file}: has no number {name!r} from 0 to 100; evaluate the model again"
            )
        return float(value)


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


def read_evaluations(
    files: Sequence[Path], variant: str, test_set: str, feature: Feature = "global"
) -> list[Measured]:
    """Read the evaluations of a variant on a test set, one a seed.

    Args:
        files: as the workflow names them: `variant/seed0/eval/test_set.json`, and with
            `test_set.part.json` where another feature than the student's own was matched with.
        variant: what the numbers will be called.
        test_set: likewise.
        feature: likewise.

    Raises:
        UserError: there is none, one cannot be read or is of something else, or a seed is twice.
    """
    if not files:
        raise UserError(f"no evaluation of {variant} on {test_set} is given")
    name = f"{test_set}.json" if feature == "global" else f"{test_set}.{feature}.json"
    found: dict[int, Measured] = {}
    for file in files:
        measured = read_evaluation(file)
        if (measured.variant, file.name) != (variant, name):
            raise UserError(
                f"{file}: is given as {variant} on {test_set}, whose files are "
                f"{variant}/seed{measured.seed}/eval/{name}"
            )
        if measured.report.get("use", "global") != feature:
            raise UserError(f"{file}: was not matched with {feature}; evaluate the model again")
        if measured.seed in found:
            raise UserError(f"{file}: seed {measured.seed} is given twice; name each seed once")
        found[measured.seed] = measured
    return list(found.values())
