"""A user's own table as spreadsheets and programs write it: separators, encodings, stray blanks.

Nothing heavy is imported: the Snakefile calls this.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pgfl.errors import UserError
from pgfl.runtime.messages import few, shown

REQUIRED = ("image", "split", "pid")
KNOWN = (*REQUIRED, "camid")

SEPARATORS = (",", ";", "\t", "|")
BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",  # what Excel calls "Unicode Text"
    b"\xfe\xff": "utf-16",
}
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How .xlsx, .ods and .numbers begin, and how .xls does."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
"""The line in which Excel is told the separator; Excel does not show it."""
DECIMAL = re.compile(r"-?[0-9]+\.0+")


class OwnTable(NamedTuple):
    """What a table says of its images."""

    rows: dict[int, dict[str, str]]
    """By the number that a spreadsheet shows: image as it is written, split in small letters,
    pid and, if cameras are given, camid, without blanks around them. No value is empty."""
    notes: list[str]
    """What was forgiven, a line each."""


def read_own_table(path: Path) -> OwnTable:
    """Read a CSV file with the columns image, split, pid and, optionally, camid.

    Separators may be commas, semicolons, tabs or bars; the encoding UTF-8, UTF-16 with its mark,
    or Windows' cp1252. Other columns and empty rows are skipped.

    Raises:
        UserError: not such a table, or a value is missing: one line for each finding.
    """
    text, notes = _text(path)
    header, records = _records(path, text)
    places = {name: header.index(name) for name in KNOWN if name in header}
    rows, too_long = {}, []
    for number, record in records:
        if any(map(str.strip, record[len(header) :])):
            too_long.append(f"row {number}: has more values than there are columns")
        values = record + [""] * (len(header) - len(record))
        rows[number] = {name: values[place] for name, place in places.items()}
    if rows and not any(row.get("camid", "x").strip() for row in rows.values()):
        notes.append("the column camid is empty: read as if it were left out")
        for row in rows.values():
            del row["camid"]
    problems = few(too_long)
    for column in places:
        empty = [n for n, row in rows.items() if not row.get(column, "x").strip()]
        problems += few([f"row {number}: {column} is empty" for number in empty])
    if problems:
        raise UserError("\n".join(f"{path}: {problem}" for problem in problems))
    return OwnTable(_forgiven(rows, notes), notes)


def spellings(image: str) -> list[str]:
    """How the name of an image may be written on disk, as it stands in the table first.

    Blanks around it, Windows' backslashes, and the two ways in which Unicode composes accents
    (macOS takes the other one) do not make another name.
    """
    plain = plain_name(image)
    forms = [unicodedata.normalize(form, plain) for form in ("NFC", "NFD")]
    return list(dict.fromkeys([image, image.strip(), plain, *forms]))


def plain_name(image: str) -> str:
    """The name of an image without blanks around it, with forward slashes."""
    return image.strip().replace("\\", "/")


def _text(path: Path) -> tuple[str, list[str]]:
    """A file's text, and a note where its encoding was guessed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    if not content.strip():
        raise UserError(f"{path}: is empty")
    if content.startswith(SPREADSHEETS):
        raise UserError(
            f"{path}: a spreadsheet's own file, not a CSV file; save it as CSV (UTF-8) there"
        )
    marks = (name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark))
    encoding, notes = next(marks, "utf-8"), []
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        try:
            if encoding != "utf-8":
                raise
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            known = "UTF-8, UTF-16 or Windows' cp1252"
            raise UserError(
                f"{path}: not text in {known} ({error}); save it as CSV UTF-8"
            ) from None
        word = next(re.finditer(r"[^\s,;|\"]*[^\x00-\x7f][^\s,;|\"]*", text))[0]
        notes.append(
            f"not UTF-8, read as Windows' cp1252: is {shown(word)} right? If not, save it as "
            "CSV UTF-8"
        )
    if "\0" in text:
        raise UserError(f"{path}: not a CSV file (it holds zero bytes); save it as CSV UTF-8")
    return text, notes


def _records(path: Path, text: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The names of the columns, and the numbered records below them that hold anything."""
    separators = SEPARATORS
    if told := SEPARATOR_LINE.match(text):
        text, separators = text[told.end() :], (told[1],)
    headers = {separator: _header(text, separator) for separator in separators}
    separator = max(headers, key=lambda one: _likeness(headers[one]))
    records = _parsed(path, text, separator)
    first = next(records, None)
    if first is None:
        raise UserError(f"{path}: is empty")
    header = _names(first[1])
    if missing := [name for name in REQUIRED if name not in header]:
        found = ", ".join(shown(name) for name in first[1][:10])
        raise UserError(
            f"{path}: column {', '.join(missing)} is missing; the first line must name the "
            f"columns image, split, pid and, if known, camid (got {found})"
        )
    if twice := [name for name in KNOWN if header.count(name) > 1]:
        raise UserError(f"{path}: column {twice[0]!r} stands twice")
    return header, records


def _names(record: list[str]) -> list[str]:
    return [name.replace("\ufeff", "").strip().lower() for name in record]


def _likeness(header: list[str]) -> tuple[int, int]:
    """How much this is the header of such a table."""
    return len(set(header).intersection(KNOWN)), len(header)


def _header(text: str, separator: str) -> list[str]:
    """The names of the columns if this were the separator."""
    try:
        return _names(next(_parsed(Path(), text, separator), (0, []))[1])
    except UserError:
        return []


def _parsed(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Records that hold anything, numbered as a spreadsheet numbers its rows."""
    number = 0
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for number, record in enumerate(lines, start=1):
            if any(map(str.strip, record)):
                yield number, record
    except (csv.Error, ValueError, TypeError) as error:
        # Strict: a forgotten quotation mark would swallow all rows up to the next one.
        raise UserError(f"{path}: row {number + 1}: not a CSV file ({error})") from None


def _forgiven(rows: dict[int, dict[str, str]], notes: list[str]) -> dict[int, dict[str, str]]:
    """The rows with blanks and spreadsheets' habits taken off their values."""
    for row in rows.values():
        row["split"] = row["split"].strip().lower()
    for column in ("pid", "camid"):
        values = [row[column] for row in rows.values() if column in row]
        padded = [value for value in values if value != value.strip()]
        if padded:
            notes.append(f"{column}: blanks around values are taken off, as in {shown(padded[0])}")
        # One word in the column, and 1.0 is a word as well: programs write 1.0 for all or none.
        if values and all(DECIMAL.fullmatch(value.strip()) for value in values):
            notes.append(f"{column}: {shown(values[0].strip())} and the like are whole numbers")
            values = [value.partition(".")[0] for value in values]
        for row, value in zip(rows.values(), values, strict=False):
            row[column] = value.strip()
    return rows
