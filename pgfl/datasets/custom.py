"""A user's own data set: a CSV table and the images that it names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

import pandas as pd

from pgfl.datasets import taken
from pgfl.datasets.manifest import (
    COLUMNS,
    SPLITS,
    Entry,
    Listing,
    build_manifest,
    write_manifest,
)
from pgfl.datasets.own_checks import doubts, repeated_photographs, repeated_rows
from pgfl.datasets.own_table import plain_name, read_own_table, spellings
from pgfl.errors import UserError
from pgfl.runtime.files import link_or_copy, whole_folder
from pgfl.runtime.messages import few, shown

DEFAULT_CAMID = {"train": 0, "query": 0, "gallery": 1}
"""Where the table has no cameras: no match of a query is ever filtered out."""


@dataclass(frozen=True)
class Laid:
    """What is made of a user's own data set, all of it in one folder of its own."""

    images: Path
    """The folder of the images."""
    manifest: Path
    counts: Path

    def __post_init__(self) -> None:
        every = (self.images, self.manifest, self.counts)
        if len({path.parent.resolve() for path in every}) > 1:
            raise UserError(f"{self.manifest}: images, manifest and counts must lie in one folder")
        if len({path.name for path in every}) < len(every):
            raise UserError(f"{self.manifest}: images, manifest and counts need three names")

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """A data set's files as the workflow calls them."""
        return cls(folder / "images", folder / "manifest.csv", folder / "counts.json")

    @property
    def folder(self) -> Path:
        """The folder that they lie in."""
        return self.manifest.parent


@dataclass(frozen=True)
class Labelled(Entry):
    """One image of a person who is called by a word."""

    label: str


def take(table_path: Path, source: Path, target: Laid, stamp: str = "") -> pd.DataFrame:
    """Lay out a user's images and write their manifest.

    Images are hard-linked where possible. Identities and cameras may be any text; what is not a
    whole number is numbered in sorted order; the user's own word for a person stays in the
    column `label`. What is forgiven and what is doubtful is printed.

    Args:
        table_path: a CSV with the columns image, split (train, query, gallery), pid and,
            optionally, camid, as `read_own_table` reads it.
        source: the folder that the image names start from.
        target: what is made; its folder is replaced whole or left alone.
        stamp: what `taken.stamp_of` said of the photographs before.

    Returns:
        The manifest.

    Raises:
        UserError: every finding, one a line; of many of one kind the first ten.
    """
    table, notes = _read(table_path, source)
    for note in notes:
        print(f"note: {table_path}: {note}")
    problems = repeated_rows(table)
    once = table.drop_duplicates(["image", "split"])
    numbered = once.assign(pid=_numbered(once["pid"]))
    if "camid" in once:
        numbered["camid"] = _numbered(once["camid"])
    else:
        numbered["camid"] = once["split"].map(DEFAULT_CAMID)
    if not numbered["pid"].astype(str).equals(once["pid"]):
        numbered["label"] = once["pid"]
    with whole_folder(target.folder) as folder:
        images = folder / target.images.name
        # Looked at before they are read: a change in between is noticed the next time.
        seen = {image: taken.look(source / image) for image in dict.fromkeys(once["image"])}
        for image in seen:
            copy = images / image
            copy.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(source / image, copy)
        manifest, junk = build_manifest(
            Listing(listed(numbered).entries, problems),
            images,
            about=table_path,
            check=repeated_photographs,
        )
        for doubt in doubts(manifest, _words(once, manifest)):
            print(f"warning: {table_path}: {doubt}")
        hashes = dict(zip(manifest["image"], manifest["sha256"], strict=True))
        manifest["image"] = f"{images.name}/" + manifest["image"]
        if "label" in manifest:
            manifest["label"] = manifest.pop("label")  # the last column
        path, counts = folder / target.manifest.name, folder / target.counts.name
        write_manifest(manifest, junk, path, counts_file=counts)
        photographs = {name: (*seen[name], hashes[name]) for name in seen}
        taken.remember(folder, photographs, stamp)
    return manifest


def listed(manifest: pd.DataFrame) -> Listing:
    """The listing of a data set whose only source is its own table."""
    kind, columns = (
        (Entry, COLUMNS) if "label" not in manifest else (Labelled, (*COLUMNS, "label"))
    )
    rows = zip(*(manifest[column] for column in columns), strict=True)
    return Listing(
        [
            kind(image, split, int(pid), int(camid), *label)
            for image, split, pid, camid, *label in rows
        ]
    )


def _read(path: Path, source: Path) -> tuple[pd.DataFrame, list[str]]:
    """The user's table, with the names that the images have on disk, and what was forgiven.

    Its index are the numbers of the rows.
    """
    own = read_own_table(path)
    if not own.rows:
        raise UserError(f"{path}: no images: there is no row below the header")
    table = pd.DataFrame.from_dict(own.rows, orient="index")
    names, problems = _names_on_disk(source, table["image"])
    problems += _unknown_splits(table["split"])
    if problems:
        raise UserError("\n".join(f"{path}: {problem}" for problem in problems))
    return table.assign(image=table["image"].map(names)), own.notes


def _unknown_splits(splits: pd.Series) -> list[str]:
    rows = splits[~splits.isin(SPLITS)].groupby(splits)
    lines = []
    for split, column in rows:
        more = f" and {len(column) - 1} more" if len(column) > 1 else ""
        lines.append(
            f"row {column.index[0]}{more}: split {shown(split)} is none of {', '.join(SPLITS)}"
            f"{' (what is tested on is query or gallery)' if 'test' in split else ''}"
        )
    return few(lines)


def _names_on_disk(source: Path, images: pd.Series) -> tuple[dict[str, str], list[str]]:
    """For each image of the table its name on disk; and what is wrong with those without."""
    names, unsafe, missing = {}, {}, {}
    for row, image in images.items():
        if image in names or image in unsafe or image in missing:
            continue
        # Unlike pathlib's, os.path takes names that are too long for the file system.
        for name in spellings(image):
            if not _unsafe(source, name) and os.path.isfile(source / name):  # noqa: PTH113
                names[image] = name
                break
        else:
            if problem := _unsafe(source, image.strip()):
                unsafe[image] = f"row {row}: image {shown(image)} {problem}"
            else:
                missing[image] = f"row {row}: image {shown(image)} does not exist below {source}"
    if missing and not names and not unsafe and len(missing) > 1:
        return names, [_wrong_folder(source, list(missing))]
    return names, few(list(unsafe.values())) + few(list(missing.values()))


def _unsafe(source: Path, image: str) -> str:
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts:
        return f"must be a path below {source}"
    if not image.isprintable():
        return "holds line breaks or other control characters"
    if str(path) != image:
        return f"must be written {shown(str(path))}"
    return ""


def _wrong_folder(source: Path, images: Sequence[str]) -> str:
    """One line where nothing that a table names is there, and where it is instead."""
    said = (
        f"none of the {len(images)} images is below {source}: the first is looked for at "
        f"{source / plain_name(images[0])}"
    )
    if not source.is_dir():
        said = f"{said}, but there is no such folder"
    some = [plain_name(image) for image in images[:20]]
    below = sorted(path for path in source.glob("*") if path.is_dir()) if source.is_dir() else []
    for folder in (source.parent, *below):
        if any(os.path.isfile(folder / image) for image in some):  # noqa: PTH113
            return f"{said}. They are below {folder}: name that as the folder of the images"
    for image in some:
        first, _, rest = image.partition("/")
        if rest and os.path.isfile(source / rest):  # noqa: PTH113
            return f"{said}. They are there without the {shown(first + '/')} before their names"
        if ending := next((one.suffix for one in _beside(source / image)), ""):
            return f"{said}. Their names lack the ending {shown(ending)}"
    return f"{said}. Name the folder that they start from (--images, or the setting images)"


def _beside(path: Path) -> list[Path]:
    """Files that are called the same but for an ending."""
    if not os.path.isdir(path.parent):  # noqa: PTH112
        return []
    return sorted(one for one in path.parent.iterdir() if one.suffix and one.stem == path.name)


def _words(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """The user's own words for people and cameras, row by row of the manifest."""
    words = table.set_index(["image", "split"])[[c for c in ("pid", "camid") if c in table]]
    places = pd.MultiIndex.from_frame(manifest[["image", "split"]])
    return words.loc[places].reset_index(drop=True)


def _numbered(column: pd.Series) -> pd.Series:
    """The column as whole numbers: as they are, or each distinct text's place in sorted order."""
    texts = set(column)
    # A person called -1 is somebody here, not junk; 7 and 007 are two.
    if all(text.isascii() and text.isdecimal() and len(text) <= 18 for text in texts):
        numbers = column.astype("int64")
        if numbers.nunique() == len(texts):
            return numbers
    return column.map({value: number for number, value in enumerate(sorted(texts))})
