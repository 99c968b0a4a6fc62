"""Partial-REID (Zheng et al., ICCV 2015): 60 people, 5 partial and 5 whole images of each."""

import re
from pathlib import Path

from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published

NAME = re.compile(r"(?P<pid>\d{3})_\d{3}\.jpg")
# The third folder, occluded_body_images, has the photographs that the partial ones were cut from.
FOLDERS = {"query": "partial_body_images", "gallery": "whole_body_images"}
LAYOUT = Layout("Partial-REID_Dataset", FOLDERS, NAME)

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
