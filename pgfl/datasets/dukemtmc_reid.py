"""DukeMTMC-reID (Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017): 1,812 ids, 8 cameras."""

import re
from pathlib import Path

from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published

NAME = re.compile(r"(?P<pid>\d{4})_c(?P<camid>[1-8])_f\d{7}\.jpg")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
LAYOUT = Layout("DukeMTMC-reID", FOLDERS, NAME)

PUBLISHED = Published(
    {
        "train": Counts(702, 16_522, 8),
        "query": Counts(702, 2_228, 8),
        "gallery": Counts(1_110, 17_661, 8),
    }
)


def read(images: Path) -> Listing:
    """All images; 408 ids of the gallery are distractors that no query asks for."""
    return read_folders(images, LAYOUT)
