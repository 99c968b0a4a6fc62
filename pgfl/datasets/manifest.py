"""`manifest.csv`: the one table that says which image shows whom, seen by which camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pgfl.errors import UserError
from pgfl.files import file_hash, whole_file

SPLITS = ("train", "query", "gallery")
COLUMNS = ("image", "split", "pid", "camid")


@dataclass(frozen=True)
class Entry:
    """One image."""

    image: str
    """Path below the manifest's folder, with forward slashes."""
    split: str
    pid: int
    camid: int


@dataclass(frozen=True)
class Counts:
    """Identities and images of one split."""

    identities: int
    images: int


def build_manifest(
    entries: Sequence[Entry], folder: Path, expected: dict[str, Counts] | None
) -> pd.DataFrame:
    """The sorted, checked table of a data set, with a hash of every image's bytes.

    The hash makes the manifest stand for the images themselves: other pixels, another manifest.

    Args:
        entries: all images of all splits.
        folder: where the manifest will lie.
        expected: published counts for each split, or None where nobody knows them.

    Raises:
        UserError: every finding, one a line.
    """
    # Whatever a data set's own kind of entry adds is a column too.
    table = pd.DataFrame(entries, columns=None if entries else list(COLUMNS))
    problems = find_problems(table)
    found = count(table)
    for split, counts in (expected or {}).items():
        if found.get(split) != counts:
            problems.append(f"{split}: found {found.get(split)}, published {counts}")
    if problems:
        raise UserError("\n".join(f"{folder}: {problem}" for problem in problems))
    order = {split: index for index, split in enumerate(SPLITS)}
    table = table.sort_values(
        ["split", "image"],
        key=lambda column: column.map(order) if column.name == "split" else column,
    )
    table["sha256"] = [file_hash(folder / image)[:16] for image in table["image"]]
    return table.reset_index(drop=True)


def find_problems(table: pd.DataFrame) -> list[str]:
    """What is wrong with the rows themselves: one line a finding."""
    problems = []
    if table.empty:
        return ["no images"]
    # One photograph may be query and gallery at once (Occluded-Duke), but not twice in a split.
    twice = table[table.duplicated(["image", "split"])]
    problems += [f"{row.split}: {row.image} is listed twice" for row in twice.itertuples()]
    train = set(table.pid[table.split == "train"])
    test = set(table.pid[table.split != "train"])
    if both := sorted(train & test):
        problems.append(f"ids in both train and test: {_few(both)}")
    if unmatched := sorted(unmatched_queries(table)):
        problems.append(f"queries without a match in the gallery: {_few(unmatched)}")
    return problems


def unmatched_queries(table: pd.DataFrame) -> list[str]:
    """Query images that no gallery image of the same id from another camera answers."""
    gallery_cameras: dict[int, set[int]] = {}
    for row in table[table.split == "gallery"].itertuples():
        gallery_cameras.setdefault(row.pid, set()).add(row.camid)
    queries = table[table.split == "query"]
    return [
        row.image
        for row in queries.itertuples()
        if not gallery_cameras.get(row.pid, set()) - {row.camid}
    ]


def count(table: pd.DataFrame) -> dict[str, Counts]:
    """Identities and images of each split that has any."""
    return {
        str(split): Counts(rows.pid.nunique(), len(rows)) for split, rows in table.groupby("split")
    }


def write_manifest(table: pd.DataFrame, path: Path) -> None:
    """Write the CSV whole."""
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_manifest(path: Path, split: str | None = None) -> pd.DataFrame:
    """Read a manifest, or one split of it.

    Returns:
        columns image (str), split (str), pid (int), camid (int) and whatever else it holds.

    Raises:
        UserError: unreadable, a column missing, an empty or wrong value, or no row of `split`.
    """
    try:
        table = pd.read_csv(path, dtype={"image": str, "split": str, "sha256": str})
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV file ({error})") from None
    if missing := [column for column in COLUMNS if column not in table]:
        raise UserError(f"{path}: column {', '.join(missing)} is missing")
    for column in COLUMNS:
        rows = table.index[table[column].isna()]
        if len(rows):
            raise UserError(f"{path}: row {rows[0] + 2}: {column} is empty")
    for column in ("pid", "camid"):
        if not pd.api.types.is_integer_dtype(table[column]):
            raise UserError(f"{path}: {column} must hold whole numbers")
    if unknown := sorted(set(table["split"]) - set(SPLITS)):
        raise UserError(f"{path}: split {unknown[0]!r} is none of {', '.join(SPLITS)}")
    if split is not None:
        table = table[table["split"] == split].reset_index(drop=True)
        if table.empty:
            raise UserError(f"{path}: no row of split {split!r}")
    return table


def _few(items: Sequence[object], most: int = 10) -> str:
    shown = ", ".join(str(item) for item in items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")
