"""Partial-iLIDS (He et al., CVPR 2018): 119 people, one partial and one whole image of each."""

import re
from pathlib import Path

from pgfl.datasets.folders import read_folders
from pgfl.datasets.manifest import Counts, Listing, Published

NAME = re.compile(r"(?P<pid>\d{1,3})\.jpg")
# The third folder, partial_iLIDS_Probe_nocrop, has the photographs that the probes were cut from.
FOLDERS = {"query": "Probe", "gallery": "Gallery"}

PUBLISHED = Published(
    {"query": Counts(119, 119, 1), "gallery": Counts(119, 119, 1)},
    names_sha256="3ab6443b232c28b072618fb035d1b125bebb78e147377ac0acc5955157b1fecd",
)


def read(images: Path) -> Listing:
    """Probes ask, the gallery answers."""
    return read_folders(images, FOLDERS, NAME)
