"""Evaluation files as the tables read them, and whose they are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgfl.errors import UserError
from pgfl.runtime.files import read_json
from pgfl.runtime.messages import shown

COUNT_KEYS = ("query_identities", "query", "gallery")
"""What a table says that its numbers stand on."""
COMPARABLE_KEYS = ("metric", "feature", "protocol", "rerank", "manifest_sha256")
"""What an evaluation says of itself, and others of the same test set must say, too."""
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
    def project(self) -> str:
        """Where the runs of its experiment lie, and what the model was trained on."""
        return self.file.parents[3].as_posix()

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
            isinstance(counts.get(name), int) for name in COUNT_KEYS
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

    The file says itself what it is of. Files of older versions do not: then the folder tells.

    Raises:
        UserError: it cannot be read, does not lie in a run's folder, or lies in that of another
            run than the one that it is of.
    """
    *_, train, variant, seed, folder, _ = ("",) * 5 + file.parts
    number = re.fullmatch(r"seed(\d+)", seed)
    if folder != "eval" or number is None:
        raise UserError(f"{file}: must lie in a run's folder: train set/variant/seed0/eval")
    report = read_json(file)
    if not isinstance(report, dict):
        raise UserError(f"{file}: not an evaluation file")
    folders = {"train_set": train, "variant": variant, "seed": int(number.group(1))}
    said = {key: report.get(key, folder) for key, folder in folders.items()}
    for key, folder in folders.items():
        if type(said[key]) is not type(folder) or said[key] != folder:
            raise UserError(
                f"{file}: is of {key} {shown(said[key])} by its content, but lies in the folder "
                f"of {folder!r}; put it back, or evaluate the model again"
            )
    return Measured(file, report, said["train_set"], said["variant"], said["seed"])


def read_evaluations(
    files: Sequence[Path], variant: str, test_set: str, feature: str = "global"
) -> list[Measured]:
    """Read the evaluations of a variant on a test set, one per seed.

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
        said = measured.report.get("dataset", test_set)
        if said != test_set:
            raise UserError(
                f"{file}: is of dataset {shown(said)} by its content, but named after "
                f"{test_set!r}; put it back, or evaluate the model again"
            )
        if measured.report.get("use", "global") != feature:
            raise UserError(f"{file}: was not matched with {feature}; evaluate the model again")
        if measured.seed in found:
            raise UserError(f"{file}: seed {measured.seed} is given twice; name each seed once")
        found[measured.seed] = measured
    return list(found.values())


def check_comparable(
    rows: Sequence[Sequence[Measured]], keys: Sequence[str] = COMPARABLE_KEYS
) -> None:
    """Refuse numbers that must not be averaged, or stand beside one another, in a table.

    Args:
        rows: of one test set; for each method, one evaluation per seed.
        keys: which of `COMPARABLE_KEYS` to look at.

    Raises:
        UserError: two were not measured alike, are from different experiments or training sets,
            or two methods do not have the same seeds.
    """
    first = rows[0][0]
    for row in rows:
        if [one.seed for one in row] != [one.seed for one in rows[0]]:
            raise UserError(f"{row[0].file.parent}: not the same seeds as {first.variant!r} has")
        for one in row:
            if one.project != first.project:
                raise UserError(
                    f"{one.file}: does not lie in {first.project}, as {first.file} does"
                )
            for key in keys:
                ours, theirs = one.report.get(key), first.report.get(key)
                if ours != theirs:
                    raise UserError(
                        f"{one.file}: was evaluated with {key} {ours!r}, {first.file} with "
                        f"{theirs!r}; evaluate both alike"
                    )


def protocol_note(measured: Measured) -> str:
    """How features were matched where it is not as the paper did it, as a sentence; else ''."""
    report = measured.report
    unusual = {
        "protocol": ("multi_shot", "{}"),
        "rerank": (False, "re-ranked"),
        "metric": ("cosine", "{} distance"),
        "feature": ("after_bnneck", "features {}"),
    }
    words = [
        text.format(report[key])
        for key, (usual, text) in unusual.items()
        if report.get(key, usual) != usual
    ]
    return f" Protocol: {', '.join(words)}." if words else ""
