"""Partial-iLIDS (He et al., CVPR 2018): 119 people, one partial and one whole image of each."""

import re
from pathlib import Path

from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published

NAME = re.compile(r"(?P<pid>\d{1,3})\.jpg")
# The third folder, partial_iLIDS_Probe_nocrop, has the photographs that the probes were cut from.
FOLDERS = {"query": "Probe", "gallery": "Gallery"}
LAYOUT = Layout("Partial_iLIDS", FOLDERS, NAME)

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
