"""Partial-iLIDS (He et al., CVPR 2018): 119 people, one partial and one whole image of each."""

import re
from pathlib import Path

from pgfl.datasets.definition import DataSet, Drawing
from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published
from pgfl.datasets.partial_archives import CONTAINER
from pgfl.datasets.synthetic.people import People, Shot
from pgfl.untrusted.obtain import Source

TITLE = "Partial-iLIDS"
NAME = re.compile(r"(?P<pid>\d{1,3})\.jpg")
UNCUT = "partial_iLIDS_Probe_nocrop"
"""The third folder has the photographs that the probes were cut from."""
FOLDERS = {"query": "Probe", "gallery": "Gallery"}
LAYOUT = Layout("Partial_iLIDS", FOLDERS, NAME)

SOURCE = Source(
    name="Partial_iLIDS.zip",
    title=TITLE,
    checksum="sha256:affe69541e8697ce4057e94e59c4b8fce46f2a15cd6bf131c8617fb7bae0d287",
    container=CONTAINER,
    aliases=frozenset({"partialilids", "partialilidsdataset"}),
    holds=(tuple(FOLDERS.values()),),
)

NAMES = frozenset(f"{pid}.jpg" for pid in range(1, 120))
PUBLISHED = Published(
    {"query": Counts(119, 119, 1), "gallery": Counts(119, 119, 1)},
    names={"query": NAMES, "gallery": NAMES},
    names_sha256="3ab6443b232c28b072618fb035d1b125bebb78e147377ac0acc5955157b1fecd",
    images_sha256="ab82a6563e016cd07603f0e23ec413eee7f546056ddabc2aaaf5b960f7e812d2",
)


def read(images: Path) -> Listing:
    """Probes ask, the gallery answers."""
    return read_folders(images, LAYOUT)


def shots(people: People) -> list[Shot]:
    """The demo's images: one of each kind of each person."""
    return [
        Shot(f"{LAYOUT.root}/{folder}/{pid}.jpg", pid, camera, occlusion)
        for pid in people.test_only
        for folder, camera, occlusion in (
            (FOLDERS["query"], 0, "cut"),
            (UNCUT, 0, "object"),
            (FOLDERS["gallery"], 1, "none"),
        )
    ]


def extras(people: People) -> dict[str, bytes]:
    """What lies beside the images."""
    names = "\n".join(f"{pid}.jpg" for pid in people.test_only).encode()
    lists = {f"{folder}.txt": names for folder in FOLDERS.values()}
    folders = ("", *(f"{folder}/" for folder in FOLDERS.values()))
    hidden = {f"{folder}.DS_Store": b"\x00\x00\x00\x01Bud1" for folder in folders}
    return {f"{LAYOUT.root}/{name}": content for name, content in (lists | hidden).items()}


DATASET = DataSet(
    title=TITLE,
    read=read,
    published=PUBLISHED,
    layout=LAYOUT,
    source=SOURCE,
    drawing=Drawing(5, shots, extras),
    models_of="market1501",
)
