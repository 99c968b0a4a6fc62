"""Partial-REID (Zheng et al., ICCV 2015): 60 people, 5 partial and 5 whole images of each."""

import re
from pathlib import Path

from pgfl.datasets.definition import DataSet, Drawing
from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published
from pgfl.datasets.partial_archives import CONTAINER
from pgfl.datasets.synthetic.people import People, Shot
from pgfl.untrusted.obtain import Source

TITLE = "Partial-REID"
NAME = re.compile(r"(?P<pid>\d{3})_\d{3}\.jpg")
UNCUT = "occluded_body_images"
"""The third folder has the photographs that the partial ones were cut from."""
FOLDERS = {"query": "partial_body_images", "gallery": "whole_body_images"}
LAYOUT = Layout("Partial-REID_Dataset", FOLDERS, NAME)

SOURCE = Source(
    name="Partial-REID_Dataset.zip",
    title=TITLE,
    checksum="sha256:b22ba2d780dd272d081b75ec5b320748d5b0f582c17db3bf7020b2d999b0fb3e",
    container=CONTAINER,
    aliases=frozenset({"partialreiddataset", "partialreid"}),
    holds=(tuple(FOLDERS.values()),),
)

NAMES = frozenset(f"{pid:03d}_{shot:03d}.jpg" for pid in range(1, 61) for shot in range(1, 6))
PUBLISHED = Published(
    {"query": Counts(60, 300, 1), "gallery": Counts(60, 300, 1)},
    names={"query": NAMES, "gallery": NAMES},
    names_sha256="229e41b30a31b3d9d332739521a73864cbf89f333a95a648177ba0fcae80ce94",
    images_sha256="9232a4b55f91004fad0849a486219e87e1bc5ca0941df1d6bd7f2def209de00e",
)


def read(images: Path) -> Listing:
    """Partial images ask, whole images answer."""
    return read_folders(images, LAYOUT)


def shots(people: People) -> list[Shot]:
    """The demo's images: five of each kind of each person."""
    return [
        Shot(f"{LAYOUT.root}/{folder}/{pid:03d}_{index:03d}.jpg", pid, camera, occlusion)
        for pid in people.test_only
        for folder, camera, occlusion in (
            (UNCUT, 0, "object"),
            (FOLDERS["query"], 0, "cut"),
            (FOLDERS["gallery"], 1, "none"),
        )
        for index in range(1, 6)
    ]


def extras(people: People) -> dict[str, bytes]:
    """What lies beside the images."""
    folders = ("", f"{UNCUT}/", f"{FOLDERS['gallery']}/")
    hidden = {f"{LAYOUT.root}/{folder}.DS_Store": b"\x00\x00\x00\x01Bud1" for folder in folders}
    return hidden | {f"{LAYOUT.root}/Readme.txt": b"Synthetic people.\n"}


DATASET = DataSet(
    title=TITLE,
    read=read,
    published=PUBLISHED,
    layout=LAYOUT,
    source=SOURCE,
    drawing=Drawing(4, shots, extras),
    models_of="market1501",
)
