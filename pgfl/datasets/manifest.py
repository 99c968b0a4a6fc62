"""`manifest.csv`: the one table that says which image shows whom, seen by which camera."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from pgfl.datasets.inspection import inspect_images
from pgfl.datasets.listing import Counts, Listing, Published
from pgfl.datasets.listing import Entry as Entry
from pgfl.errors import UserError
from pgfl.runtime.files import text_hash, whole_file, write_json
from pgfl.runtime.messages import few, shown, shown_key

SPLITS = ("train", "query", "gallery")
COLUMNS = ("image", "split", "pid", "camid")
JUNK = -1
"""The pid of images that no protocol ranks (Market-1501's bad boxes): counted, then dropped."""


def build_manifest(
    listing: Listing,
    folder: Path,
    published: Published | None = None,
    about: Path | None = None,
    check: Callable[[pd.DataFrame], list[str]] | None = None,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The sorted, checked table of a data set, with a hash of every image's bytes.

    The hash makes the manifest stand for the images themselves: other pixels, another manifest.

    Args:
        listing: all images of all splits.
        folder: where the manifest will lie.
        published: what must be found, or None where nobody knows it.
        about: what messages name instead of the folder.
        check: finds more that is wrong with the finished table, one line a finding.

    Returns:
        The table, junk left out, and the number of junk images in each split that has any.

    Raises:
        UserError: every finding, one a line; of many of one kind the first ten.
    """
    # Whatever a data set's own kind of entry adds is a column too.
    entries = listing.entries
    table = pd.DataFrame(entries, columns=None if entries else list(COLUMNS))
    is_junk = table["pid"] == JUNK
    junk = {str(split): len(rows) for split, rows in table[is_junk].groupby("split")}
    table = _sorted(table[~is_junk])
    # What is missing has consequences, which would only hide it.
    different = _differences(table, published) if published is not None else []
    problems = [*listing.problems, *(different or find_problems(table))]
    inspected = inspect_images(folder, list(table["image"]))
    unreadable = [result for result in inspected if isinstance(result, str)]
    problems += few(unreadable)
    if not unreadable:
        table["width"] = [result.width for result in inspected]
        table["height"] = [result.height for result in inspected]
        table["sha256"] = [result.sha256 for result in inspected]
        problems += check(table) if check else []
    if problems:
        raise UserError("\n".join(f"{about or folder}: {problem}" for problem in problems))
    return table, junk


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """By split, in the order of `SPLITS`, then by image name."""
    order = table["split"].map(SPLITS.index)
    return (
        table.assign(order=order)
        .sort_values(["order", "image"])
        .drop(columns="order")
        .reset_index(drop=True)
    )


def find_problems(table: pd.DataFrame) -> list[str]:
    """What is wrong with the rows themselves: one line a finding, ten lines a kind."""
    if table.empty:
        return ["no images"]
    who = dict(zip(table["pid"], table.get("label", table["pid"]), strict=True))
    # One photograph may be query and gallery at once (Occluded-Duke), but not twice in a split.
    twice = table[table.duplicated(["image", "split"])]
    problems = few([f"{row.image}: listed twice in {row.split}" for row in twice.itertuples()])
    train = set(table.pid[table.split == "train"])
    test = set(table.pid[table.split != "train"])
    both = sorted(train & test)
    problems += few([f"id {shown_key(who[pid])} is in both train and test" for pid in both])
    if set(table.split) >= {"query", "gallery"}:
        problems += _hopeless(table)
    for split, other in (("query", "gallery"), ("gallery", "query")):
        if split in set(table.split) and other not in set(table.split):
            problems.append(f"there is a {split} but no {other}")
    return problems


def _hopeless(table: pd.DataFrame) -> list[str]:
    """Queries that cannot be found: one line for each, or one for all where it is the cameras."""
    unmatched = set(unmatched_queries(table))
    queries, gallery = (table[table.split == split] for split in ("query", "gallery"))
    queries = queries[queries.image.isin(unmatched)]
    if len(queries) and pd.concat([queries, gallery])["camid"].nunique() == 1:
        return [
            f"no query has a match: all {len(queries) + len(gallery)} images of query and gallery "
            "are of one camera, and images of the same person and camera do not count as a find; "
            "leave the column camid out if the cameras are not known"
        ]
    seen = queries.pid.isin(set(gallery.pid))
    said = "a query without a match in the gallery"
    return [
        *few([f"{image}: {said}" for image in queries.image[~seen]]),
        *few(
            [
                f"{image}: {said}: its person is there, but of the same camera only"
                for image in queries.image[seen]
            ]
        ),
    ]


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


def _differences(table: pd.DataFrame, published: Published) -> list[str]:
    """Where a table is not what was published."""
    found = count(table)
    problems = []
    for split, counts in published.counts.items():
        here = found.get(split, Counts(0, 0, 0))
        if here != counts:
            lacking = counts.images - here.images
            words = f"; {abs(lacking)} images too {'few' if lacking > 0 else 'many'}"
            problems.append(f"{split}: found {here}, published {counts}{words if lacking else ''}")
    for split, names in published.names.items():
        there = {_file_name(image) for image in table.image[table.split == split]}
        missing = [f"{split}: {name} is missing" for name in sorted(names - there)]
        foreign = [f"{split}: {name} does not belong to it" for name in sorted(there - names)]
        problems += [*few(missing, "that are missing"), *few(foreign, "that do not")]
    if not problems and published.names_sha256 and names_hash(table) != published.names_sha256:
        problems.append("the file names are not the published ones, though their numbers agree")
    return problems


def count(table: pd.DataFrame) -> dict[str, Counts]:
    """Identities, images and cameras of each split that has any."""
    return {
        str(split): Counts(rows.pid.nunique(), len(rows), rows.camid.nunique())
        for split, rows in table.groupby("split")
    }


def names_hash(table: pd.DataFrame) -> str:
    """A sha256 over every image's split and file name, whatever the folders above are called."""
    names = sorted(f"{row.split}/{_file_name(row.image)}" for row in table.itertuples())
    return text_hash("\n".join(names))


def images_hash(table: pd.DataFrame) -> str:
    """A sha256 over every image's split, file name and bytes."""
    rows = sorted(f"{r.split}/{_file_name(r.image)} {r.sha256}" for r in table.itertuples())
    return text_hash("\n".join(rows))


def _file_name(image: str) -> str:
    return image.rpartition("/")[2]


def verified(origin: str, table: pd.DataFrame, published: Published | None) -> str:
    """Where a checked data set is from, and what of it is proved to be as published.

    Args:
        origin: what `read_origin` says; may be empty.
        table: as `build_manifest` returns it.
        published: what it was compared with, if it was.
    """
    origin = origin or "unknown"
    if published is None:
        return f"{origin}, not compared with what is published"
    if origin.startswith("published"):
        return origin
    if not published.images_sha256:
        return f"{origin}, names and counts as published"
    if images_hash(table) == published.images_sha256:
        return f"{origin}, names, counts and images as published"
    return f"{origin}, names and counts as published, but images with other bytes"


def verify_rows(expected: pd.DataFrame, found: pd.DataFrame, folder: Path) -> None:
    """Compare a manifest with what lies on disk now.

    Args:
        expected: read from `manifest.csv`.
        found: built anew.
        folder: named in messages.

    Raises:
        UserError: every image that is gone, new or changed, one a line.
    """
    before, now = (set(zip(t["split"], t["image"], strict=True)) for t in (expected, found))
    problems = few([f"{image}: is gone from {split}" for split, image in sorted(before - now)])
    problems += few([f"{image}: is new in {split}" for split, image in sorted(now - before)])
    both = expected.merge(found, on=["split", "image"], suffixes=("", "_found"))
    changed = both[both["sha256"] != both["sha256_found"]]
    problems += few([f"{image}: its content has changed" for image in changed["image"]])
    if problems:
        raise UserError("\n".join(f"{folder}: {problem}" for problem in problems))


def write_manifest(
    table: pd.DataFrame,
    junk: dict[str, int],
    path: Path,
    origin: str = "",
    counts_file: Path | None = None,
) -> None:
    """Write a manifest and its counts, each whole.

    Args:
        table: the manifest.
        junk: junk images of each split; the manifest has none.
        path: the CSV.
        origin: where the images are from; goes to the counts.
        counts_file: a JSON; default: `counts.json` beside the CSV, where others look for it.
    """
    counts = {split: vars(numbers) for split, numbers in count(table).items()}
    content = {"splits": counts, "junk": junk} | ({"origin": origin} if origin else {})
    write_json(counts_file or path.with_name("counts.json"), content)
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_manifest(path: Path, split: str | None = None) -> pd.DataFrame:
    """Read a manifest, or one split of it.

    Returns:
        columns image (str), split (str), pid (int), camid (int) and whatever else it holds.

    Raises:
        UserError: unreadable, a column missing, an empty or wrong value, or no row of `split`.
    """
    table = read_table(path)
    require_columns(table, path, COLUMNS)
    for column in ("pid", "camid"):
        table[column] = whole_numbers(table[column], f"{path}: ")
    if split is not None:
        table = table[table["split"] == split].reset_index(drop=True)
        if table.empty:
            raise UserError(f"{path}: no row of split {split!r}")
    return table


TEXT = {name: str for name in ("image", "split", "pid", "camid", "label", "sha256")}
"""Columns that are read as they are: to pandas, 007 would be 7 and a person called NA nobody."""
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def whole_numbers(column: pd.Series, what: str) -> pd.Series:
    """A column of text as int64.

    Raises:
        UserError: a value is none, or has more than 18 digits; `what` begins the message.
    """
    for row, text in column.items():
        if not WHOLE_NUMBER.fullmatch(text):
            raise UserError(
                f"{what}row {row + 2}: {column.name} must be a whole number (got {shown(text)})"
            )
    return column.astype("int64")


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file as it is; names, identities and cameras stay text.

    Raises:
        UserError: missing, not a CSV file in UTF-8, a row of another length, or a column twice.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error}); save it as CSV UTF-8") from None
    if not content.strip():
        raise UserError(f"{path}: not a CSV file (it is empty)")
    if "\0" in content:
        raise UserError(f"{path}: not a CSV file (it holds zero bytes)")
    try:
        header: list[str] = next(filter(None, csv.reader(io.StringIO(content))), [])
        if twice := sorted(name for name in set(header) if header.count(name) > 1):
            raise UserError(f"{path}: column {shown(twice[0])} stands twice")
        table = pd.read_csv(
            io.StringIO(content), dtype=TEXT, keep_default_na=False, na_values=[""]
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error, ValueError) as error:
        raise UserError(f"{path}: not a CSV file ({' '.join(str(error).split())})") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: row 2: has more values than there are columns")
    return table


def require_columns(table: pd.DataFrame, path: Path, columns: Sequence[str]) -> None:
    """Raise UserError unless a table has these columns, every value filled, and known splits."""
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"{path}: column {', '.join(missing)} is missing")
    for column in columns:
        rows = table.index[table[column].isna()]
        if len(rows):
            raise UserError(f"{path}: row {rows[0] + 2}: {column} is empty")
    if unknown := sorted(set(table["split"]) - set(SPLITS)):
        raise UserError(f"{path}: split {shown(unknown[0])} is none of {', '.join(SPLITS)}")
