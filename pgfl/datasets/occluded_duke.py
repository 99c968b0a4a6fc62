"""Occluded-Duke (Miao et al., ICCV 2019): three lists of DukeMTMC-reID file names."""

from pathlib import Path

from pgfl.datasets import dukemtmc_reid
from pgfl.datasets.definition import DataSet, Drawing
from pgfl.datasets.folders import Layout, files_in, find_root, read_folders, split_folders
from pgfl.datasets.listing import Counts, Listing, Published
from pgfl.datasets.origin import read_origin, write_origin
from pgfl.datasets.synthetic.people import People
from pgfl.errors import UserError
from pgfl.runtime.files import link_or_copy, whole_folder
from pgfl.runtime.messages import few, shown
from pgfl.untrusted.obtain import Source

TITLE = "Occluded-Duke"
LAYOUT = Layout("", dukemtmc_reid.FOLDERS, dukemtmc_reid.NAME)
"""Of the images: the layout that `assemble` makes, and that other code bases keep."""
LISTS = tuple(f"{split}.list" for split in dukemtmc_reid.FOLDERS)

SOURCE = Source(
    name="Occluded-DukeMTMC-Dataset-master.zip",
    title=TITLE,
    url="https://github.com/lightas/Occluded-DukeMTMC-Dataset/archive/refs/heads/master.zip",
    note="Occluded-Duke is three public lists of DukeMTMC-reID file names.",
    aliases=frozenset(
        {
            *("occludedduke", "occludeddukemtmc", "occludeddukemtmcreid", "occduke"),
            *("occludeddukemtmcdataset", "occludeddukemtmcdatasetmaster"),
        }
    ),
    holds=(tuple(dukemtmc_reid.FOLDERS.values()), LISTS),
)

PUBLISHED = Published(
    {
        "train": Counts(702, 15_618, 8),
        "query": Counts(519, 2_210, 8),
        "gallery": Counts(1_110, 17_661, 8),
    },
    names_sha256="343664b78136a8d36ca5636b5c3a8b21d4a752b7c6eea5615ff0508804a3cbe3",
)


def read(images: Path) -> Listing:
    """All images, from the folder that `assemble` makes in DukeMTMC-reID's own layout."""
    return read_folders(images, LAYOUT)


def read_lists(folder: Path) -> dict[str, list[str]]:
    """The file names of each split, from `train.list`, `query.list` and `gallery.list`.

    Raises:
        UserError: a list is missing, found twice, or holds a name that is no DukeMTMC-reID name.
    """
    names = {}
    for split in dukemtmc_reid.FOLDERS:
        found = list(folder.rglob(f"{split}.list"))
        if len(found) != 1:
            raise UserError(f"{folder}: {len(found)} files named {split}.list in it, expected one")
        try:
            listed = found[0].read_text(encoding="utf-8").split()
        except UnicodeDecodeError as error:
            raise UserError(f"{found[0]}: not a list of names in UTF-8 ({error})") from None
        # A name that is listed twice is one image all the same.
        names[split] = list(dict.fromkeys(listed))
        for row, name in enumerate(listed, start=1):
            if not dukemtmc_reid.NAME.fullmatch(name):
                raise UserError(
                    f"{found[0]}: row {row}: {shown(name)} is no DukeMTMC-reID file name"
                )
    return names


def assemble(lists: Path, duke_images: Path, target: Path) -> int:
    """Lay out Occluded-Duke as the three folders of DukeMTMC-reID, hard-linked to its images.

    Other code bases read this layout too. A listed query may lie in DukeMTMC-reID's `query` or
    in its gallery, so names are looked up over all three folders.

    Args:
        lists: a folder that holds the three lists.
        duke_images: where DukeMTMC-reID was unpacked.
        target: replaced if it exists.

    Returns:
        The number of images laid out.

    Raises:
        UserError: a list is wrong, or names an image that DukeMTMC-reID does not have.
    """
    names = read_lists(lists)
    where = {
        Path(name).name: folder / name
        for folder in split_folders(
            find_root(duke_images, dukemtmc_reid.LAYOUT), dukemtmc_reid.LAYOUT
        ).values()
        for name, _ in files_in(folder)
    }
    wanted = dict.fromkeys(name for listed in names.values() for name in listed)
    if missing := [name for name in wanted if name not in where]:
        raise UserError(
            f"{duke_images}: {len(missing)} images that the lists of Occluded-Duke name are not "
            f"in DukeMTMC-reID: {', '.join(few(missing, 'of them'))}"
        )
    with whole_folder(target) as temporary:
        for split, folder in dukemtmc_reid.FOLDERS.items():
            (temporary / folder).mkdir()
            for name in names[split]:
                link_or_copy(where[name], temporary / folder / name)
        duke = read_origin(duke_images)
        write_origin(temporary, f"lists: {read_origin(lists)}; images of DukeMTMC-reID: {duke}")
    return sum(len(listed) for listed in names.values())


def extras(people: People) -> dict[str, bytes]:
    """The demo's lists: occluded test images ask; all gallery images answer, occluded ones, too.

    As in the real lists, a query may stand in DukeMTMC-reID's gallery, and then it is listed
    both as query and as gallery; some training images are left out as too noisy.
    """
    split_of = {folder: split for split, folder in dukemtmc_reid.FOLDERS.items()}
    drawn = [(*shot.member.split("/")[1:], shot) for shot in dukemtmc_reid.shots(people)]
    queried = {shot.pid for folder, _, shot in drawn if split_of[folder] == "query"}
    names: dict[str, list[str]] = {split: [] for split in dukemtmc_reid.FOLDERS}
    for index, (folder, name, shot) in enumerate(drawn):
        split = split_of[folder]
        if split == "gallery" or (split == "train" and index % 18):
            names[split].append(name)
        if split != "train" and shot.occlusion != "none" and shot.pid in queried:
            names["query"].append(name)
    root = "Occluded-DukeMTMC-Dataset-master"
    lists = {
        f"{root}/Occluded_Duke/{split}.list": "".join(f"{name}\n" for name in sorted(listed))
        for split, listed in names.items()
    }
    readme = {f"{root}/README.md": "# Synthetic lists in Occluded-Duke's layout\n"}
    return {name: text.encode() for name, text in (lists | readme).items()}


DATASET = DataSet(
    title=TITLE,
    read=read,
    published=PUBLISHED,
    layout=LAYOUT,
    source=SOURCE,
    # The people of DukeMTMC-reID.
    drawing=Drawing(dukemtmc_reid.DRAWING.number, extras=extras),
    lists=LISTS,
    images_of="dukemtmc_reid",
)
