"""Occluded-REID (Zhuo et al., ICME 2018): 200 people, 5 occluded and 5 whole images of each."""

import re
from pathlib import Path

from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published

NAME = re.compile(r"(?P<pid>\d{3})/(?P=pid)_\d{2}\.tif")
FOLDERS = {"query": "occluded_body_images", "gallery": "whole_body_images"}
LAYOUT = Layout("Occluded_REID", FOLDERS, NAME)

PUBLISHED = Published(
    {"query": Counts(200, 1_000, 1), "gallery": Counts(200, 1_000, 1)},
)


def read(images: Path) -> Listing:
    """Occluded images ask, whole images answer."""
    return read_folders(images, LAYOUT)
