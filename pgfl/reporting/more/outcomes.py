"""What became of each query in every method's evaluation, beside what the manifest says of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pgfl.datasets.manifest import read_manifest, read_table
from pgfl.errors import UserError
from pgfl.reporting.columns import finite_numbers
from pgfl.reporting.evaluations import ROUNDING
from pgfl.reporting.more.ranked_list import Hit, RankedList
from pgfl.reporting.paper.numbers import dataset_name

Queries = dict[str, list[Path]]
"""For each method: the `eval/{test set}.queries.csv` of its models, one per seed."""


@dataclass(frozen=True)
class Outcomes:
    """A test set, and how each method's models ranked its gallery."""

    folder: Path
    """Where image names start from."""
    queries: pd.DataFrame
    """The manifest's rows of split query."""
    pids: dict[str, int]
    """Whom each gallery image shows."""
    found: dict[str, list[pd.DataFrame]]
    """For each method: what `read_queries` gives, one per seed, a row for each of `queries`."""

    @property
    def test_set(self) -> str:
        """What the paper calls it; a set of the user's own has its folder's name."""
        return dataset_name(self.folder.absolute().name)

    def first(self, method: str) -> pd.DataFrame:
        """What a method's first seed found."""
        return self.found[method][0]

    def ranked(self, method: str, query: int, before: str = "", after: str = "") -> RankedList:
        """What a method's first seed found for one query, to be drawn.

        Args:
            method: one of `found`.
            query: its place in `queries`.
            before: said before the numbers.
            after: said after them.
        """
        row = self.first(method).iloc[query]
        pid = self.queries["pid"].iloc[query]
        hits, place = [], 1
        while name := row.get(f"top{place}"):
            match = self.pids[name] == pid
            hits.append(Hit(self.folder / name, row[f"score{place}"], bool(match)))
            place += 1
        words = f"{before}{method}: {numbers(row)}{after}"
        return RankedList(self.folder / self.queries["image"].iloc[query], hits, words)


def numbers(row: Any) -> str:
    """A query's average precision and first match, in words."""
    return f"AP {row['AP']:.1f} %, first match at rank {row['first_hit']}"


def read_outcomes(files: Queries, manifest: Path) -> Outcomes:
    """Read what evaluations noted of each query.

    Raises:
        UserError: a file cannot be read, or is not about this manifest's images.
    """
    table = read_manifest(manifest)
    queries = table[table["split"] == "query"].reset_index(drop=True)
    gallery = table[table["split"] == "gallery"]
    pids = dict(zip(gallery["image"], gallery["pid"], strict=True))
    found = {method: [read_queries(file) for file in some] for method, some in files.items()}
    for method, tables in found.items():
        for file, one in zip(files[method], tables, strict=True):
            tops = one.filter(regex=r"^top\d+$")
            named = set(tops.to_numpy().ravel()) - {""}
            if list(one["image"]) != list(queries["image"]) or not named <= pids.keys():
                raise UserError(f"{file}: is not about the images of {manifest}; evaluate again")
    return Outcomes(manifest.parent, queries, pids, found)


def read_queries(path: Path) -> pd.DataFrame:
    """Read the file of an evaluation.

    Returns:
        As `pgfl.retrieval.queries.rank_queries` made it; `topN` is empty where the gallery had
        no more images.

    Raises:
        UserError: missing, not a CSV file, without the columns, or with other values in them.
    """
    table = read_table(path)
    places = range(1, 1 + max(1, sum(column.startswith("top") for column in table)))
    tops, scores = ([f"{name}{place}" for place in places] for name in ("top", "score"))
    for column in ("image", "AP", "first_hit", *tops, *scores):
        if column not in table:
            raise UserError(f"{path}: column {column} is missing; evaluate the model again")
    for column in ("AP", *scores):
        table[column] = finite_numbers(table[column], f"{path}: ", empty=True)
    if not table["AP"].dropna().between(0, 100 + ROUNDING).all():
        raise UserError(f"{path}: AP must be from 0 to 100; evaluate the model again")
    if table["AP"].isna().all():
        raise UserError(f"{path}: no query has a match; evaluate the model again")
    words = {column: table[column].fillna("").astype(str) for column in tops}
    try:
        # Whole numbers, also where one is missing.
        return table.assign(first_hit=table["first_hit"].astype("Int64"), **words)
    except (TypeError, ValueError):
        raise UserError(f"{path}: first_hit must hold whole numbers") from None
