"""The archives of the data sets, or the folders they were unpacked to: their names, one layout."""

import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path, PurePosixPath

from pgfl.datasets import (
    dukemtmc_reid,
    market1501,
    occluded_duke,
    occluded_reid,
    partial_ilids,
    partial_reid,
)
from pgfl.datasets.folders import Layout, files_in, find_root, split_folders
from pgfl.datasets.origin import write_origin
from pgfl.errors import UserError
from pgfl.runtime.files import (
    file_hash,
    folders_with,
    link_or_copy,
    text_hash,
    whole_folder,
)
from pgfl.untrusted.obtain import Source, in_words, matches
from pgfl.untrusted.packed import names_in, unpack

LIGHTAS = "https://github.com/lightas"

PARTIAL_SETS = Source(
    name="dataset2.zip",
    url=f"{LIGHTAS}/ICCV19_Pose_Guided_Occluded_Person_ReID/raw/master/dataset2.zip",
)
"""Holds the archives of both partial data sets."""

LAYOUTS: dict[str, Layout] = {
    "market1501": market1501.LAYOUT,
    "dukemtmc_reid": dukemtmc_reid.LAYOUT,
    "occluded_duke": occluded_duke.LAYOUT,
    "occluded_reid": occluded_reid.LAYOUT,
    "partial_reid": partial_reid.LAYOUT,
    "partial_ilids": partial_ilids.LAYOUT,
}


def _holds(dataset: str) -> tuple[str, ...]:
    return tuple(LAYOUTS[dataset].folders.values())


# The other names are those that torchreid, fast-reid, TransReID, HOReID, PVPM, BPBReID and others
# look for; a name's case and signs do not count.
SOURCES: dict[str, Source] = {
    "market1501": Source(
        name="Market-1501-v15.09.15.zip",
        title="Market-1501",
        checksum="md5:65005ab7d12ec1c44de4eeafe813e68a",
        note="Market-1501 has no lasting official download address: ask its authors or take a "
        "mirror (archives.urls can name one).",
        aliases=frozenset({"market1501v150915", "market1501", "market", "market1501reid"}),
        holds=(_holds("market1501"),),
    ),
    "dukemtmc_reid": Source(
        name="DukeMTMC-reID.zip",
        title="DukeMTMC-reID",
        checksum="md5:2f93496f9b516d1ee5ef51c1d5e7d601",
        note="DukeMTMC-reID was withdrawn by its authors in 2019 and cannot be downloaded; "
        "Occluded-Duke and Partial-Duke are made from it.",
        aliases=frozenset({"dukemtmcreid", "dukemtmc", "duke", "dukereid"}),
        holds=(_holds("dukemtmc_reid"),),
    ),
    "occluded_duke": Source(
        name="Occluded-DukeMTMC-Dataset-master.zip",
        title="Occluded-Duke",
        url=f"{LIGHTAS}/Occluded-DukeMTMC-Dataset/archive/refs/heads/master.zip",
        note="Occluded-Duke is three public lists of DukeMTMC-reID file names.",
        aliases=frozenset(
            {
                *("occludedduke", "occludeddukemtmc", "occludeddukemtmcreid", "occduke"),
                *("occludeddukemtmcdataset", "occludeddukemtmcdatasetmaster"),
            }
        ),
        holds=(_holds("occluded_duke"), occluded_duke.LISTS),
    ),
    "occluded_reid": Source(
        name="Occluded_REID.zip",
        title="Occluded-REID",
        checksum="sha256:1c8854e02db775da6a51399df4b7e02c299804850dff9985451d610fc8c6d57d",
        note="Occluded-REID is given out by its authors on request (archives.urls can name a "
        "mirror).",
        aliases=frozenset({"occludedreid", "occludedreiddataset", "occreid"}),
        holds=(_holds("occluded_reid"),),
    ),
    "partial_reid": Source(
        name="Partial-REID_Dataset.zip",
        title="Partial-REID",
        checksum="sha256:b22ba2d780dd272d081b75ec5b320748d5b0f582c17db3bf7020b2d999b0fb3e",
        container=PARTIAL_SETS,
        aliases=frozenset({"partialreiddataset", "partialreid"}),
        holds=(_holds("partial_reid"),),
    ),
    "partial_ilids": Source(
        name="Partial_iLIDS.zip",
        title="Partial-iLIDS",
        checksum="sha256:affe69541e8697ce4057e94e59c4b8fce46f2a15cd6bf131c8617fb7bae0d287",
        container=PARTIAL_SETS,
        aliases=frozenset({"partialilids", "partialilidsdataset"}),
        holds=(_holds("partial_ilids"),),
    ),
}


def extract(source: Path, dataset: str, target: Path) -> int:
    """Lay out a data set as its published archive does, whatever it comes from.

    Args:
        source: a zip or a tar, or the folder that one was unpacked to, which is only read; the
            data set may lie deep in it. Nothing of an archive can land outside `target`.
        dataset: its name in `SOURCES`. Occluded-Duke may be its three lists, too.
        target: replaced if it exists; gets `origin.json` besides.

    Returns:
        The number of files laid out.

    Raises:
        UserError: neither zip nor tar, damaged, unsafe members, too large, no space left, or the
            data set's folders are not in it.
    """
    if source.resolve().is_relative_to(target.resolve()):
        raise UserError(f"{target}: holds {source} itself and would be replaced")
    listed = dataset == "occluded_duke" and holds_lists(source)
    with whole_folder(target) as temporary:
        if source.is_dir():
            count = _take(source, dataset, temporary, link_or_copy, listed)
        else:
            unpacked = temporary / ".unpacked"
            unpacked.mkdir()
            unpack(source, unpacked)
            try:
                count = _take(unpacked, dataset, temporary, os.replace, listed)
            except UserError as error:
                raise UserError(str(error).replace(str(unpacked), str(source))) from None
            shutil.rmtree(unpacked)
        write_origin(temporary, _origin(source, dataset))
    return count


def _take(
    source: Path, dataset: str, target: Path, put: Callable[[Path, Path], None], listed: bool
) -> int:
    """Put a data set's files, wherever they lie below `source`, to their places in `target`."""
    if listed:
        folder = _lists_in(source)
        for name in occluded_duke.LISTS:
            put(folder / name, target / name)
        return len(occluded_duke.LISTS)
    layout = LAYOUTS[dataset]
    count = 0
    for split, folder in split_folders(find_root(source, layout), layout).items():
        place = target / layout.root / layout.folders[split]
        place.mkdir(parents=True)
        for name, _ in files_in(folder):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            put(folder / name, place / name)
            count += 1
    return count


def _lists_in(source: Path) -> Path:
    """The folder that the lists of Occluded-Duke lie in."""
    found = folders_with(source, occluded_duke.LISTS)
    if len(found) != 1:
        names = in_words((occluded_duke.LISTS,))
        raise UserError(f"{source}: {len(found)} folders hold {names}, expected one")
    return found[0]


MANY = 10_000
"""Names of an archive after which lists or images must have come."""


def holds_lists(source: Path) -> bool:
    """Whether an archive or folder of Occluded-Duke holds its lists and not its images.

    Raises:
        UserError: neither, or it cannot be read.
    """
    images, lists = SOURCES["occluded_duke"].holds
    if source.is_dir():
        if folders_with(source, images):
            return False
        if folders_with(source, lists):
            return True
    else:
        for name in islice(names_in(source), MANY):
            path = PurePosixPath(name)
            if path.name in lists:
                return True
            if path.parent.name.casefold() in images and occluded_duke.LAYOUT.name.fullmatch(
                path.name
            ):
                return False
    raise UserError(f"{source}: holds no {in_words(SOURCES['occluded_duke'].holds)}")


def stamp(dataset: str, folder: Path) -> str:
    """A word that is another one when a file of an unpacked data set came, went or changed.

    Names, sizes and times are looked at, contents are not: the Snakefile asks at every plan.

    Args:
        dataset: its name in `SOURCES`.
        folder: holds it, however deep.

    Raises:
        UserError: it is not there, there twice, or cannot be read.
    """
    if dataset == "occluded_duke" and holds_lists(folder):
        place = _lists_in(folder)
        files = [(name, (place / name).stat()) for name in occluded_duke.LISTS]
    else:
        layout = LAYOUTS[dataset]
        files = [
            (f"{split}/{name}", entry.stat())
            for split, place in split_folders(find_root(folder, layout), layout).items()
            for name, entry in files_in(place)
        ]
    rows = [f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in files]
    return text_hash("\n".join(rows))[:16]


def _origin(source: Path, dataset: str) -> str:
    """What a data set is made of, in a few words."""
    if source.is_dir():
        return "folder"
    published = SOURCES[dataset].checksum
    if published and matches(source, published):
        return f"published archive ({published.replace(':', ' ')})"
    return f"archive (sha256 {file_hash(source)})"
