"""Market-1501 (Zheng et al., ICCV 2015): 1,501 people, 6 cameras."""

import re
from pathlib import Path

from pgfl.datasets.folders import read_folders
from pgfl.datasets.manifest import Counts, Entry

NAME = re.compile(r"(?P<pid>-1|\d{4})_c(?P<camid>[1-6])s\d_\d{6}_\d{2}\.jpg")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
JUNK = -1

COUNTS = {
    "train": Counts(751, 12_936),
    "query": Counts(750, 3_368),
    # The published 19,732 are these, distractors (id 0) among them, and 3,819 junk images.
    "gallery": Counts(751, 15_913),
}


def entries(images: Path) -> list[Entry]:
    """All images but junk (id -1), which no protocol ranks; distractors (id 0) stay."""
    return [entry for entry in read_folders(images, FOLDERS, NAME) if entry.pid != JUNK]
