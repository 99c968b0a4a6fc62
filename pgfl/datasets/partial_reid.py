"""Partial-REID (Zheng et al., ICCV 2015): 60 people, 5 partial and 5 whole images of each."""

import re
from pathlib import Path

from pgfl.datasets.folders import read_folders
from pgfl.datasets.manifest import Counts, Entry

NAME = re.compile(r"(?P<pid>\d{3})_\d{3}\.jpg")
# The third folder, occluded_body_images, has the photographs that the partial ones were cut from.
FOLDERS = {"query": "partial_body_images", "gallery": "whole_body_images"}

COUNTS = {"query": Counts(60, 300), "gallery": Counts(60, 300)}


def entries(images: Path) -> list[Entry]:
    """Partial images ask, whole images answer."""
    return read_folders(images, FOLDERS, NAME)
