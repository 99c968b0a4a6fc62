"""Partial-REID (Zheng et al., ICCV 2015): 60 people, 5 partial and 5 whole images of each."""

import re
from pathlib import Path

from pgfl.datasets.folders import read_folders
from pgfl.datasets.manifest import Counts, Listing, Published

NAME = re.compile(r"(?P<pid>\d{3})_\d{3}\.jpg")
# The third folder, occluded_body_images, has the photographs that the partial ones were cut from.
FOLDERS = {"query": "partial_body_images", "gallery": "whole_body_images"}

PUBLISHED = Published(
    {"query": Counts(60, 300, 1), "gallery": Counts(60, 300, 1)},
    names_sha256="229e41b30a31b3d9d332739521a73864cbf89f333a95a648177ba0fcae80ce94",
)


def read(images: Path) -> Listing:
    """Partial images ask, whole images answer."""
    return read_folders(images, FOLDERS, NAME)
