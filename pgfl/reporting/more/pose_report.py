"""The pose cache to look at: a page of pictures, histograms and doubtful images.

`pgfl.pose.quality` defines the criteria, `pose_pictures` draws, `pose_page` writes the HTML.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pgfl.datasets.images import read_image
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.pose import quality
from pgfl.pose.check import BLOCK, open_store
from pgfl.pose.keypoints import PARTS
from pgfl.pose.store import HeatmapReader
from pgfl.reporting.more.pose_page import (
    EXPLANATION,
    Numbers,
    Picture,
    Sheets,
    as_text,
    page,
    summary_line,
)
from pgfl.reporting.more.pose_pictures import photo_and_parts, sheet_figure
from pgfl.reporting.styles import save_figure
from pgfl.runtime.files import write_text
from pgfl.runtime.progress import progress

ON_PAGE, ON_FIGURE = 24, 14
"""Images of the contact sheet."""
DOUBTFUL = 12
"""Most images shown of each doubtful kind."""


@dataclass(frozen=True)
class SplitFindings:
    """What one file holds; arrays have one row per image, in the file's order."""

    split: str
    reader: HeatmapReader
    images: list[str]
    scale: float
    """Of the softmax."""
    confidence: np.ndarray
    """(N, 17)."""
    gap: np.ndarray
    """(N, 8): how much weaker a second person's mode is; infinite where nobody competes."""
    usable: np.ndarray
    """bool (N,): false where the photograph could not be used."""


class Findings:
    """Those of all splits, one after the other, without unusable photographs."""

    def __init__(self, splits: list[SplitFindings], root: Path):
        """Put splits together; `root` is the folder that image names start from."""
        self.splits, self.root = splits, root
        self.places = [(split, row) for split in splits for row in np.flatnonzero(split.usable)]
        self.confidence = np.concatenate([split.confidence[split.usable] for split in splits])
        self.gap = np.concatenate([split.gap[split.usable] for split in splits])
        self.score = quality.person_score(self.confidence)
        self.competes = np.isfinite(self.gap).any(axis=1)

    def unusable(self) -> list[str]:
        """The names of the photographs that could not be used."""
        return [s.images[row] for s in self.splits for row in np.flatnonzero(~s.usable)]

    def sample(self, count: int) -> list[Picture]:
        """Images at even steps from the most to the least confident."""
        means = self.confidence.mean(axis=1)
        return [self._picture(i, f"mean {means[i]:.2f}") for i in quality.spread(means, count)]

    def least_confident(self, count: int) -> list[Picture]:
        """The images whose third-best keypoint is the least confident, the least first."""
        lowest = np.argsort(self.score, kind="stable")[:count]
        return [self._picture(i, f"third best {self.score[i]:.2f}") for i in lowest]

    def most_competing(self, count: int) -> list[Picture]:
        """The images in which two people compete: in the most parts first, then the closest."""
        parts = np.isfinite(self.gap).sum(axis=1)
        order = np.lexsort((self.gap.min(axis=1), -parts))[: min(count, self.competes.sum())]
        return [self._picture(i, self._competing_parts(i)) for i in order]

    def _competing_parts(self, place: int) -> str:
        gaps = self.gap[place]
        found = [k for k in np.argsort(gaps) if np.isfinite(gaps[k])]
        return ", ".join(f"{PARTS[k].replace('_', ' ')} {gaps[k]:.2f}" for k in found)

    def _picture(self, place: int, note: str) -> Picture:
        split, row = self.places[place]
        name = split.images[row]
        note = f"{split.split}, {note}" if len(self.splits) > 1 else note
        photo = read_image(self.root / name)
        return Picture(photo_and_parts(photo, split.reader[row], split.scale), name, note)


def write_report(
    files: Mapping[str, Path],
    manifest: Path,
    out: Path,
    figure: Path | None = None,
    experiment: str = "",
    threshold: float = quality.CONFIDENCE,
    *,
    photographs: bool = False,
) -> Numbers:
    """Write the page, and the figure of a shorter sheet and the histograms.

    Files are read in blocks: the maps of one block are in memory at a time, and only the images
    that are shown are opened.

    Args:
        files: the heatmap file of each split to show.
        manifest: what they were made for; images lie below its folder, which has the data
            set's name.
        out: the HTML page, which needs no other file.
        figure: a PNG, or None.
        experiment: said in the title, if any.
        threshold: a keypoint with a lower confidence counts as not found.
        photographs: whether the images are real; of hrnet_small's maps the page then warns.

    Returns:
        The numbers of images.

    Raises:
        UserError: a file does not fit the manifest or the format, or an image cannot be read.
    """
    attributes: dict[str, dict[str, Any]] = {}
    splits = []
    for split, path in files.items():
        images = list(read_manifest(manifest, split)["image"])
        reader = open_store(path, images)
        attributes[split] = reader.attributes()
        scale = stated_scale(attributes[split])
        splits.append(_find(split, reader, images, scale))
    findings = Findings(splits, manifest.parent)
    if not findings.places:
        raise UserError(f"{', '.join(map(str, files.values()))}: no photograph could be used")
    confidences = {split.split: split.confidence[split.usable] for split in splits}
    numbers = Numbers(
        {split.split: len(split.images) for split in splits},
        int(quality.nobody_found(findings.confidence, threshold).sum()),
        int(findings.competes.sum()),
    )
    title = f"Heatmaps of {manifest.absolute().parent.name}, {' and '.join(files)}"
    if experiment:
        title += f" (experiment: {experiment})"
    estimators = [as_text(found.get("estimator")) for found in attributes.values()]
    toy = any(quality.warns_of_toy(estimator, photographs) for estimator in estimators)
    warning = ""
    if toy:
        shares = quality.nobody_line(findings.confidence, threshold)
        warning = f"{shares}; {quality.TOY}; {quality.TOY_ADVICE}"
        print(f"warning: {manifest.absolute().parent.name}: {warning}")
    if figure is not None:
        sample = findings.sample(ON_FIGURE)
        lines = [*EXPLANATION, summary_line(numbers, attributes)]
        lines += [f"Warning: {quality.TOY}."] if toy else []
        save_figure(sheet_figure(title, lines, sample, confidences, threshold), figure)
    sheets = Sheets(
        findings.sample(ON_PAGE),
        findings.least_confident(DOUBTFUL),
        findings.most_competing(DOUBTFUL),
    )
    unusable = findings.unusable()
    content = page(title, numbers, attributes, sheets, confidences, threshold, unusable, warning)
    write_text(out, content)
    return numbers


def _find(split: str, reader: HeatmapReader, images: list[str], scale: float) -> SplitFindings:
    """Read a file block by block, and keep the little that the page needs of each map."""
    gaps = []
    for start in progress(range(0, len(images), BLOCK), f"looking at {split}", unit=BLOCK):
        maps = reader.read(slice(start, start + BLOCK))
        modes = quality.find_modes(maps, scale)
        gaps.append(np.where(quality.competing(modes, maps.shape[2]), modes.gap, np.inf))
    gap = np.concatenate(gaps)
    return SplitFindings(split, reader, images, scale, reader.confidence(), gap, reader.usable())


def stated_scale(attributes: Mapping[str, Any]) -> float:
    """The softmax scale in a file's attributes; `DEFAULT_SCALE` where none can be read."""
    try:
        scale = float(np.ravel(attributes.get("softmax_scale", ""))[0])
    except (ValueError, IndexError):
        return quality.DEFAULT_SCALE
    return scale if 0 < scale < np.inf else quality.DEFAULT_SCALE
