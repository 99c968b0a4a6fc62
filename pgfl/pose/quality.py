"""What a pose cache says about its images: which parts are seen, is anybody, do two compete?

NumPy only, pure functions. A stored map is softmax(scale * r) of a merged response r. The
softmax's sum cancels in a ratio, so a difference of responses comes back exactly: r_a - r_b =
log(p_a / p_b) / scale. All criteria for maps are such differences: they mean the same in every
image, whatever the maximum of its own map.
"""

from dataclasses import dataclass

import numpy as np

from pgfl.pose.keypoints import PART_MIRROR, PARTS

DEFAULT_SCALE = 10.0
"""Taken where a file does not say its softmax scale."""

CONFIDENCE = 0.3
"""A keypoint whose peak response is lower is taken as not found: MMPose draws none below 0.3,
and HRNet's responses are either near one or near zero, with few in between."""
PERSON_KEYPOINTS = 3
"""With fewer keypoints found than this, nobody is: one stray peak makes no person."""

HIDDEN, SEEN = 0.2, 0.6
"""Rise of a map at which its part begins to show in a picture, and at which it shows in full."""

SINGLE_PARTS = ("head", "left_knee", "right_knee", "left_ankle", "right_ankle")
"""Parts of which one person makes one mode. An arm's map has two of its own (elbow and wrist)
and the torso's four (shoulders and hips), so that a second one there says nothing."""
SEPARATION = 0.2
"""Least distance of two people's modes, as a share of the map's height. The two ears of one
large face and the two ankles of one narrow stance are nearer."""
MIRRORED = 0.125
"""A second mode this near to the mirror part's strongest one is its left-right confusion, not
another person; as a share of the map's height."""
LARGEST_GAP = 0.3
"""Largest difference of two competing modes' responses. At scale 10 the weaker one then has at
least a twentieth (e^-3) of the stronger one's weight, well above a step of the codes (1/255)."""
LEAST_RISE = 0.2
"""Least response of the weaker mode over the background's: a flat map has no modes."""
LEAST_DIP = 0.1
"""How far the response falls between the two modes, seen from the weaker one."""
SAMPLES = 16
"""Places looked at on the line between two modes."""

_TINY = 1e-30


def rise(maps: np.ndarray, scale: float = DEFAULT_SCALE) -> np.ndarray:
    """How far a map's peak stands out: the response there less that of the median cell.

    About the number of the part's keypoints, at least one, where it is plainly seen; near zero
    for a flat map.

    Args:
        maps: (..., h, w), not negative.
        scale: of the softmax.

    Returns:
        (...), not negative.
    """
    flat = maps.reshape(*maps.shape[:-2], -1)
    return difference(flat.max(axis=-1), np.median(flat, axis=-1), scale)


def visibility(rises: np.ndarray) -> np.ndarray:
    """How strongly to draw parts with these rises: 0 up to `HIDDEN`, 1 from `SEEN` on."""
    return np.clip((rises - HIDDEN) / (SEEN - HIDDEN), 0, 1)


def difference(of: np.ndarray, less: np.ndarray, scale: float = DEFAULT_SCALE) -> np.ndarray:
    """The difference of cells' responses, from the cells' values after the softmax."""
    values, others = (np.maximum(np.asarray(v, np.float64), _TINY) for v in (of, less))
    return (np.log(values) - np.log(others)) / scale


def person_score(confidence: np.ndarray) -> np.ndarray:
    """The confidence of each image's third-best keypoint (of `PERSON_KEYPOINTS`).

    It lies below a threshold exactly where fewer than three keypoints reach that threshold.

    Args:
        confidence: (N, 17).

    Returns:
        (N,).
    """
    return np.sort(confidence, axis=1)[:, -PERSON_KEYPOINTS]


def nobody_found(confidence: np.ndarray, threshold: float = CONFIDENCE) -> np.ndarray:
    """In which images nobody is found: fewer than `PERSON_KEYPOINTS` reach the threshold.

    Args:
        confidence: (N, 17).
        threshold: a keypoint with a lower confidence counts as not found.

    Returns:
        bool (N,).
    """
    return person_score(confidence) < threshold


def nobody_line(confidence: np.ndarray, threshold: float = CONFIDENCE) -> str:
    """The share of images in which nobody is found, and what that means, in one line."""
    count, total = int(nobody_found(confidence, threshold).sum()), len(confidence)
    return (
        f"nobody found in {count:,} of {total:,} images ({100 * count / max(total, 1):.1f} %), "
        f"where fewer than {PERSON_KEYPOINTS} of {confidence.shape[1]} keypoints reach "
        f"{threshold:g}"
    )


def warns_of_toy(estimator: object, photographs: bool) -> bool:
    """Whether photographs were shown to the estimator that only knows drawn people."""
    return photographs and estimator == "hrnet_small"


TOY = "hrnet_small was trained on drawn people, and these are photographs"
TOY_ADVICE = "set pose.estimator: hrnet_w48, or bring maps of your own (docs/heatmaps.md)"


@dataclass(frozen=True)
class Modes:
    """The strongest mode of each map, and the strongest of the others that are well apart.

    first, second: int (N, K, 2), row and column of the cell; `second` is `first` where there is
        no other.
    gap: (N, K), response of the first less that of the second; infinite where there is none.
    rise: (N, K), response of the second less that of the map's median cell; 0 without one.
    dip: (N, K), response of the second less the lowest on the straight line to the first.
    """

    first: np.ndarray
    second: np.ndarray
    gap: np.ndarray
    rise: np.ndarray
    dip: np.ndarray


def find_modes(maps: np.ndarray, scale: float = DEFAULT_SCALE) -> Modes:
    """The two strongest modes of each map that are at least `SEPARATION` apart.

    A mode is a cell that none of its neighbours exceeds: eight of them, fewer at the border.

    Args:
        maps: (N, K, h, w), not negative.
        scale: of the softmax.
    """
    height, width = maps.shape[2:]
    flat = maps.reshape(*maps.shape[:2], -1)
    first = flat.argmax(axis=2)
    place = np.stack(np.divmod(first, width), axis=-1)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    squares = (rows - place[..., 0, None, None]) ** 2 + (columns - place[..., 1, None, None]) ** 2
    candidates = (squares >= (SEPARATION * height) ** 2) & (maps >= _largest_nearby(maps))
    found = candidates.any(axis=(2, 3))
    second = np.where(candidates, maps, -1).reshape(flat.shape).argmax(axis=2)
    second = np.where(found, second, first)
    other = np.stack(np.divmod(second, width), axis=-1)
    high, low = (np.take_along_axis(flat, at[..., None], 2)[..., 0] for at in (first, second))
    return Modes(
        place,
        other,
        np.where(found, difference(high, low, scale), np.inf),
        np.where(found, difference(low, np.median(flat, axis=2), scale), 0),
        difference(low, _lowest_between(maps, place, other), scale),
    )


def competing(modes: Modes, height: int) -> np.ndarray:
    """In which maps two people compete.

    Of a part that one person has in one place (`SINGLE_PARTS`), the map has a second mode that

    - lies at least `SEPARATION` of the map's height away from the first,
    - is at most `LARGEST_GAP` weaker,
    - rises by at least `LEAST_RISE` over the background,
    - has a valley of at least `LEAST_DIP` before it, and
    - does not lie where the mirror part's map has its strongest mode (within `MIRRORED`): that
      would be the other leg of the same person.

    Args:
        modes: of all eight parts, (N, 8).
        height: of the maps, in cells.

    Returns:
        bool (N, 8), never true for an arm or the torso.
    """
    paired = np.array(PART_MIRROR) != np.arange(len(PARTS))
    apart = modes.second - modes.first[:, list(PART_MIRROR)]
    mirrored = paired & ((apart**2).sum(axis=2) <= (MIRRORED * height) ** 2)
    comparable = (modes.gap <= LARGEST_GAP) & (modes.rise >= LEAST_RISE)
    return comparable & (modes.dip >= LEAST_DIP) & ~mirrored & np.isin(PARTS, SINGLE_PARTS)


def spread(values: np.ndarray, count: int) -> np.ndarray:
    """Places of up to `count` values at even steps of their order, from highest to lowest.

    The highest and the lowest are among them; equal values keep their order.
    """
    order = np.argsort(-values, kind="stable")
    return order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]


def _largest_nearby(maps: np.ndarray) -> np.ndarray:
    """The largest value among each cell and its neighbours."""
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
    tall = np.maximum(np.maximum(padded[:, :, :-2], padded[:, :, 1:-1]), padded[:, :, 2:])
    return np.maximum(np.maximum(tall[..., :-2], tall[..., 1:-1]), tall[..., 2:])


def _lowest_between(maps: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The lowest value (N, K) on the straight lines between two cells of each map."""
    share = np.linspace(0, 1, SAMPLES)[:, None, None, None]
    cells = np.rint(first + share * (second - first)).astype(int)
    images, parts = np.ogrid[: maps.shape[0], : maps.shape[1]]
    return maps[images, parts, cells[..., 0], cells[..., 1]].min(axis=0)
