"""The archives of the data sets: what they are called, how they are checked and unpacked."""

from collections.abc import Callable
from pathlib import Path

from pgfl.errors import UserError
from pgfl.files import whole_folder
from pgfl.obtain import Source
from pgfl.zips import check_members, opened

LIGHTAS = "https://github.com/lightas"

PARTIAL_SETS = Source(
    name="dataset2.zip",
    url=f"{LIGHTAS}/ICCV19_Pose_Guided_Occluded_Person_ReID/raw/master/dataset2.zip",
)
"""Holds the archives of both partial data sets."""

SOURCES: dict[str, Source] = {
    "market1501": Source(
        name="Market-1501-v15.09.15.zip",
        checksum="md5:65005ab7d12ec1c44de4eeafe813e68a",
        note="Market-1501 has no lasting official download address: ask its authors or take a "
        "mirror (archives.urls can name one).",
    ),
    "dukemtmc_reid": Source(
        name="DukeMTMC-reID.zip",
        checksum="md5:2f93496f9b516d1ee5ef51c1d5e7d601",
        note="DukeMTMC-reID was withdrawn by its authors in 2019 and cannot be downloaded; "
        "Occluded-Duke and Partial-Duke are made from it.",
    ),
    "occluded_duke": Source(
        name="Occluded-DukeMTMC-Dataset-master.zip",
        url=f"{LIGHTAS}/Occluded-DukeMTMC-Dataset/archive/refs/heads/master.zip",
        note="Occluded-Duke is three public lists of DukeMTMC-reID file names.",
    ),
    "occluded_reid": Source(
        name="Occluded_REID.zip",
        checksum="sha256:1c8854e02db775da6a51399df4b7e02c299804850dff9985451d610fc8c6d57d",
        note="Occluded-REID is given out by its authors on request (archives.urls can name a "
        "mirror).",
    ),
    "partial_reid": Source(
        name="Partial-REID_Dataset.zip",
        checksum="sha256:b22ba2d780dd272d081b75ec5b320748d5b0f582c17db3bf7020b2d999b0fb3e",
        container=PARTIAL_SETS,
    ),
    "partial_ilids": Source(
        name="Partial_iLIDS.zip",
        checksum="sha256:affe69541e8697ce4057e94e59c4b8fce46f2a15cd6bf131c8617fb7bae0d287",
        container=PARTIAL_SETS,
    ),
}

WANTED: dict[str, Callable[[str], bool]] = {
    # The repository that holds the lists holds a paper and a script too.
    "occluded_duke": lambda name: name.endswith(".list"),
}


def extract(archive: Path, dataset: str, folder: Path) -> int:
    """Unpack an archive to `folder`, which appears whole or not at all.

    Args:
        archive: a zip file; nothing in it can land outside `folder`.
        dataset: its name in `SOURCES`.
        folder: replaced if it exists.

    Returns:
        The number of files written.

    Raises:
        UserError: not a zip, damaged, unsafe members, too large, or no space left.
    """
    wanted = WANTED.get(dataset, lambda name: True)
    with opened(archive) as packed:
        members = [
            m for m in packed.infolist() if not m.filename.endswith("/") and wanted(m.filename)
        ]
        if not members:
            raise UserError(f"{archive}: holds no files of {dataset}")
        check_members(archive, members, folder)
        with whole_folder(folder) as temporary:
            for member in members:
                packed.extract(member, temporary)
    return len(members)
