"""What surrounds a person in a shot: the camera, its backdrop, ground shadows and occluders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

CAMERAS = 8

STYLES = ("street", "lawn", "corridor", "plaza", "car park", "shop", "path", "underpass")

# Ground and wall colours per style, RGB.
_SCENERY = {
    "street": ((112, 112, 116), (150, 132, 118)),
    "lawn": ((98, 128, 70), (70, 100, 62)),
    "corridor": ((170, 164, 150), (200, 198, 190)),
    "plaza": ((176, 168, 156), (142, 140, 140)),
    "car park": ((96, 98, 102), (128, 134, 140)),
    "shop": ((148, 140, 136), (96, 84, 80)),
    "path": ((158, 142, 116), (92, 112, 78)),
    "underpass": ((84, 84, 86), (64, 66, 72)),
}

_VIEWS = np.radians([0, 180, 90, -90, 40, -140, 140, -40])

PLAIN = (168, 170, 172)
"""Backdrop and reference colour at difficulty 0."""


@dataclass(frozen=True)
class Camera:
    """What all shots of one camera share."""

    style: str
    view: float  # favourite view angle of passers-by, radians
    elevation: float  # above the horizon, radians
    gain: tuple[float, float, float]  # colour cast per RGB channel
    gamma: float
    exposure: float
    blur: float  # Gaussian sigma in pixels of a 128-row crop
    noise: float  # standard deviation in grey levels
    light: tuple[float, float, float]  # towards the light: image x, y (down), to the camera
    seed: int  # of the camera's scenery


@lru_cache(maxsize=256)
def camera_of(camera: int, camera_seed: int) -> Camera:
    """The parameters of camera 0..7 in the network of cameras `camera_seed` (>= 0).

    Raises ValueError for a camera or seed out of range.
    """
    if not 0 <= camera < CAMERAS:
        raise ValueError(f"camera must be in 0..{CAMERAS - 1}, got {camera}")
    if camera_seed < 0:
        raise ValueError(f"camera_seed must be >= 0, got {camera_seed}")
    # One network's cameras share out the styles and views among themselves.
    network = np.random.default_rng([camera_seed, CAMERAS])
    styles, views = network.permutation(CAMERAS), network.permutation(CAMERAS)
    rng = np.random.default_rng([camera_seed, camera])
    light = np.array([rng.uniform(-0.7, 0.7), -rng.uniform(0.3, 0.7), rng.uniform(0.6, 1)])
    return Camera(
        style=STYLES[styles[camera]],
        view=float(_VIEWS[views[camera]] + rng.normal() * 0.15),
        elevation=float(rng.uniform(0.05, 0.4)),
        gain=tuple(float(gain) for gain in np.exp(rng.normal(0, 0.13, 3))),
        gamma=float(np.exp(rng.normal(0, 0.28))),
        exposure=float(np.exp(rng.normal(0, 0.2))),
        blur=float(rng.uniform(0.2, 1.1)),
        noise=float(rng.uniform(3, 14)),
        light=tuple(float(part) for part in light / np.linalg.norm(light)),
        seed=int(rng.integers(2**31)),
    )


def backdrop(
    camera: Camera, size: tuple[int, int], rng: np.random.Generator, difficulty: float
) -> np.ndarray:
    """A shot's background, uint8 (height, width, 3) RGB, fading to plain grey as it gets easy."""
    height, width = size
    panorama = _panorama(camera, height, width)
    left = int(rng.integers(panorama.shape[1] - width + 1))
    view = panorama[:, left : left + width]
    strength = min(1.0, 2 * difficulty)
    plain = np.empty_like(view)
    plain[:] = PLAIN
    canvas = cv2.addWeighted(view, strength, plain, 1 - strength, 0)
    for _ in range(int(rng.poisson(1.5 * difficulty))):
        _clutter(canvas, rng)
    return canvas


@lru_cache(maxsize=64)
def _panorama(camera: Camera, height: int, width: int) -> np.ndarray:
    """The scenery along which a camera's shots are taken: uint8 (height, 4 width, 3)."""
    rng = np.random.default_rng(camera.seed)
    ground, wall = (np.array(colour, np.float32) for colour in _SCENERY[camera.style])
    # The higher the camera looks down from, the more ground it sees.
    horizon = int(height * (0.62 - camera.elevation))
    picture = np.empty((height, 4 * width, 3), np.float32)
    picture[:horizon], picture[horizon:] = wall, ground
    picture[horizon:] *= np.linspace(0.8, 1.1, height - horizon, dtype=np.float32)[:, None, None]
    _furnish(picture, camera.style, horizon, rng)
    for grain, depth in ((height // 6, 14), (max(1, height // 40), 8)):
        coarse = rng.normal(0, depth, (height // grain + 2, 4 * width // grain + 2))
        cloud = cv2.resize(coarse.astype(np.float32), (4 * width, height))
        picture += cloud[..., None]
    blurred = cv2.GaussianBlur(np.clip(picture, 0, 255).astype(np.uint8), (0, 0), height / 128)
    blurred.flags.writeable = False
    return blurred


def _furnish(picture: np.ndarray, style: str, horizon: int, rng: np.random.Generator) -> None:
    """Put a style's typical structures on the wall and the ground of a panorama, in place."""
    height, width = picture.shape[:2]
    if style in ("street", "shop", "corridor", "underpass"):
        step = max(4, int(height * rng.uniform(0.2, 0.4)))
        for x in range(0, width, step):
            colour = _shade(rng, picture[0, 0], 70)
            door = rng.random() < 0.3
            top = int(horizon * rng.uniform(0.05, 0.3))
            bottom = horizon if door else int(horizon * rng.uniform(0.6, 0.9))
            cv2.rectangle(picture, (x, top), (x + int(step * 0.7), bottom), colour, -1)
    else:
        for _ in range(40):
            centre = int(rng.integers(width)), int(horizon * rng.uniform(0.1, 1))
            axes = int(height * rng.uniform(0.04, 0.14)), int(height * rng.uniform(0.04, 0.1))
            colour = _shade(rng, picture[0, 0], 45)
            cv2.ellipse(picture, (centre, (2 * axes[0], 2 * axes[1]), 0), colour, -1)
    thickness = max(1, height // 100)
    if style in ("plaza", "corridor", "shop"):  # paving
        line = _shade(rng, picture[-1, 0], 30)
        for k in range(1, 7):
            y = horizon + int((height - horizon) * (k / 6) ** 1.6)
            cv2.line(picture, (0, y), (width, y), line, thickness)
        for x in range(-width, 2 * width, max(4, height // 5)):
            cv2.line(picture, (x, horizon), (2 * x - width // 2, height), line, thickness)
    if style in ("street", "car park", "underpass"):  # kerbs and markings
        for _ in range(3):
            y = int(rng.uniform(horizon, height))
            y2 = int(y + rng.normal() * height * 0.1)
            cv2.line(picture, (0, y), (width, y2), _shade(rng, (190, 190, 180), 30), 3 * thickness)


def _shade(rng: np.random.Generator, colour: np.ndarray | tuple, spread: float) -> tuple:
    return tuple(float(c) for c in np.clip(np.asarray(colour) + rng.normal(0, spread), 5, 250))


def _clutter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A pole, a bin or a patch somewhere behind the person, in place."""
    height, width = canvas.shape[:2]
    colour = _colour(rng)
    x, y = int(rng.integers(width)), int(rng.uniform(0.1, 0.8) * height)
    w = int(width * rng.uniform(0.04, 0.3)) + 1
    h = int(height * rng.uniform(0.1, 0.5)) + 1
    if rng.random() < 0.3:
        y, h, w = 0, int(height * rng.uniform(0.6, 0.95)), max(1, w // 4)
    cv2.rectangle(canvas, (x, y), (x + w, y + h), colour, -1)


def cast_shadow(
    canvas: np.ndarray, feet: tuple[float, float], reach: float, strength: float
) -> None:
    """Darken the ground softly around `feet` (x, y), `reach` pixels wide, in place."""
    height, width = canvas.shape[:2]
    x = (np.arange(width, dtype=np.float32) - np.float32(feet[0])) / np.float32(reach)
    y0 = max(0, int(feet[1] - reach))
    if y0 >= height:
        return
    y = (np.arange(y0, height, dtype=np.float32) - np.float32(feet[1])) / np.float32(reach * 0.3)
    shade = 1 - np.float32(strength) * np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) * 2)
    canvas[y0:] = canvas[y0:] * shade[..., None]


Region = tuple[int, int, int, int]
"""Left, top, right and bottom of what an occluder covers, in canvas pixels."""


def add_object(
    canvas: np.ndarray, silhouette: np.ndarray, rng: np.random.Generator, share: float
) -> np.ndarray:
    """Put an object before a person so that it covers about `share` of the silhouette.

    `canvas` is uint8 (height, width, 3) RGB and drawn on in place, `silhouette` bool
    (height, width). Returns where the object is: bool (height, width).
    """
    mask = np.zeros(silhouette.shape, np.uint8)
    direction = str(rng.choice(("below", "side", "across"), p=(0.5, 0.35, 0.15)))
    region = _region(silhouette, rng, share, direction)
    painters = _PAINTERS[direction]
    painted = canvas.copy()
    painters[rng.integers(len(painters))](painted, mask, region, rng)
    # Outlines may be drawn a little beyond the object: the mask decides what is seen of it.
    np.copyto(canvas, painted, where=mask[..., None] > 0)
    return mask > 0


def _region(
    silhouette: np.ndarray, rng: np.random.Generator, share: float, direction: str
) -> Region:
    """The part of the picture that holds `share` of the silhouette, from below or from a side."""
    height, width = silhouette.shape
    if direction == "below":
        top = _quantile(silhouette.sum(axis=1), 1 - share)
        columns = np.flatnonzero(silhouette.any(axis=0))
        margin = rng.uniform(0.0, 0.3, 2) * width
        return int(columns[0] - margin[0]), top, int(columns[-1] + margin[1]), height
    columns = silhouette.sum(axis=0)
    if direction == "across":
        first = rng.uniform(0.1, 0.9 - share)
        return _quantile(columns, first), 0, _quantile(columns, first + share), height
    if rng.random() < 0.5:
        return 0, 0, _quantile(columns, share), height
    return _quantile(columns, 1 - share), 0, width, height


def _quantile(counts: np.ndarray, share: float) -> int:
    """The index below which `share` of all counted pixels lie."""
    total = np.cumsum(counts)
    return int(np.searchsorted(total, share * total[-1]))


def _colour(rng: np.random.Generator, low: int = 25, high: int = 225) -> tuple[int, int, int]:
    grey, tint = rng.uniform(low, high), rng.normal(0, 20, 3)
    red, green, blue = (int(v) for v in np.clip(grey + tint, 0, 255))
    return red, green, blue


def _scaled(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


def _block(canvas: np.ndarray, mask: np.ndarray, region: Region, colour: tuple) -> None:
    x0, y0, x1, y1 = region
    cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, -1)
    cv2.rectangle(mask, (x0, y0), (x1, y1), 1, -1)


def _crates(
    canvas: np.ndarray, mask: np.ndarray, region: Region, rng: np.random.Generator
) -> None:
    x0, y0, x1, y1 = region
    colour = _colour(rng, 60, 200)
    _block(canvas, mask, region, colour)
    edge = max(1, (x1 - x0) // 24)
    rows = int(rng.integers(1, 4))
    for k in range(rows + 1):
        y = y0 + (y1 - y0) * k // rows
        cv2.line(canvas, (x0, y), (x1, y), _scaled(colour, 0.6), edge)
        cv2.line(canvas, (x0, y + 2 * edge), (x1, y + 2 * edge), _scaled(colour, 1.25), edge)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), _scaled(colour, 0.5), edge)


def _plant(canvas: np.ndarray, mask: np.ndarray, region: Region, rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = region
    green = np.array([rng.uniform(40, 90), rng.uniform(80, 140), rng.uniform(30, 70)])
    # A solid heart with leaves all over it and beyond its edge.
    inset = max(1, (x1 - x0) // 12)
    heart = (x0 + inset, y0 + inset, x1 - inset, y1)
    _block(canvas, mask, heart, tuple(int(c) for c in green * 0.6))
    leaf = max(2, mask.shape[0] // 32)
    count = 60 + 240 * (x1 - x0) * (y1 - y0) // mask.size
    centres = np.stack([rng.integers(x0, x1 + 1, count), rng.integers(y0, y1 + 1, count)], 1)
    for (x, y), light, turn in zip(
        centres.tolist(), rng.uniform(0.5, 1.35, count), rng.integers(0, 180, count), strict=True
    ):
        ellipse = ((x, y), (leaf * 2, leaf), int(turn))
        cv2.ellipse(canvas, ellipse, tuple(int(c) for c in np.minimum(green * light, 255)), -1)
        cv2.ellipse(mask, ellipse, 1, -1)


def _car(canvas: np.ndarray, mask: np.ndarray, region: Region, rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = region
    height, width = mask.shape
    colour = _colour(rng)
    # The car is longer than the picture is wide: one end of it may be seen.
    start = int(rng.uniform(-1.0, 0.0) * width + min(0, x0))
    end = start + int(2.6 * width)
    waist = y0 + (y1 - y0) * 2 // 5
    roof = [(start + width // 3, y0), (end - width // 3, y0), (end, waist), (start, waist)]
    for picture, paint in ((canvas, colour), (mask, 1)):
        cv2.fillPoly(picture, [np.array(roof, np.int32)], paint)
        cv2.rectangle(picture, (start, waist), (end, y1), paint, -1)
    inset = max(1, (waist - y0) // 5)
    glass = [(x + (inset if i in (0, 3) else -inset), y) for i, (x, y) in enumerate(roof)]
    glass = [(x, y + (inset if i < 2 else 0)) for i, (x, y) in enumerate(glass)]
    cv2.fillPoly(canvas, [np.array(glass, np.int32)], (52, 62, 72))
    post = int(rng.integers(0, width))
    cv2.line(canvas, (post, y0), (post, y1), _scaled(colour, 0.7), max(1, width // 40))
    cv2.line(canvas, (start, waist), (end, waist), _scaled(colour, 1.3), max(1, height // 100))
    wheel = max(2, (y1 - waist) // 2)
    cv2.circle(canvas, (int(rng.integers(0, width)), y1), wheel, (24, 24, 26), -1)


def _suitcase(
    canvas: np.ndarray, mask: np.ndarray, region: Region, rng: np.random.Generator
) -> None:
    x0, y0, x1, y1 = region
    colour = _colour(rng, 20, 170)
    _block(canvas, mask, region, colour)
    groove = max(1, (x1 - x0) // 20)
    for k in range(1, 6):
        x = x0 + (x1 - x0) * k // 6
        cv2.line(canvas, (x, y0), (x, y1), _scaled(colour, 0.7), groove)
    third = (x1 - x0) // 3
    handle = (x0 + third, y0 - (y1 - y0) // 4), (x1 - third, y0)
    for picture, paint in ((canvas, _scaled(colour, 0.5)), (mask, 1)):
        cv2.rectangle(picture, *handle, paint, 2 * groove)


def _wall(canvas: np.ndarray, mask: np.ndarray, region: Region, rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = region
    colour, (height, width) = _colour(rng, 70, 210), mask.shape
    if y0 > 0:  # a low wall runs through the picture
        x0, x1 = 0, width
    _block(canvas, mask, (x0, y0, x1, y1), colour)
    course, joint = max(3, height // 20), max(1, height // 128)
    for row, y in enumerate(range(y0, y1, course)):
        cv2.line(canvas, (x0, y), (x1, y), _scaled(colour, 0.8), joint)
        for x in range(x0 + (row % 2) * course, x1, 2 * course):
            cv2.line(canvas, (x, y), (x, y + course), _scaled(colour, 0.8), joint)
    cv2.rectangle(canvas, (x0, y0), (x1, y0 + course // 2), _scaled(colour, 1.2), -1)


def _sign(canvas: np.ndarray, mask: np.ndarray, region: Region, rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = region
    colour = _colour(rng, 90, 230)
    _block(canvas, mask, region, colour)
    edge = max(1, (x1 - x0) // 16)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), _scaled(colour, 0.45), edge)
    ink = _colour(rng, 10, 110)
    line = max(3, (y1 - y0) // 8)
    for y in range(y0 + line, y1 - line, line):
        end = x1 - 3 * edge - int(rng.uniform(0, 0.4) * (x1 - x0))
        cv2.line(canvas, (x0 + 3 * edge, y), (end, y), ink, max(1, line // 3))


def _pole(canvas: np.ndarray, mask: np.ndarray, region: Region, rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = region
    colour = np.array(_colour(rng, 50, 190), np.float32)
    x0, x1 = max(0, x0), min(mask.shape[1], max(x1, x0 + 2))
    # Round: lit in the middle and dark towards both edges.
    across = np.linspace(-1, 1, x1 - x0, dtype=np.float32)
    canvas[y0:y1, x0:x1] = colour * (0.5 + 0.5 * np.sqrt(1 - 0.95 * across**2))[None, :, None]
    mask[y0:y1, x0:x1] = 1


Painter = Callable[[np.ndarray, np.ndarray, Region, np.random.Generator], None]

_PAINTERS: dict[str, tuple[Painter, ...]] = {
    "below": (_crates, _plant, _car, _suitcase, _wall, _sign),
    "side": (_wall, _plant, _sign, _crates, _pole),
    "across": (_pole,),
}


def develop(
    scene: np.ndarray,
    size: tuple[int, int],
    camera: Camera,
    rng: np.random.Generator,
    difficulty: float,
) -> np.ndarray:
    """Take the picture: shrink an oversized scene to `size` and give it the camera's look.

    `scene` is uint8 (rows, columns, 3) RGB; returns uint8 (height, width, 3) RGB.
    """
    height, width = size
    sigma = difficulty * camera.blur * height / 128
    detail = 1 - 0.5 * difficulty * rng.random()  # a far person fills few pixels of the sensor
    small = max(1, round(width * detail)), max(1, round(height * detail))
    picture = cv2.resize(scene, small, interpolation=cv2.INTER_AREA)
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    if sigma > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    exposure = (camera.exposure * np.exp(rng.normal() * 0.12)) ** difficulty
    levels = np.linspace(0, 1, 256)[:, None] ** (camera.gamma**difficulty)
    levels = levels * np.array(camera.gain) ** difficulty * exposure * 255
    picture = cv2.LUT(picture, np.clip(levels, 0, 255).astype(np.uint8)[None])
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(difficulty * camera.noise)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
