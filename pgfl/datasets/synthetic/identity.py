"""What makes a person that person: body, clothes, hair, bags, and the texture they are worn as.

A body part is a tube, so its texture is a tile with rows running along the tube (0 at its
start, 1 at its end) and columns running around it. The angle around the body is 0 at the
person's left, pi/2 in front, pi at the right and 3 pi/2 behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TypeVar

import numpy as np

Colour = tuple[int, int, int]
T = TypeVar("T")

TILE = 64
"""Side of a texture tile in texels."""

FRONT, BACK = np.pi / 2, 3 * np.pi / 2

PALETTE: dict[str, Colour] = {
    "black": (28, 28, 32),
    "white": (232, 230, 224),
    "grey": (128, 130, 134),
    "navy": (34, 46, 96),
    "blue": (52, 104, 190),
    "red": (190, 40, 44),
    "green": (46, 120, 66),
    "khaki": (168, 146, 104),
    "yellow": (226, 190, 60),
    "pink": (222, 140, 164),
    "purple": (104, 62, 130),
    "brown": (98, 64, 42),
}

# A few colours dominate, as in a real street, so that many people share both of theirs.
UPPER_ODDS = {"black": 6, "white": 5, "grey": 4, "navy": 4, "red": 4, "blue": 3, "green": 1}
UPPER_ODDS |= {"khaki": 1, "yellow": 1, "pink": 1, "purple": 1, "brown": 1}
LOWER_ODDS = {"black": 7, "navy": 7, "grey": 4, "khaki": 3, "white": 1, "brown": 1, "blue": 2}
SHOE_ODDS = {"black": 4, "white": 4, "brown": 2, "red": 1, "blue": 1, "yellow": 1}
BAG_ODDS = {"black": 3, "brown": 2, "red": 2, "blue": 1, "yellow": 1, "pink": 1, "khaki": 1}

SKINS: tuple[Colour, ...] = (
    (240, 206, 180),
    (224, 178, 146),
    (198, 148, 112),
    (152, 104, 74),
    (96, 64, 46),
)
HAIRS: tuple[Colour, ...] = (
    (26, 22, 22),
    (62, 40, 28),
    (112, 74, 44),
    (196, 160, 96),
    (150, 146, 144),
    (140, 62, 34),
)

UPPER_ODDS_KIND = {"t-shirt": 5, "long sleeve": 4, "jacket": 4, "hoodie": 3, "tank top": 2}
LOWER_ODDS_KIND = {"trousers": 9, "shorts": 4, "skirt": 2, "dress": 2}
UPPER_PATTERNS = {
    "plain": 3,
    "horizontal stripes": 3,
    "vertical stripes": 2,
    "checks": 2,
    "dots": 2,
    "chest block": 3,
    "two-tone": 2,
    "sash": 2,
}
LOWER_PATTERNS = {"plain": 5, "side stripe": 2, "two-tone": 1, "checks": 1}
HAIR_STYLES = {"short": 5, "long": 3, "ponytail": 2, "bun": 2, "curly": 1, "bald": 1}
HEADWEAR = {"none": 8, "cap": 2, "beanie": 1}
BAGS = {"none": 5, "backpack": 3, "shoulder bag": 2, "handbag": 2}


class Tile(IntEnum):
    """Which tile of a texture atlas a body part wears."""

    TORSO = 0
    SLEEVE = 1
    FOREARM = 2
    SKIN = 3
    PELVIS = 4
    THIGH = 5
    SHIN = 6
    SHOE = 7
    HEAD = 8
    HAIR = 9
    SKIRT = 10
    BAG = 11
    HOOD = 12
    HAT = 13


@dataclass(frozen=True)
class Body:
    """Proportions, each as a factor of an average body's, and the manner of walking."""

    legs: float  # leg length
    shoulders: float  # shoulder width
    hips: float  # hip width
    girth: float  # thickness of torso and limbs
    head: float  # head size: larger for shorter people
    arms: float  # arm length
    stride: float  # swing of the legs
    arm_swing: float
    lean: float  # forward lean of the torso in radians


@dataclass(frozen=True)
class Garment:
    """A piece of clothing: its cut, its two colours and how they are laid out."""

    kind: str
    colour: Colour
    accent: Colour
    pattern: str
    repeats: int  # stripes, checks or dots along the garment, 3..5
    logo: str  # outline of a chest block: "block", "disc" or "cross"


@dataclass(frozen=True)
class Identity:
    """All appearance parameters of one person; hashable, so that textures can be cached."""

    body: Body
    skin: Colour
    hair: str
    hair_colour: Colour
    beard: bool
    glasses: bool
    headwear: str
    hat_colour: Colour
    upper: Garment
    lower: Garment
    shirt: Colour  # under an open jacket
    shoes: Colour
    sole: Colour
    bag: str
    bag_colour: Colour
    bag_side: int  # +1 at the person's left, -1 at the right


def sample_identity(seed: int, pid: int) -> Identity:
    """Draw person number `pid` of the population `seed`; both are integers >= 0.

    The same pair gives the same person, whoever else was drawn before. Raises ValueError
    for a negative seed or pid.
    """
    if seed < 0 or pid < 0:
        raise ValueError(f"seed and pid must be >= 0, got {seed} and {pid}")
    rng = np.random.default_rng([seed, pid])
    upper = _sample_upper(rng)
    return Identity(
        body=_sample_body(rng),
        skin=_one_of(rng, SKINS),
        hair=_draw(rng, HAIR_STYLES),
        hair_colour=_one_of(rng, HAIRS),
        beard=bool(rng.random() < 0.2),
        glasses=bool(rng.random() < 0.25),
        headwear=_draw(rng, HEADWEAR),
        hat_colour=PALETTE[_draw(rng, BAG_ODDS)],
        upper=upper,
        lower=_sample_lower(rng, upper),
        shirt=_contrasting(rng, upper.colour),
        shoes=PALETTE[_draw(rng, SHOE_ODDS)],
        sole=_one_of(rng, (PALETTE["white"], PALETTE["black"], PALETTE["brown"])),
        bag=_draw(rng, BAGS),
        bag_colour=PALETTE[_draw(rng, BAG_ODDS)],
        bag_side=1 if rng.random() < 0.5 else -1,
    )


def _sample_body(rng: np.random.Generator) -> Body:
    def factor(spread: float) -> float:
        return float(np.clip(rng.normal(1, spread), 1 - 2 * spread, 1 + 2 * spread))

    return Body(
        legs=factor(0.04),
        shoulders=factor(0.08),
        hips=factor(0.08),
        girth=factor(0.12),
        head=factor(0.06),
        arms=factor(0.04),
        stride=factor(0.2),
        arm_swing=factor(0.3),
        lean=float(rng.uniform(-0.02, 0.09)),
    )


def _sample_upper(rng: np.random.Generator) -> Garment:
    colour = PALETTE[_draw(rng, UPPER_ODDS)]
    return Garment(
        kind=_draw(rng, UPPER_ODDS_KIND),
        colour=colour,
        accent=_contrasting(rng, colour),
        pattern=_draw(rng, UPPER_PATTERNS),
        repeats=int(rng.integers(3, 6)),
        logo=_one_of(rng, ("block", "disc", "cross")),
    )


def _sample_lower(rng: np.random.Generator, upper: Garment) -> Garment:
    kind = _draw(rng, LOWER_ODDS_KIND)
    colour = PALETTE[_draw(rng, LOWER_ODDS)]
    accent = _contrasting(rng, colour)
    pattern = _draw(rng, LOWER_PATTERNS)
    if kind == "dress":  # a dress continues what is worn above
        colour, accent = upper.colour, upper.accent
    return Garment(kind, colour, accent, pattern, int(rng.integers(3, 6)), logo="block")


def _draw(rng: np.random.Generator, odds: dict[str, int]) -> str:
    weights = np.fromiter(odds.values(), float)
    return list(odds)[rng.choice(len(odds), p=weights / weights.sum())]


def _one_of(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[rng.integers(len(values))]


def _contrasting(rng: np.random.Generator, colour: Colour) -> Colour:
    """A palette colour that stands out from `colour` in brightness, and so survives blur."""
    brightness = np.mean(colour)
    return _one_of(rng, [c for c in PALETTE.values() if abs(np.mean(c) - brightness) > 60])


@lru_cache(maxsize=512)
def texture_atlas(identity: Identity) -> np.ndarray:
    """The person's textures: uint8 (TILE, len(Tile) * TILE, 3) RGB, read-only, tile by tile."""
    skin, lower, upper = identity.skin, identity.lower, identity.upper
    tiles = {
        Tile.TORSO: _torso(identity),
        Tile.SLEEVE: _sleeve(identity),
        Tile.FOREARM: _forearm(identity),
        Tile.SKIN: _fill(skin),
        Tile.PELVIS: _pelvis(lower),
        Tile.THIGH: _thigh(lower, skin),
        Tile.SHIN: _shin(lower, skin),
        Tile.SHOE: _shoe(identity),
        Tile.HEAD: _head(identity),
        Tile.HAIR: _hair(identity),
        Tile.SKIRT: _skirt(identity),
        Tile.BAG: _bag(identity.bag_colour),
        Tile.HOOD: _fill(_darker(upper.colour, 0.85)),
        Tile.HAT: _fill(identity.hat_colour),
    }
    atlas = np.concatenate([tiles[tile] for tile in Tile], axis=1)
    atlas.flags.writeable = False
    return atlas


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Texel centres: position along the tube (TILE, 1) and angle around it (1, TILE)."""
    centres = (np.arange(TILE) + 0.5) / TILE
    return centres[:, None], 2 * np.pi * centres[None, :]


def _fill(colour: Colour) -> np.ndarray:
    return np.full((TILE, TILE, 3), colour, np.uint8)


def _paint(tile: np.ndarray, where: np.ndarray, colour: Colour) -> None:
    tile[np.broadcast_to(where, tile.shape[:2])] = colour


def _darker(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(channel * factor) for channel in colour)
    return red, green, blue


def _seam(colour: Colour) -> Colour:
    """A shade for seams and edges that is seen on light and on dark cloth alike."""
    red, green, blue = (
        int(channel * 0.55) if max(colour) > 90 else channel + 38 for channel in colour
    )
    return red, green, blue


def _near(angle: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Whether an angle lies within `width` radians of `centre`, around the circle."""
    return np.abs((angle - centre + np.pi) % (2 * np.pi) - np.pi) < width


def _diagonal(along: np.ndarray, angle: np.ndarray, width: float) -> np.ndarray:
    """A band from the left shoulder to the right hip, before and behind the body."""
    across = np.minimum(angle, 2 * np.pi - angle) / np.pi
    return np.abs(across * 0.9 - along) < width


def _accented(garment: Garment, along: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Where a garment's pattern shows its second colour: bool, broadcast over the tile."""
    n, turn = garment.repeats, angle / (2 * np.pi)
    rows = (along * n) % 1 < 0.5
    columns = (turn * (n + 3)) % 1 < 0.5
    match garment.pattern:
        case "horizontal stripes":
            return rows & (angle >= 0)
        case "vertical stripes":
            return columns & (along >= 0)
        case "checks":
            return rows ^ columns
        case "dots":
            shifted = turn * (n + 3) + 0.5 * (np.floor(along * (n + 1)) % 2)
            return np.hypot((along * (n + 1)) % 1 - 0.5, shifted % 1 - 0.5) < 0.34
        case "two-tone":
            return (along > 0.5) & (angle >= 0)
        case "sash":
            return _diagonal(along, angle, 0.13)
        case "side stripe":
            return (_near(angle, 0, 0.5) | _near(angle, np.pi, 0.5)) & (along >= 0)
        case "chest block":
            return _logo(garment.logo, along, angle)
    return (along < 0) & (angle < 0)


def _logo(outline: str, along: np.ndarray, angle: np.ndarray) -> np.ndarray:
    x, y = (angle - FRONT) / 0.75, (along - 0.36) / 0.17
    if outline == "disc":
        return np.hypot(x, y) < 1
    if outline == "cross":
        inside = (np.abs(x) < 1) & (np.abs(y) < 1)
        return inside & ((np.abs(x) < 0.33) | (np.abs(y) < 0.33))
    return (np.abs(x) < 0.9) & (np.abs(y) < 0.8)


def _patterned(garment: Garment) -> np.ndarray:
    tile = _fill(garment.colour)
    _paint(tile, _accented(garment, *_grid()), garment.accent)
    return tile


def _torso(identity: Identity) -> np.ndarray:
    along, angle = _grid()
    upper, seam = identity.upper, _seam(identity.upper.colour)
    tile = _patterned(upper)
    if upper.kind == "jacket":
        _paint(tile, _near(angle, FRONT, 0.52), seam)
        _paint(tile, _near(angle, FRONT, 0.42), identity.shirt)
    if upper.kind == "hoodie":
        _paint(tile, (np.abs(along - 0.72) < 0.1) & _near(angle, FRONT, 0.7), seam)
        _paint(tile, (along > 0.94) & (angle >= 0), seam)
    if upper.kind == "tank top":
        bare = (_near(angle, 0, 0.75) | _near(angle, np.pi, 0.75)) & (along < 0.2)
        _paint(tile, bare | ((along < 0.16) & _near(angle, FRONT, 0.6)), identity.skin)
    elif upper.kind != "hoodie":
        _paint(tile, (along < 0.1) & _near(angle, FRONT, 0.8), identity.skin)
    if identity.lower.kind == "dress":
        _paint(tile, (np.abs(along - 0.85) < 0.03) & (angle >= 0), seam)
    if identity.bag == "backpack":
        straps = _near(angle, FRONT - 0.72, 0.16) | _near(angle, FRONT + 0.72, 0.16)
        _paint(tile, straps & (along < 0.62), identity.bag_colour)
    if identity.bag == "shoulder bag":
        # The strap falls from the shoulder opposite to the bag.
        mirrored = angle if identity.bag_side < 0 else (np.pi - angle) % (2 * np.pi)
        _paint(tile, _diagonal(along, mirrored, 0.045), identity.bag_colour)
    return tile


def _sleeve(identity: Identity) -> np.ndarray:
    along, angle = _grid()
    upper = identity.upper
    if upper.kind == "tank top":
        return _fill(identity.skin)
    tile = _sleeve_cloth(upper)
    if upper.kind == "t-shirt":
        _paint(tile, (along > 0.68) & (angle >= 0), _seam(upper.colour))
        _paint(tile, (along > 0.74) & (angle >= 0), identity.skin)
    return tile


def _forearm(identity: Identity) -> np.ndarray:
    along, angle = _grid()
    if identity.upper.kind in ("tank top", "t-shirt"):
        return _fill(identity.skin)
    tile = _sleeve_cloth(identity.upper)
    _paint(tile, (along > 0.9) & (angle >= 0), _seam(identity.upper.colour))
    return tile


def _sleeve_cloth(upper: Garment) -> np.ndarray:
    """Repeating patterns cover the sleeves too; those placed on the chest do not."""
    if upper.pattern in ("horizontal stripes", "checks", "dots"):
        return _patterned(upper)
    return _fill(upper.accent if upper.pattern == "two-tone" else upper.colour)


def _pelvis(lower: Garment) -> np.ndarray:
    along, angle = _grid()
    tile = _fill(lower.colour)
    if lower.pattern in ("side stripe", "checks"):
        _paint(tile, _accented(lower, along, angle), lower.accent)
    _paint(tile, (along < 0.3) & (angle >= 0), _seam(lower.colour))
    return tile


def _thigh(lower: Garment, skin: Colour) -> np.ndarray:
    along, angle = _grid()
    if lower.kind in ("skirt", "dress"):
        return _fill(skin)
    tile = _fill(lower.colour)
    if lower.pattern in ("side stripe", "checks"):
        _paint(tile, _accented(lower, along, angle), lower.accent)
    if lower.kind == "shorts":
        if lower.pattern == "two-tone":
            _paint(tile, (along > 0.5) & (angle >= 0), lower.accent)
        _paint(tile, (along > 0.86) & (angle >= 0), skin)
    return tile


def _shin(lower: Garment, skin: Colour) -> np.ndarray:
    if lower.kind != "trousers":
        return _fill(skin)
    along, angle = _grid()
    tile = _fill(lower.accent if lower.pattern == "two-tone" else lower.colour)
    if lower.pattern in ("side stripe", "checks"):
        _paint(tile, _accented(lower, along, angle), lower.accent)
    _paint(tile, (along > 0.94) & (angle >= 0), _seam(lower.colour))
    return tile


def _skirt(identity: Identity) -> np.ndarray:
    along, angle = _grid()
    if identity.lower.kind == "dress":
        placed = identity.upper.pattern in ("chest block", "sash")
        tile = _fill(identity.upper.colour) if placed else _patterned(identity.upper)
    else:
        tile = _patterned(identity.lower)
    _paint(tile, (along > 0.93) & (angle >= 0), _seam(identity.lower.colour))
    return tile


def _shoe(identity: Identity) -> np.ndarray:
    """A shoe's tube runs from heel to toe; both ends show the sole's colour."""
    along, angle = _grid()
    tile = _fill(identity.shoes)
    _paint(tile, (along > 0.8) & (angle >= 0), identity.sole)
    _paint(tile, (along < 0.08) & (angle >= 0), identity.sole)
    return tile


def _bag(colour: Colour) -> np.ndarray:
    along, angle = _grid()
    tile = _fill(colour)
    _paint(tile, (np.abs(along - 0.3) < 0.04) & (angle >= 0), _seam(colour))
    _paint(tile, (np.abs(along - 0.68) < 0.16) & _near(angle, BACK, 0.7), _darker(colour, 0.75))
    return tile


def _hair(identity: Identity) -> np.ndarray:
    along, angle = _grid()
    tile = _fill(identity.hair_colour)
    strands = (np.sin(angle * 11) > 0.3) & (along > 0.15)
    _paint(tile, strands, _darker(identity.hair_colour, 0.8))
    return tile


def _head(identity: Identity) -> np.ndarray:
    along, angle = _grid()
    tile = _fill(identity.skin)
    shadow, dark = _darker(identity.skin, 0.72), (34, 26, 26)
    if identity.beard:
        _paint(tile, (along > 0.7) & _near(angle, FRONT, 1.25), identity.hair_colour)
    _paint(tile, (np.abs(along - 0.8) < 0.03) & _near(angle, FRONT, 0.3), (150, 70, 70))
    for side in (-1, 1):
        eye, ear = FRONT + side * 0.45, FRONT + side * np.pi / 2
        _paint(tile, (np.abs(along - 0.42) < 0.03) & _near(angle, eye, 0.26), shadow)
        _paint(tile, (np.abs(along - 0.5) < 0.04) & _near(angle, eye, 0.17), dark)
        _paint(tile, (np.abs(along - 0.54) < 0.1) & _near(angle, ear, 0.2), shadow)
    if identity.glasses:
        _paint(tile, (np.abs(along - 0.47) < 0.025) & _near(angle, FRONT, 1.5), dark)
        _paint(tile, (np.abs(along - 0.55) < 0.02) & _near(angle, FRONT, 0.75), dark)
    if identity.hair != "bald":
        crown, nape = (along < 0.27) & (angle >= 0), (along < 0.78) & _near(angle, BACK, 1.25)
        temples = (along < 0.42) & _near(angle, BACK, 1.85)
        _paint(tile, crown | nape | temples, identity.hair_colour)
    if identity.headwear != "none":
        _paint(tile, (along < 0.34) & (angle >= 0), identity.hat_colour)
    return tile
