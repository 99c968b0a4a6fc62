"""Partial-iLIDS (He et al., CVPR 2018): 119 people, one partial and one whole image of each."""

import re
from pathlib import Path

from pgfl.datasets.folders import read_folders
from pgfl.datasets.manifest import Counts, Entry

NAME = re.compile(r"(?P<pid>\d{1,3})\.jpg")
# The third folder, partial_iLIDS_Probe_nocrop, has the photographs that the probes were cut from.
FOLDERS = {"query": "Probe", "gallery": "Gallery"}

COUNTS = {"query": Counts(119, 119), "gallery": Counts(119, 119)}


def entries(images: Path) -> list[Entry]:
    """Probes ask, the gallery answers."""
    return read_folders(images, FOLDERS, NAME)
