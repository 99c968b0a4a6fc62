"""A user's own data set: a CSV table and the images that it names."""

import os
from pathlib import Path, PurePosixPath

import pandas as pd

from pgfl.datasets import taken
from pgfl.datasets.manifest import (
    COLUMNS,
    Entry,
    Listing,
    build_manifest,
    read_table,
    require_columns,
    write_manifest,
)
from pgfl.errors import UserError
from pgfl.explain import shown
from pgfl.files import link_or_copy, whole_folder

REQUIRED = ("image", "split", "pid")
DEFAULT_CAMID = {"train": 0, "query": 0, "gallery": 1}
"""Where the table has no cameras: no match of a query is ever filtered out."""


def take(table_path: Path, source: Path, target: Path, stamp: str = "") -> pd.DataFrame:
    """Lay out a user's images below `target` and write the manifest there.

    Images are hard-linked where possible. Identities and cameras may be any text; what is not a
    whole number is numbered in sorted order; the user's own word for a person stays in the
    column `label`.

    Args:
        table_path: a CSV with the columns image, split (train, query, gallery), pid and,
            optionally, camid.
        source: the folder that the image names start from.
        target: the data set's folder, replaced whole or left alone.
        stamp: what `taken.stamp_of` said of the photographs before.

    Returns:
        The manifest.

    Raises:
        UserError: every finding, one a line.
    """
    table = read_table(table_path)
    require_columns(table, table_path, REQUIRED)
    if "camid" in table:
        require_columns(table, table_path, ("camid",))
    problems = [
        f"{table_path}: row {row + 2}: {problem}"
        for row, image in enumerate(table["image"])
        if (problem := _wrong_name(source, image))
    ]
    if problems:
        raise UserError("\n".join(problems))
    pids = _numbered(table["pid"])
    camids = _numbered(table["camid"]) if "camid" in table else table["split"].map(DEFAULT_CAMID)
    numbered = table.assign(image="images/" + table["image"], pid=pids, camid=camids)
    with whole_folder(target) as folder:
        # Looked at before they are read: a change in between is noticed the next time.
        seen = {image: taken.look(source / image) for image in dict.fromkeys(table["image"])}
        for image in seen:
            copy = folder / "images" / image
            copy.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(source / image, copy)
        manifest, junk = build_manifest(listed(numbered), folder, about=table_path)
        if not pids.astype(str).equals(table["pid"]):
            words = dict(zip(pids, table["pid"], strict=True))
            manifest["label"] = manifest["pid"].map(words)
        write_manifest(manifest, junk, folder / "manifest.csv")
        hashes = dict(zip(manifest["image"], manifest["sha256"], strict=True))
        photographs = {name: (*seen[name], hashes[f"images/{name}"]) for name in seen}
        taken.remember(folder, photographs, stamp)
    return manifest


def listed(manifest: pd.DataFrame) -> Listing:
    """The listing of a data set whose only source is its own table."""
    rows = zip(*(manifest[column] for column in COLUMNS), strict=True)
    return Listing(
        [Entry(image, split, int(pid), int(camid)) for image, split, pid, camid in rows]
    )


def _wrong_name(source: Path, image: str) -> str:
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts:
        return f"image {shown(image)} must be a path below {source}"
    if not image.isprintable():
        return f"image {shown(image)} holds line breaks or other control characters"
    if str(path) != image:
        return f"image {shown(image)} must be written {shown(str(path))}"
    # Unlike pathlib's, it takes names that are too long for the file system.
    if not os.path.isfile(source / path):  # noqa: PTH113
        return f"image {shown(image)} does not exist below {source}"
    return ""


def _numbered(column: pd.Series) -> pd.Series:
    """The column as whole numbers: as they are, or each distinct text's place in sorted order."""
    texts = set(column)
    # A person called -1 is somebody here, not junk; 7 and 007 are two.
    if all(text.isascii() and text.isdecimal() and len(text) <= 18 for text in texts):
        numbers = column.astype("int64")
        if numbers.nunique() == len(texts):
            return numbers
    return column.map({value: number for number, value in enumerate(sorted(texts))})
