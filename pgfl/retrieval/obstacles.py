"""Objects that cover a part of an image from one of its sides, for the occlusion stress test.

The object is a block of planks, bricks, mesh or leaves in a colour of its own, from one edge of
the image to the other. Which one depends on the image's name and the side alone: the same on
every machine and in every model's test, and a larger cover shows more of the same object.
"""

import hashlib
from typing import Literal, get_args

import numpy as np

Side = Literal["left", "right", "top", "bottom"]
SIDES: tuple[Side, ...] = get_args(Side)

DARKEST, LIGHTEST = 40, 215
"""Grey levels between which an object's colour is."""
TINT = 18
"""Standard deviation of a colour's channels around its grey level."""
EDGE = 0.45
"""Brightness of the line along the object's edge, as a share of its colour's."""


def covered(image: np.ndarray, share: float, side: Side, name: str) -> np.ndarray:
    """A copy of an image with an object before it.

    Args:
        image: uint8 (H, W, 3).
        share: of the image's area that is covered, in [0, 1]; rounded to whole rows or columns.
        side: where the object stands.
        name: of the image; decides, with the side, what the object looks like.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: a share out of range, or an unknown side.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    if side not in SIDES:
        raise ValueError(f"side must be one of {', '.join(SIDES)}, got {side!r}")
    result = image.copy()
    height, width = image.shape[:2]
    depth = round(share * (width if side in ("left", "right") else height))
    if depth == 0:
        return result
    rows, columns, edge = {
        "left": (slice(None), slice(0, depth), (slice(None), depth - 1)),
        "right": (slice(None), slice(width - depth, None), (slice(None), width - depth)),
        "top": (slice(0, depth), slice(None), (depth - 1, slice(None))),
        "bottom": (slice(height - depth, None), slice(None), (height - depth, slice(None))),
    }[side]
    painted = texture(height, width, generator(name, side))
    result[rows, columns] = painted[rows, columns]
    result[edge] = (EDGE * painted[edge]).astype(np.uint8)
    return result


def generator(name: str, side: str) -> np.random.Generator:
    """Random numbers that are the same for this image and side on every machine."""
    digest = hashlib.sha256(f"{side}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def texture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Planks, bricks, mesh or leaves in a random colour: uint8 (height, width, 3)."""
    colour = rng.uniform(DARKEST, LIGHTEST) + rng.normal(0, TINT, 3)
    size = max(3, round(height * rng.uniform(0.06, 0.12)))
    y, x = np.mgrid[:height, :width]
    joint = max(1, size // 6)
    kind = rng.integers(4)
    if kind == 0:  # planks, each a little lighter or darker
        light = rng.uniform(0.8, 1.15, width // size + 1)[x // size] * np.where(
            x % size < joint, 0.6, 1
        )
    elif kind == 1:  # bricks, every other course moved by half a brick
        course = y // size
        seam = (y % size < joint) | ((x + course % 2 * size) % (2 * size) < joint)
        light = np.where(seam, 0.65, 1.0)
    elif kind == 2:  # a mesh of lines both ways
        light = np.where(((x + y) % size < joint) | ((x - y) % size < joint), 0.6, 1.0)
    else:  # leaves: blotches of light and shade
        blotches = rng.uniform(0.55, 1.3, (height // joint + 1, width // joint + 1))
        light = blotches[y // joint, x // joint]
    grain = rng.normal(0, 6, (height, width, 1))
    return (light[..., None] * colour + grain).clip(0, 255).astype(np.uint8)
