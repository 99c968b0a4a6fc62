"""Market-1501 (Zheng et al., ICCV 2015): 1,501 people, 6 cameras."""

import re
from pathlib import Path

from pgfl.datasets.definition import DataSet, Drawing
from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published
from pgfl.datasets.synthetic.people import People, Shot, Sighting
from pgfl.untrusted.obtain import Source

TITLE = "Market-1501"
NAME = re.compile(r"(?P<pid>-1|\d{4})_c(?P<camid>[1-6])s\d_\d{6}_\d{2}\.jpg")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
LAYOUT = Layout("Market-1501-v15.09.15", FOLDERS, NAME)

SOURCE = Source(
    name="Market-1501-v15.09.15.zip",
    title=TITLE,
    checksum="md5:65005ab7d12ec1c44de4eeafe813e68a",
    note="Market-1501 has no lasting official download address: ask its authors or take a "
    "mirror (archives.urls can name one).",
    aliases=frozenset({"market1501v150915", "market1501", "market", "market1501reid"}),
    holds=(tuple(FOLDERS.values()),),
)

PUBLISHED = Published(
    {
        "train": Counts(751, 12_936, 6),
        "query": Counts(750, 3_368, 6),
        # The published 19,732 are these, distractors (id 0) among them, and 3,819 junk images.
        "gallery": Counts(751, 15_913, 6),
    }
)


def read(images: Path) -> Listing:
    """All images: people, distractors (id 0), which stay, and junk (id -1), which does not."""
    return read_folders(images, LAYOUT)


CAMERAS = 6
"""Names have no more."""
DRAWN_OCCLUDED = 0.12
"""Share of occluded images in the demo; Market-1501 has few."""


def shots(people: People) -> list[Shot]:
    """Distractors (id 0000) are people nobody asks for; junk (id -1) is bad boxes."""
    people = people.with_cameras(CAMERAS)
    drawn = people.train_query_gallery(_shot)
    for extra, pid in enumerate(people.strangers(1.0)):
        seen = Sighting(pid, extra % people.settings.cameras, 0, 1.0)
        drawn.append(_shot("gallery", seen, "0000"))
        drawn.append(_shot("gallery", seen._replace(index=1, chance=0.0), "-1"))
    return drawn


def _shot(split: str, seen: Sighting, label: str = "") -> Shot:
    frame = seen.pid * 50 + seen.index
    name = f"{label or f'{seen.pid:04d}'}_c{seen.camera + 1}s1_{frame:06d}_01.jpg"
    occlusion = "mixed" if seen.chance < DRAWN_OCCLUDED else "none"
    return Shot(f"{LAYOUT.root}/{FOLDERS[split]}/{name}", seen.pid, seen.camera, occlusion)


def extras(people: People) -> dict[str, bytes]:
    """What lies beside the images."""
    folders = ("", "bounding_box_train/", "bounding_box_test/", "query/")
    thumbnails = {f"{LAYOUT.root}/{folder}Thumbs.db": b"\xd0\xcf\x11\xe0" for folder in folders}
    readme = {f"{LAYOUT.root}/readme.txt": b"Synthetic people in Market-1501's layout.\n"}
    return thumbnails | readme


DATASET = DataSet(
    title=TITLE,
    read=read,
    published=PUBLISHED,
    layout=LAYOUT,
    source=SOURCE,
    drawing=Drawing(1, shots, extras),
    # Distractors are nobody, and junk is counted.
    printed={"gallery": (750, 19_732)},
)
