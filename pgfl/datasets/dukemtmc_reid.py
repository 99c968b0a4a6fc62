"""DukeMTMC-reID (Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017): 1,812 ids, 8 cameras."""

import re
from pathlib import Path

from pgfl.datasets.definition import DataSet, Drawing
from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published
from pgfl.datasets.synthetic.people import People, Shot, Sighting
from pgfl.untrusted.obtain import Source

TITLE = "DukeMTMC-reID"
NAME = re.compile(r"(?P<pid>\d{4})_c(?P<camid>[1-8])_f\d{7}\.jpg")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
LAYOUT = Layout("DukeMTMC-reID", FOLDERS, NAME)

SOURCE = Source(
    name="DukeMTMC-reID.zip",
    title=TITLE,
    checksum="md5:2f93496f9b516d1ee5ef51c1d5e7d601",
    note="DukeMTMC-reID was withdrawn by its authors in 2019 and cannot be downloaded; "
    "Occluded-Duke and Partial-Duke are made from it.",
    aliases=frozenset({"dukemtmcreid", "dukemtmc", "duke", "dukereid"}),
    holds=(tuple(FOLDERS.values()),),
)

PUBLISHED = Published(
    {
        "train": Counts(702, 16_522, 8),
        "query": Counts(702, 2_228, 8),
        "gallery": Counts(1_110, 17_661, 8),
    }
)


def read(images: Path) -> Listing:
    """All images; 408 ids of the gallery are distractors that no query asks for."""
    return read_folders(images, LAYOUT)


DRAWN_OCCLUDED = 0.3
"""Share of occluded images in the demo."""
GALLERY_ONLY = 408 / 702
"""Ids that only the gallery has, as a share of the queried ones, as in the real set."""


def shots(people: People) -> list[Shot]:
    """The demo's images; distractors are people nobody asks for."""
    drawn = people.train_query_gallery(_shot)
    for pid in people.strangers(GALLERY_ONLY):
        sightings = people.sightings(pid)[: people.settings.images // 2]
        drawn += [_shot("gallery", seen) for seen in sightings]
    return drawn


def _shot(split: str, seen: Sighting) -> Shot:
    frame = seen.pid * 1_000 + seen.index * 60 + seen.camera
    name = f"{seen.pid:04d}_c{seen.camera + 1}_f{frame:07d}.jpg"
    occlusion = "mixed" if seen.chance < DRAWN_OCCLUDED else "none"
    return Shot(f"{LAYOUT.root}/{FOLDERS[split]}/{name}", seen.pid, seen.camera, occlusion)


def extras(people: People) -> dict[str, bytes]:
    """What lies beside the images."""
    return {f"{LAYOUT.root}/.DS_Store": b"\x00\x00\x00\x01Bud1"}


DRAWING = Drawing(2, shots, extras)

DATASET = DataSet(
    title=TITLE,
    read=read,
    published=PUBLISHED,
    layout=LAYOUT,
    source=SOURCE,
    drawing=DRAWING,
)
