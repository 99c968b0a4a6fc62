"""One person crop, as a detector would cut it from a surveillance camera, with its joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from pgfl.datasets.synthetic import figure, scene
from pgfl.datasets.synthetic.identity import Identity
from pgfl.datasets.synthetic.people import Occlusion

MIN_HEIGHT, MIN_WIDTH = 32, 16


@dataclass(frozen=True)
class Crop:
    """A crop and the true pose of the person it was cut around.

    image: uint8 (height, width, 3) RGB.
    joints: float32 (17, 2), x and y in pixels with pixel centres at integers, in COCO order;
        a joint the frame cuts off lies outside the image.
    visible: bool (17,), False where the joint is outside the image, behind an occluder or
        behind the person's own body.
    """

    image: np.ndarray
    joints: np.ndarray
    visible: np.ndarray


def render(
    identity: Identity,
    *,
    rng: np.random.Generator,
    camera: int,
    camera_seed: int,
    size: tuple[int, int],
    occlusion: Occlusion = "none",
    strangers: Sequence[Identity] = (),
    difficulty: float = 0.5,
) -> Crop:
    """Draw one crop of a person.

    `camera` (0..7) of the network `camera_seed` (>= 0) fixes colours, sharpness, scenery and
    the favourite view; `rng` draws all that differs between shots. `size` is (height, width),
    at least (32, 16). `difficulty` in [0, 1] scales every nuisance. `strangers` are the other
    people who may pass: before the person for occlusion "person" (and "mixed"), and sometimes
    behind the person at a difficulty above 0.3.

    Equal arguments and an equally seeded `rng` give the same bytes. Raises ValueError for an
    argument out of range, and for occlusion "person" without strangers.
    """
    _check(size, occlusion, strangers, difficulty)
    view = scene.camera_of(camera, camera_seed)
    kind = _settle(occlusion, strangers, rng)
    # Everything is drawn larger and shrunk at the end, which smooths all edges.
    zoom = 2 if size[0] >= 96 else 4
    canvas_size = size[0] * zoom, size[1] * zoom
    canvas = scene.backdrop(view, canvas_size, rng, difficulty)
    if strangers and rng.random() < difficulty - 0.3:
        _pass_behind(canvas, _any_of(strangers, rng), view, rng, difficulty)
    person = _posed(identity, view, rng, difficulty)
    projection = _framed(person, canvas_size, rng, difficulty)
    if kind == "cut":
        projection = _cut(person, projection, canvas_size, rng)
    drawing = _stand(canvas, person, projection, view, difficulty)
    covered = np.zeros(canvas_size, bool)
    if kind == "object" and drawing.silhouette.any():
        covered = scene.add_object(canvas, drawing.silhouette, rng, rng.uniform(0.2, 0.6))
    elif kind == "person" and drawing.silhouette.any():
        stranger = _posed(_any_of(strangers, rng), view, rng, difficulty)
        covered = _pass_before(canvas, stranger, drawing.silhouette, view, rng)
    image = scene.develop(canvas, size, view, rng, difficulty)
    joints = (projection.joints[:, :2] + 0.5) / zoom - 0.5
    visible = figure.unoccluded_by_self(projection, drawing)
    visible &= _uncovered(projection.joints[:, :2], covered)
    inside = (joints > -0.5) & (joints < np.array(size[::-1]) - 0.5)
    return Crop(image, joints.astype(np.float32), visible & inside.all(axis=1))


def _check(
    size: tuple[int, int], occlusion: str, strangers: Sequence[Identity], difficulty: float
) -> None:
    if size[0] < MIN_HEIGHT or size[1] < MIN_WIDTH:
        raise ValueError(f"size must be at least ({MIN_HEIGHT}, {MIN_WIDTH}), got {size}")
    if occlusion not in get_args(Occlusion):
        raise ValueError(f"occlusion must be one of {get_args(Occlusion)}, got {occlusion!r}")
    if occlusion == "person" and not strangers:
        raise ValueError("occlusion 'person' needs at least one stranger")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty must be in [0, 1], got {difficulty}")


def _settle(occlusion: Occlusion, strangers: Sequence[Identity], rng: np.random.Generator) -> str:
    """Which kind of occlusion a "mixed" shot gets."""
    if occlusion != "mixed":
        return occlusion
    return str(rng.choice(("object", "person", "cut") if strangers else ("object", "cut")))


def _any_of(strangers: Sequence[Identity], rng: np.random.Generator) -> Identity:
    return strangers[int(rng.integers(len(strangers)))]


def _posed(
    identity: Identity, view: scene.Camera, rng: np.random.Generator, difficulty: float
) -> figure.Figure:
    pose = figure.sample_pose(
        rng,
        favourite=view.view,
        elevation=view.elevation * min(1.0, 2 * difficulty),
        difficulty=difficulty,
    )
    return figure.pose_figure(identity, pose)


def _framed(
    person: figure.Figure, size: tuple[int, int], rng: np.random.Generator, difficulty: float
) -> figure.Projection:
    """Place a person as a detector's box would: filling the frame, off by some jitter."""
    height, width = size
    tall = height * (0.93 + 0.07 * difficulty * rng.normal())
    projection = figure.project(person, tall)
    left, right = _sides(projection)
    if right - left > 0.86 * width:  # a detector's box grows with the stride
        tall *= 0.86 * width / (right - left)
        projection = figure.project(person, tall)
        left, right = _sides(projection)
    jitter = rng.normal(size=2) * difficulty * (0.06 * width, 0.025 * height)
    centred = (width - left - right) / 2, (height - tall) / 2
    return figure.moved(projection, centred[0] + jitter[0], centred[1] + jitter[1])


def _sides(projection: figure.Projection) -> tuple[float, float]:
    """Image x of the figure's leftmost and rightmost point."""
    x = np.concatenate([projection.starts[:, 0], projection.ends[:, 0]])
    return float(x.min()), float(x.max())


def _cut(
    person: figure.Figure,
    projection: figure.Projection,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> figure.Projection:
    """Move or enlarge a framed person so that the frame cuts off a part."""
    height, width = size
    kind = str(rng.choice(("upper", "side", "legs"), p=(0.55, 0.35, 0.1)))
    if kind == "side":
        shift = rng.uniform(0.28, 0.5) * rng.choice((-1, 1)) * width
        return figure.moved(projection, shift, 0)
    if kind == "legs":
        return figure.moved(projection, 0, -rng.uniform(0.3, 0.5) * height)
    larger = figure.project(person, height * rng.uniform(1.3, 2.1))
    shift = width / 2 - np.median(larger.joints[:, 0])
    return figure.moved(larger, shift, 0.03 * height)


def _stand(
    canvas: np.ndarray,
    person: figure.Figure,
    projection: figure.Projection,
    view: scene.Camera,
    difficulty: float,
) -> figure.Drawing:
    """Draw a person with a shadow on the ground, in place."""
    feet = projection.joints[15:17, :2].mean(axis=0) + [0, 0.03 * projection.scale]
    scene.cast_shadow(canvas, tuple(feet), 0.22 * projection.scale, 0.3 + 0.3 * difficulty)
    return figure.draw(canvas, person, projection, view.light)


def _pass_behind(
    canvas: np.ndarray,
    stranger: Identity,
    view: scene.Camera,
    rng: np.random.Generator,
    difficulty: float,
) -> None:
    """Draw a smaller passer-by further up in the picture, in place."""
    height, width = canvas.shape[:2]
    passer = _posed(stranger, view, rng, difficulty)
    projection = figure.project(passer, height * rng.uniform(0.45, 0.75))
    place = rng.uniform(0.0, 1.0) * width, rng.uniform(0.02, 0.15) * height
    _stand(canvas, passer, figure.moved(projection, *place), view, difficulty)


def _pass_before(
    canvas: np.ndarray,
    stranger: figure.Figure,
    silhouette: np.ndarray,
    view: scene.Camera,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a stranger before a person's silhouette, in place; returns the covered pixels."""
    height, width = silhouette.shape
    projection = figure.project(stranger, height * rng.uniform(0.95, 1.35))
    columns = np.flatnonzero(silhouette.any(axis=0))
    offset = rng.uniform(0.15, 0.5) * (columns[-1] - columns[0]) * rng.choice((-1, 1))
    middle = (columns[-1] + columns[0]) / 2 + offset
    top = rng.uniform(0.02, 0.3) * height
    return figure.draw(
        canvas, stranger, figure.moved(projection, middle, top), view.light
    ).silhouette


def _uncovered(points: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Which points (n, 2) an occluder's mask does not cover: bool, True outside the mask."""
    height, width = covered.shape
    x, y = np.rint(points).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return ~(inside & covered[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)])
