"""Random changes of a training image, with its heatmaps moving along."""

from dataclasses import dataclass

import cv2
import numpy as np

from pgfl.config.recipe import AugmentSettings
from pgfl.datasets.images import IMAGENET_MEAN
from pgfl.pose.keypoints import PART_MIRROR

ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)
ERASE_TRIES = 100
"""Random erasing's own constants (Zhong et al., 2017)."""
MEAN_COLOUR = np.round(IMAGENET_MEAN).astype(np.uint8)


@dataclass(frozen=True)
class Sample:
    """An image and its maps."""

    image: np.ndarray
    """uint8 (H, W, 3)."""
    heatmaps: np.ndarray | None
    """float32 (8, h, w), each map summing to one; h and w need not be H and W."""
    confidence: np.ndarray | None = None
    """float32 (8,) in [0, 1]: how sure the pose network is of each part."""


def augment(sample: Sample, settings: AugmentSettings, rng: np.random.Generator) -> Sample:
    """Flip, pad-and-crop and erase at random, in BoT's order."""
    if rng.random() < settings.flip:
        sample = flip(sample)
    if settings.pad:
        dy, dx = rng.integers(-settings.pad, settings.pad + 1, size=2)
        sample = shift(sample, int(dy), int(dx))
    if rng.random() < settings.erase:
        sample = erase(sample, rng, settings.erase_maps)
    return sample


def flip(sample: Sample) -> Sample:
    """Mirror left and right: columns of image and maps, and the left and right parts' maps."""
    # As sample.image[:, ::-1], which NumPy copies fifty times slower.
    image, maps, confidence = cv2.flip(sample.image, 1), sample.heatmaps, sample.confidence
    if maps is not None:
        maps = np.ascontiguousarray(maps[list(PART_MIRROR), :, ::-1])
    if confidence is not None:
        confidence = confidence[list(PART_MIRROR)]
    return Sample(image, maps, confidence)


def shift(sample: Sample, dy: int, dx: int) -> Sample:
    """Move the content by whole pixels; what enters is black, as after padding and cropping.

    The maps move by the same share of their size, between cells too. Mass that leaves the picture
    is spread, and the part's confidence falls by its share (`_partly_hidden`).
    """
    image = _moved(sample.image, dy, dx)
    if sample.heatmaps is None:
        return Sample(image, None, sample.confidence)
    height, width = image.shape[:2]
    _, rows, columns = sample.heatmaps.shape
    maps = _moved_between(sample.heatmaps, dy * rows / height, axis=1)
    maps = _moved_between(maps, dx * columns / width, axis=2)
    return _partly_hidden(image, maps, sample.confidence)


def _partly_hidden(image: np.ndarray, rest: np.ndarray, confidence: np.ndarray | None) -> Sample:
    """A sample of whose maps only a rest (K, h, w) is left in the picture."""
    if confidence is not None:
        confidence = (confidence * rest.sum(axis=(1, 2)).clip(0, 1)).astype(np.float32)
    return Sample(image, _spread_the_rest(rest), confidence)


def _spread_the_rest(maps: np.ndarray) -> np.ndarray:
    """(K, h, w) maps with what they lack to a sum of one spread evenly over all cells.

    So a part that is not seen any more gets a flat map, as from a pose network, and one of which
    little is left an almost flat one. Scaling the rest up would make a sharp peak of its rim.
    """
    missing = 1 - maps.sum(axis=(1, 2), keepdims=True)
    return maps + np.maximum(missing, 0) / maps[0].size


def _moved(array: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Shift the first two axes, filling with zeros."""
    result = np.zeros_like(array)
    height, width = array.shape[:2]
    if abs(dy) < height and abs(dx) < width:
        result[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = array[
            max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
        ]
    return result


def _moved_between(maps: np.ndarray, distance: float, axis: int) -> np.ndarray:
    """Shift (K, h, w) maps along one axis by a fraction of cells, dividing mass linearly."""
    whole = int(np.floor(distance))
    part = np.float32(distance - whole)
    result = np.zeros_like(maps)
    source, target = np.moveaxis(maps, axis, 1), np.moveaxis(result, axis, 1)
    size = source.shape[1]
    for cells, share in ((whole, 1 - part), (whole + 1, part)):
        if share and abs(cells) < size:
            target[:, max(cells, 0) : size + min(cells, 0)] += (
                share * source[:, max(-cells, 0) : size + min(-cells, 0)]
            )
    return result


def erase(sample: Sample, rng: np.random.Generator, maps_too: bool) -> Sample:
    """Paint a random rectangle in the mean colour (Zhong et al., 2017).

    The maps keep their place; with `maps_too` what lies under the rectangle is spread and makes
    its part less sure (`_partly_hidden`), as if something stood before the person.
    """
    rectangle = _rectangle(*sample.image.shape[:2], rng)
    if rectangle is None:
        return sample
    image, maps = sample.image.copy(), sample.heatmaps
    image[rectangle] = MEAN_COLOUR
    if maps_too and maps is not None:
        shares = [
            _covered(side.start / size, side.stop / size, cells)
            for side, size, cells in zip(rectangle, image.shape[:2], maps.shape[1:], strict=True)
        ]
        rest = maps * (1 - np.outer(*shares)).astype(np.float32)
        return _partly_hidden(image, rest, sample.confidence)
    return Sample(image, maps, sample.confidence)


def _rectangle(height: int, width: int, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """Rows and columns to erase; None if no rectangle that was drawn fits into the image."""
    for _ in range(ERASE_TRIES):
        area = rng.uniform(*ERASED_AREA) * height * width
        aspect = rng.uniform(*ERASED_ASPECT)
        h, w = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < h < height and 0 < w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return slice(top, top + h), slice(left, left + w)
    return None


def _covered(start: float, end: float, cells: int) -> np.ndarray:
    """The share of each of `cells` equal cells of [0, 1] that [start, end] covers."""
    edges = np.clip(np.linspace(0, 1, cells + 1), start, end)
    return np.diff(edges) * cells
