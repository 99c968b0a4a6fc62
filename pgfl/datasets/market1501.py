"""Market-1501 (Zheng et al., ICCV 2015): 1,501 people, 6 cameras."""

import re
from pathlib import Path

from pgfl.datasets.folders import Layout, read_folders
from pgfl.datasets.listing import Counts, Listing, Published

NAME = re.compile(r"(?P<pid>-1|\d{4})_c(?P<camid>[1-6])s\d_\d{6}_\d{2}\.jpg")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
LAYOUT = Layout("Market-1501-v15.09.15", FOLDERS, NAME)

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
