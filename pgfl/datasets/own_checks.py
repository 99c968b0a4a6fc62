"""What goes wrong in tables of one's own: what stands there twice, and doubtful names."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from pgfl.datasets.own_table import DECIMAL
from pgfl.runtime.messages import few, shown

REWRITTEN = re.compile(r"-?[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+")
"""How spreadsheets write long numbers, of which they have then lost the last digits."""
NUMBER = re.compile(r"-?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?")


def repeated_rows(table: pd.DataFrame) -> list[str]:
    """Rows of an image that stands in the same split already: one line for each.

    Args:
        table: columns image, split, pid and, possibly, camid; its index are row numbers.
    """
    problems = defaultdict(list)
    firsts: dict[tuple[str, str], Any] = {}
    for row in table[table.duplicated(["image", "split"], keep=False)].itertuples():
        first = firsts.setdefault((row.image, row.split), row)
        if first is row:
            continue
        where = f"row {row.Index}: image {shown(row.image)}: listed twice in {row.split}"
        also = f"{where} (row {first.Index} lists it already"
        other = next((c for c in ("pid", "camid") if _differ(c, first, row)), None)
        if other is None:
            problems["same"].append(f"{also}, with the same values)")
        else:
            before, now = (shown(getattr(one, other)) for one in (first, row))
            problems[other].append(f"{also}, with {other} {before}, now {now})")
    return [line for lines in problems.values() for line in lines]


def _differ(column: str, one: Any, other: Any) -> bool:
    return getattr(one, column, "") != getattr(other, column, "")


def repeated_photographs(table: pd.DataFrame) -> list[str]:
    """Photographs of the same content, whatever their names, that cannot all be right.

    Those of two people, those in train and in test, and a query that would find itself. A query
    may stand in the gallery under its own camera, as in Occluded-Duke: there, images of the same
    person and camera do not count.

    Args:
        table: columns image, split, pid, camid, sha256 and, possibly, label.

    Returns:
        One line for each photograph.
    """
    people, halves, themselves = [], [], []
    for rows in _alike(table):
        first = rows[0]
        train = [row for row in rows if row.split == "train"]
        test = [row for row in rows if row.split != "train"]
        if other := next((row for row in rows if row.pid != first.pid), None):
            whose = " and ".join(shown(str(_who(row))) for row in (first, other))
            people.append(f"{_pair(first, other)}, but of two people ({whose})")
        elif train and test:
            halves.append(f"{_pair(train[0], test[0])}: take it out of train or out of test")
        elif pair := _finds_itself(rows):
            themselves.append(
                f"{_pair(*pair)}, so that the query finds itself: take one out, unless both "
                "have the same camid"
            )
    return few(people) + few(halves) + few(themselves)


def _alike(table: pd.DataFrame) -> Iterator[list[Any]]:
    """Rows of the same content, wherever there are several."""
    groups = defaultdict(list)
    for row in table[table.duplicated("sha256", keep=False)].itertuples():
        groups[row.sha256].append(row)
    yield from groups.values()


def _finds_itself(rows: list[Any]) -> tuple[Any, Any] | None:
    gallery = {row.camid: row for row in reversed(rows) if row.split == "gallery"}
    for query in (row for row in rows if row.split == "query"):
        for camid, found in gallery.items():
            if camid != query.camid:
                return query, found
    return None


def _who(row: Any) -> Any:
    return getattr(row, "label", row.pid)


def _pair(first: Any, other: Any) -> str:
    if first.image == other.image:
        return f"{first.image}: {first.split} and {other.split} list the same photograph"
    splits = f"{first.image} ({first.split}) and {other.image} ({other.split})"
    return f"{splits} are the same photograph"


def doubts(table: pd.DataFrame, words: pd.DataFrame) -> list[str]:
    """What is allowed, but hardly meant: one line for each finding.

    Args:
        table: columns image, split, pid, sha256.
        words: columns pid and, possibly, camid, as the user's table has them.
    """
    said = [line for column in words for line in _doubtful_words(words[column])]
    train = words["pid"][table["split"] == "train"].value_counts()
    if alone := sorted(train.index[train == 1]):
        said.append(
            f"train has only one image of {_some(alone, 'people')}: the triplet loss wants "
            "two different ones, and their only one is repeated in a batch"
        )
    twice = [rows for rows in _alike(table) if len({row.split for row in rows}) < len(rows)]
    said += few(
        [
            f"{rows[0].image} and {rows[1].image} are the same photograph, which counts twice"
            for rows in twice
        ]
    )
    return said


def _doubtful_words(column: pd.Series) -> list[str]:
    """Names of one column that may be meant to be the same, or are no longer what they were."""
    what = "people" if column.name == "pid" else "cameras"
    rows = column.value_counts()
    groups = defaultdict(list)
    for word in sorted(rows.index):
        groups[_plain(word)].append(word)
    said = few(
        [
            f"{' and '.join(f'{shown(word)} (rows: {rows[word]})' for word in words)} count as "
            f"{len(words)} {what}; write them alike if they are one"
            for words in groups.values()
            if len(words) > 1
        ]
    )
    rewritten = [word for word in sorted(rows.index) if REWRITTEN.fullmatch(word)]
    if rewritten and all(NUMBER.fullmatch(word) for word in rows.index):
        said.append(
            f"{column.name}: {_some(rewritten, 'values')} may be numbers that a spreadsheet has "
            "shortened; make the column a text column there"
        )
    return said


def _plain(word: str) -> str:
    """A name without what people hardly tell apart: case, blanks, accents' forms, zeros."""
    text = unicodedata.normalize("NFKC", word).casefold()
    text = "".join(" " if unicodedata.category(c) in ("Cf", "Cc") else c for c in text)
    text = re.sub(r"(?<![0-9])0+(?=[0-9])", "", " ".join(text.split()))
    return text.partition(".")[0] if DECIMAL.fullmatch(text) else text


def _some(words: Sequence[str], what: str) -> str:
    """How many, and the first of them."""
    if len(words) == 1:
        return shown(words[0])
    more = ", ..." if len(words) > 3 else ""
    return f"{len(words)} {what} ({', '.join(shown(word) for word in words[:3])}{more})"
