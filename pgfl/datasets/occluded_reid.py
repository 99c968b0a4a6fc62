"""Occluded-REID (Zhuo et al., ICME 2018): 200 people, 5 occluded and 5 whole images of each."""

import re
from pathlib import Path

from pgfl.datasets.definition import DataSet, Drawing
from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published
from pgfl.datasets.synthetic.people import People, Shot
from pgfl.untrusted.obtain import Source

TITLE = "Occluded-REID"
NAME = re.compile(r"(?P<pid>\d{3})/(?P=pid)_\d{2}\.tif")
FOLDERS = {"query": "occluded_body_images", "gallery": "whole_body_images"}
LAYOUT = Layout("Occluded_REID", FOLDERS, NAME)

SOURCE = Source(
    name="Occluded_REID.zip",
    title=TITLE,
    checksum="sha256:1c8854e02db775da6a51399df4b7e02c299804850dff9985451d610fc8c6d57d",
    note="Occluded-REID is given out by its authors on request (archives.urls can name a mirror).",
    aliases=frozenset({"occludedreid", "occludedreiddataset", "occreid"}),
    holds=(tuple(FOLDERS.values()),),
)

PUBLISHED = Published(
    {"query": Counts(200, 1_000, 1), "gallery": Counts(200, 1_000, 1)},
)


def read(images: Path) -> Listing:
    """Occluded images ask, whole images answer."""
    return read_folders(images, LAYOUT)


def shots(people: People) -> list[Shot]:
    """The demo's images: five occluded and five whole ones of each person."""
    return [
        Shot(f"{LAYOUT.root}/{folder}/{pid:03d}/{pid:03d}_{index:02d}.tif", pid, camera, occlusion)
        for pid in people.test_only
        for folder, camera, occlusion in (
            (FOLDERS["query"], 0, "mixed"),
            (FOLDERS["gallery"], 1, "none"),
        )
        for index in range(1, 6)
    ]


DATASET = DataSet(
    title=TITLE,
    read=read,
    published=PUBLISHED,
    layout=LAYOUT,
    source=SOURCE,
    drawing=Drawing(3, shots),
    models_of="market1501",
)
