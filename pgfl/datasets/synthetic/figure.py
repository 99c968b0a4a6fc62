"""The articulated figure: its walking pose, its joints in space, and how it is drawn.

Body frame, in units of the person's height: x to the person's left, y up, z forward. The
figure is a set of tubes with elliptic cross-sections, ray-cast one by one into a depth buffer
and then textured and shaded in one pass over the pixels that show a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pgfl.datasets.synthetic.identity import TILE, Identity, Tile, texture_atlas

UP = np.array([0, 1.0, 0])
LEFT = np.array([1.0, 0, 0])
BEHIND = np.array([0, 0, -1.0])

# How far below the drawn surface a joint lies when nothing else of the body covers it, in
# units of the person's height: shallow in the face, deep inside shoulders and hips.
JOINT_DEPTH = np.repeat(
    # In COCO's order: nose and eyes, ears, shoulders, elbows and wrists, hips, knees, ankles
    [0.03, 0.035, 0.12, 0.06, 0.14, 0.07, 0.11],
    [3, 2, 2, 4, 2, 2, 2],
)

PROFILE = 128
"""Samples of a tube's radius along its axis."""

VIEWING_DISTANCE = 5.0
"""From the camera to the person, in units of the person's height."""


@dataclass(frozen=True)
class Pose:
    """What a person does in one shot, and from where it is seen; angles in radians."""

    yaw: float  # 0 faces the camera, pi/2 walks to the right of the image, pi shows the back
    elevation: float  # of the camera above the horizon
    phase: float  # of the gait
    pace: float  # 0 stands, 1 strides
    head_turn: float
    carry: int  # -1 or +1: the right or left forearm is raised; 0: neither


@dataclass(frozen=True)
class Tube:
    """A body part: an axis from `start` to `end` (body frame) with a radius along it."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray  # (PROFILE,) half-widths from side to side
    tile: Tile
    flatness: float = 1.0  # half-depth from front to back over half-width
    turn: float = 0.0  # of the part against the body, about the vertical
    blunt: float = 1.0  # 1: ends in half-balls; large: ends cut straight


@dataclass(frozen=True)
class Figure:
    """A posed person: its tubes and its COCO joints (17, 3), in the body frame."""

    tubes: tuple[Tube, ...]
    joints: np.ndarray
    pose: Pose
    identity: Identity


@dataclass(frozen=True)
class Projection:
    """A figure in the picture: image x, image y and depth towards the camera, in pixels."""

    starts: np.ndarray  # (tubes, 3)
    ends: np.ndarray  # (tubes, 3)
    joints: np.ndarray  # (17, 3)
    scale: float  # pixels per body height


@dataclass(frozen=True)
class Drawing:
    """What drawing left behind: the silhouette and the surface's depth, both (height, width)."""

    silhouette: np.ndarray  # bool
    depth: np.ndarray  # float32, pixels towards the camera, -inf outside the silhouette


def sample_pose(
    rng: np.random.Generator, *, favourite: float, elevation: float, difficulty: float
) -> Pose:
    """Draw a pose: the view scatters around `favourite` (radians) more as `difficulty` grows."""
    yaw = favourite * min(1.0, 2 * difficulty) + rng.normal() * (0.06 + 0.7 * difficulty)
    if rng.random() < 0.35 * difficulty:
        yaw = rng.uniform(-np.pi, np.pi)
    carries = rng.random() < 0.3 * difficulty
    return Pose(
        yaw=float(yaw),
        elevation=elevation,
        phase=float(rng.uniform(0, 2 * np.pi)),
        pace=float(rng.uniform(0.15, 1.0)),
        head_turn=float(rng.normal() * 0.4 * difficulty),
        carry=int(rng.choice((-1, 1))) if carries else 0,
    )


def pose_figure(identity: Identity, pose: Pose) -> Figure:
    """Put a person into a pose."""
    body = identity.body
    pelvis, neck = UP * 0.5 * body.legs, 0.335
    spine = np.array([0, np.cos(body.lean), np.sin(body.lean)])
    chest = pelvis + spine * (neck - 0.048)
    legs = [_leg(identity, pose, pelvis, side) for side in (LEFT, -LEFT)]
    arms = [_arm(identity, pose, chest, side) for side in (LEFT, -LEFT)]
    head = _Head.on(pelvis + spine * neck, spine, body.head, pose.head_turn)
    joints = np.stack(
        [head.at(0.62, 0), head.at(0.5, 0.45), head.at(0.5, -0.45)]
        + [head.at(0.54, np.pi / 2), head.at(0.54, -np.pi / 2)]
        + [arms[side][joint] for joint in range(3) for side in (0, 1)]
        + [legs[side][joint] for joint in range(3) for side in (0, 1)]
    )
    tubes = (
        *_trunk(identity, pelvis, spine, neck),
        *(tube for leg in legs for tube in _leg_tubes(identity, leg)),
        *(tube for arm in arms for tube in _arm_tubes(identity, arm)),
        *_head_tubes(identity, head, pelvis + spine * neck),
        *_clothing_extras(identity, pelvis, spine, neck),
        *_bag_tubes(identity, pelvis, spine, arms),
    )
    return Figure(tubes, joints, pose, identity)


def _swing(angle: float) -> np.ndarray:
    """Downward unit vector swung forward by `angle` radians."""
    return np.array([0, -np.cos(angle), np.sin(angle)])


def _leg(identity: Identity, pose: Pose, pelvis: np.ndarray, side: np.ndarray) -> list[np.ndarray]:
    """Hip, knee, ankle, heel and toe of one leg."""
    body = identity.body
    phase = pose.phase + (0 if side[0] > 0 else np.pi)
    hip_angle = 0.42 * body.stride * pose.pace * np.sin(phase)
    # The knee bends while its leg swings forward and hardly while it carries the body.
    flexion = 0.05 + 0.85 * pose.pace * max(0.0, np.cos(phase)) ** 2
    hip = pelvis + side * 0.055 * body.hips
    knee = hip + _swing(hip_angle + 0.3 * flexion) * 0.235 * body.legs
    shin_angle = hip_angle - 0.7 * flexion
    ankle = knee + _swing(shin_angle) * 0.225 * body.legs - side * 0.008
    forward = _swing(np.pi / 2 + 0.8 * shin_angle + 0.05) + side * 0.15
    sole = ankle + _swing(0.8 * shin_angle) * 0.02
    return [hip, knee, ankle, sole - forward * 0.018, sole + forward * 0.085]


def _arm(identity: Identity, pose: Pose, chest: np.ndarray, side: np.ndarray) -> list[np.ndarray]:
    """Shoulder, elbow, wrist and fingertips of one arm."""
    body = identity.body
    phase = pose.phase + (np.pi if side[0] > 0 else 0)
    angle = 0.4 * body.arm_swing * pose.pace * np.sin(phase) - 0.05
    flexion = 0.2 + 0.3 * pose.pace + 0.15 * np.sin(phase)
    if pose.carry == side[0]:
        angle, flexion = 0.15, 1.7
    shoulder = chest + side * 0.098 * body.shoulders
    outward = side * (0.1 + 0.1 * body.girth)
    elbow = shoulder + (_swing(angle) + outward) * 0.165 * body.arms
    hand = _swing(angle + flexion) + side * (0.02 if pose.carry != side[0] else -0.35)
    wrist = elbow + hand * 0.14 * body.arms
    return [shoulder, elbow, wrist, wrist + hand * 0.05]


@lru_cache(maxsize=256)
def _profile(*knots: float) -> np.ndarray:
    """Radii interpolated from evenly spaced knots, read-only."""
    radius = np.interp(np.linspace(0, len(knots) - 1, PROFILE), np.arange(len(knots)), knots)
    radius = radius.astype(np.float32)
    radius.flags.writeable = False
    return radius


@lru_cache(maxsize=8)
def _egg(power: float) -> np.ndarray:
    """Radii of a closed shape of half-width 1: a ball for power 2, boxier for more, read-only."""
    along = np.abs(np.linspace(-1, 1, PROFILE))
    radius = ((1 - along**power) ** (1 / power)).astype(np.float32)
    radius.flags.writeable = False
    return radius


@dataclass(frozen=True)
class _Head:
    """An egg-shaped head: where its crown and chin are, and which way it looks."""

    crown: np.ndarray
    chin: np.ndarray
    half_width: float
    turn: float

    FLATNESS = 1.22

    @classmethod
    def on(cls, neck: np.ndarray, spine: np.ndarray, size: float, turn: float) -> _Head:
        chin = neck + spine * 0.028 - BEHIND * 0.012
        return cls(chin + UP * 0.138 * size, chin, 0.05 * size, turn)

    def at(self, along: float, angle: float) -> np.ndarray:
        """A surface point: `along` from crown 0 to chin 1, `angle` from the nose leftwards."""
        radius = self.half_width * np.sqrt(1 - (2 * along - 1) ** 2)
        x, z = radius * np.sin(angle), radius * np.cos(angle) * self.FLATNESS
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        offset = np.array([x * cos + z * sin, 0, -x * sin + z * cos])
        return self.crown + (self.chin - self.crown) * along + offset


def _trunk(identity: Identity, pelvis: np.ndarray, spine: np.ndarray, neck: float) -> list[Tube]:
    body, girth = identity.body, identity.body.girth
    shoulders, waist, hips = 0.124 * body.shoulders, 0.092 * girth, 0.1 * body.hips
    loose = 1.12 if identity.upper.kind in ("jacket", "hoodie") else 1.06
    hem = -0.05 if identity.upper.kind in ("jacket", "hoodie") else -0.015
    # From the slope beside the neck over the shoulders down to the hem.
    knots = (0.045, 0.86 * shoulders, shoulders, 0.98 * shoulders, 0.94 * shoulders)
    knots += (
        0.108 * girth,
        0.102 * girth,
        waist * 1.03,
        waist,
        waist,
        hips * 0.98,
        hips * 1.02,
        hips * 1.03,
    )
    torso = _profile(*(round(loose * knot, 4) for knot in knots))
    bottom = _profile(*(round(knot, 4) for knot in (waist, hips * 0.97, hips * 0.95, hips * 0.45)))
    start, end = pelvis + spine * (neck + 0.004), pelvis + spine * hem
    flatness = 0.6 + 0.12 * girth
    return [
        Tube(start, end, torso, Tile.TORSO, flatness, blunt=9),
        Tube(pelvis + spine * 0.06, pelvis - UP * 0.05, bottom, Tile.PELVIS, 0.68, blunt=4),
    ]


def _leg_tubes(identity: Identity, leg: list[np.ndarray]) -> list[Tube]:
    hip, knee, ankle, heel, toe = leg
    girth = identity.body.girth
    bare = identity.lower.kind != "trousers"
    hidden = 0.8 if identity.lower.kind in ("skirt", "dress") else 1.0  # else it pokes through
    thigh = _profile(0.052 * girth * hidden, 0.053 * girth * hidden, 0.042 * girth)
    calf = (0.037, 0.037, 0.022) if bare else (0.041, 0.039, 0.034)
    shin = _profile(*(knot * girth for knot in calf))
    return [
        Tube(hip, knee, thigh, Tile.THIGH),
        Tube(knee, ankle, shin, Tile.SHIN, blunt=1 if bare else 3),
        Tube(heel, toe, _profile(0.026, 0.025, 0.02), Tile.SHOE, 0.8),
    ]


def _arm_tubes(identity: Identity, arm: list[np.ndarray]) -> list[Tube]:
    shoulder, elbow, wrist, finger = arm
    girth = identity.body.girth
    sleeve = {"jacket": 0.008, "hoodie": 0.007, "tank top": -0.003}.get(identity.upper.kind, 0.003)
    upper = _profile(0.031 * girth + sleeve, 0.031 * girth + sleeve, 0.026 * girth + sleeve)
    lower = _profile(0.026 * girth + sleeve, 0.024 * girth + sleeve, 0.018 * girth + sleeve)
    return [
        Tube(shoulder, elbow, upper, Tile.SLEEVE),
        Tube(elbow, wrist, lower, Tile.FOREARM),
        Tube(wrist, finger, _profile(0.019, 0.021, 0.013), Tile.SKIN),
    ]


def _head_tubes(identity: Identity, head: _Head, neck: np.ndarray) -> list[Tube]:
    width = head.half_width
    centre = (head.crown + head.chin) / 2
    back = centre - head.at(0.5, 0)  # from the face to the middle of the head
    tubes = [
        Tube(neck - UP * 0.02, centre, _profile(0.036, 0.034), Tile.SKIN),
        Tube(head.crown, head.chin, _egg(2.0) * width, Tile.HEAD, head.FLATNESS, turn=head.turn),
        Tube(head.at(0.52, 0), head.at(0.64, 0), _profile(0.004, 0.009), Tile.SKIN),
    ]
    skull = head.crown + UP * 0.006 + back * 0.16
    hair: list[Tube] = []
    if identity.hair != "bald":
        nape = skull - UP * width * 1.5
        cap = Tube(skull, nape, _egg(2.0) * width * 1.06, Tile.HAIR, 1.1, turn=head.turn)
        hair.append(Tube(cap.start + back * 0.2, nape + back * 0.35, cap.radius, Tile.HAIR))
    if identity.hair == "long":
        top, tip = centre + back * 0.45, centre + back * 1.0 - UP * 0.16
        hair.append(Tube(top, tip, _profile(width, 0.062, 0.07, 0.05), Tile.HAIR, 0.6, blunt=3))
    if identity.hair == "ponytail":
        root, tip = centre + back * 1.1 + UP * 0.02, centre + back * 1.6 - UP * 0.13
        hair.append(Tube(root, tip, _profile(0.018, 0.026, 0.012), Tile.HAIR))
    if identity.hair == "bun":
        bun = centre + back * 1.0 + UP * 0.055
        hair.append(Tube(bun, bun + UP * 0.01, _profile(0.033, 0.033), Tile.HAIR))
    if identity.hair == "curly" and identity.headwear == "none":
        ball = head.crown + back * 0.5
        curls = _egg(2.0) * width * 1.5
        hair.append(Tube(ball + UP * 0.03, ball - UP * 0.1, curls, Tile.HAIR))
    if identity.headwear != "none":
        crown = head.crown + UP * 0.012
        dome = _egg(2.6)[: PROFILE // 2].repeat(2) * width * 1.12
        hair.append(Tube(crown, crown - UP * 0.058, dome, Tile.HAT, 1.22, head.turn, blunt=50))
    if identity.headwear == "cap":
        forward = back * -0.45
        left, right = (head.at(0.33, angle) + forward for angle in (0.55, -0.55))
        hair.append(Tube(left, right, _profile(0.011), Tile.HAT))
        brow = head.at(0.3, 0)
        hair.append(Tube(brow, brow + forward, _profile(0.013), Tile.HAT))
    return tubes + hair


def _clothing_extras(
    identity: Identity, pelvis: np.ndarray, spine: np.ndarray, neck: float
) -> list[Tube]:
    tubes = []
    hips = 0.1 * max(identity.body.hips, identity.body.girth)
    if identity.lower.kind in ("skirt", "dress"):
        flare = _profile(hips * 0.95, hips * 1.08, hips * 1.2, hips * 1.35)
        hem = pelvis - UP * 0.2
        tubes.append(Tube(pelvis + spine * 0.07, hem, flare, Tile.SKIRT, 0.95, blunt=8))
    if identity.upper.kind == "hoodie":
        nape = pelvis + spine * neck + BEHIND * 0.035
        hood = _profile(0.03, 0.062, 0.06, 0.03)
        tubes.append(Tube(nape + spine * 0.035, nape - spine * 0.05, hood, Tile.HOOD, 0.8))
    return tubes


def _bag_tubes(
    identity: Identity, pelvis: np.ndarray, spine: np.ndarray, arms: list[list[np.ndarray]]
) -> list[Tube]:
    aside = LEFT * identity.bag_side
    if identity.bag == "backpack":
        back = pelvis + BEHIND * (0.085 * identity.body.girth + 0.035)
        top, bottom = back + spine * 0.32, back + spine * 0.07
        return [Tube(top, bottom, _egg(4.0) * 0.1, Tile.BAG, 0.72, blunt=4)]
    if identity.bag == "shoulder bag":
        hip = pelvis + aside * (0.1 * identity.body.hips + 0.02) + BEHIND * 0.03
        return [Tube(hip + spine * 0.07, hip - spine * 0.07, _egg(4.0) * 0.04, Tile.BAG, 2.0)]
    if identity.bag == "handbag":
        grip = arms[0 if identity.bag_side > 0 else 1][3]
        low = grip - UP * 0.13
        bag = _profile(0.01, 0.012, 0.034, 0.038, 0.04, 0.04)
        return [Tube(grip, low, bag, Tile.BAG, 1.9, blunt=6)]
    return []


def project(figure: Figure, height: float) -> Projection:
    """Project a figure so that it spans `height` pixels from its top to its soles.

    The picture's origin is left of, and level with, the figure's topmost point: the body's
    vertical axis is at x = 0 and its top at y = 0.
    """
    points = np.concatenate(
        [
            np.stack([tube.start for tube in figure.tubes]),
            np.stack([tube.end for tube in figure.tubes]),
            figure.joints,
        ]
    )
    points[:, 1] -= 0.52  # turn and tilt about the middle of the body
    cos, sin = np.cos(figure.pose.yaw), np.sin(figure.pose.yaw)
    x, z = points[:, 0] * cos + points[:, 2] * sin, points[:, 2] * cos - points[:, 0] * sin
    cos, sin = np.cos(figure.pose.elevation), np.sin(figure.pose.elevation)
    y, z = points[:, 1] * cos - z * sin, z * cos + points[:, 1] * sin
    nearness = VIEWING_DISTANCE / (VIEWING_DISTANCE - z)
    seen = np.stack([x * nearness, -y * nearness, z], axis=1)
    n = len(figure.tubes)
    radii = np.array([[tube.radius[0], tube.radius[-1]] for tube in figure.tubes])
    top = min((seen[:n, 1] - radii[:, 0]).min(), (seen[n : 2 * n, 1] - radii[:, 1]).min())
    bottom = max((seen[:n, 1] + radii[:, 0]).max(), (seen[n : 2 * n, 1] + radii[:, 1]).max())
    scale = height / (bottom - top)
    seen = (seen - [0, top, 0]) * scale
    return Projection(seen[:n], seen[n : 2 * n], seen[2 * n :], scale)


def moved(projection: Projection, x: float, y: float) -> Projection:
    """The same projection shifted by (x, y) pixels."""
    shift = np.array([x, y, 0])
    return Projection(
        projection.starts + shift,
        projection.ends + shift,
        projection.joints + shift,
        projection.scale,
    )


def draw(
    canvas: np.ndarray, figure: Figure, projection: Projection, light: tuple[float, float, float]
) -> Drawing:
    """Draw a figure on `canvas`, uint8 (height, width, 3) RGB, in place.

    `light` points from the figure to the light: image x, image y (down) and towards the camera.
    """
    shape = canvas.shape[:2]
    depth = np.full(shape, -np.inf, np.float32)
    part = np.full(shape, -1, np.int16)
    along, across, facing = (np.zeros(shape, np.float32) for _ in range(3))
    looks = np.empty((len(figure.tubes), 3), np.float32)  # tile, angle at the edge, side light
    for index, tube in enumerate(figure.tubes):
        start, end = projection.starts[index], projection.ends[index]
        edge = _edge(tube, figure.pose.yaw)
        axis = end[:2] - start[:2]
        axis = axis / max(float(np.hypot(*axis)), 1e-3)
        looks[index] = tube.tile, edge[0], light[0] * axis[1] - light[1] * axis[0]
        cast = _cast(tube, start, end, projection.scale, edge, shape)
        if cast is None:
            continue
        window, inside, surface, *coordinates = cast
        nearer = inside & (surface > depth[window])
        np.copyto(depth[window], surface, where=nearer)
        np.copyto(part[window], index, where=nearer)
        for buffer, values in zip((along, across, facing), coordinates, strict=True):
            np.copyto(buffer[window], values, where=nearer)
    silhouette = part >= 0
    if silhouette.any():
        crease = _creases(depth, silhouette, projection.scale)
        look = looks[part[silhouette]]
        v, nz = across[silhouette], facing[silhouette]
        colour = _texture(
            figure.identity, look[:, 0], look[:, 1] + np.arccos(v), along[silhouette]
        )
        shade = 0.6 + 0.6 * np.clip(nz * light[2] + v * look[:, 2], 0, None)
        shade *= (0.72 + 0.28 * nz) * crease[silhouette]
        canvas[silhouette] = np.clip(colour * shade[:, None], 0, 255)
    return Drawing(silhouette, depth)


def _edge(tube: Tube, yaw: float) -> tuple[float, float, float, float]:
    """How a tube's cross-section looks from `yaw`.

    Returns the angle around the tube that is seen at its image-right edge, the seen half-width,
    and how depth changes across and out of the tube, all per unit of the tube's radius.
    """
    cos, sin = np.cos(yaw + tube.turn), np.sin(yaw + tube.turn)
    width = float(np.hypot(cos, tube.flatness * sin))
    angle = float(np.arctan2(tube.flatness * sin, cos))
    tilt = float((tube.flatness**2 - 1) * sin * cos / width)
    return angle, width, tilt, float(tube.flatness / width)


def _cast(
    tube: Tube,
    start: np.ndarray,
    end: np.ndarray,
    scale: float,
    edge: tuple[float, float, float, float],
    shape: tuple[int, int],
) -> tuple | None:
    """Ray-cast one tube: window, coverage, depth, and along, across and facing coordinates.

    `along` runs from 0 to 1 over the tube, `across` from -1 at the image-left edge to 1 at the
    right one, `facing` from 0 at the edges to 1 where the surface faces the camera. Returns
    None for a tube outside the picture.
    """
    _, width, tilt, bulge = edge
    reach = float(tube.radius.max()) * scale * max(width, 1.0) + 1
    low, high = np.minimum(start, end)[:2] - reach, np.maximum(start, end)[:2] + reach
    x0, y0 = (max(0, int(v)) for v in low)
    x1, y1 = min(shape[1], int(high[0]) + 2), min(shape[0], int(high[1]) + 2)
    if x0 >= x1 or y0 >= y1:
        return None
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(float(np.hypot(dx, dy)), 1e-3)
    ux, uy = dx / length, dy / length
    x = np.arange(x0, x1, dtype=np.float32)[None, :] - np.float32(start[0])
    y = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(start[1])
    t = x * np.float32(ux / length) + y * np.float32(uy / length)
    along = np.clip(t, 0, 1)
    beyond = (t - along) * np.float32(length * tube.blunt)
    across = x * np.float32(uy) - y * np.float32(ux)  # to the image's right of a downward axis
    radius = (tube.radius * np.float32(scale)).take((along * (PROFILE - 1) + 0.5).astype(np.intp))
    seen = radius * np.float32(width) + np.float32(1e-6)
    across /= seen
    beyond /= seen
    facing = 1 - across * across - beyond * beyond
    inside = facing > 0
    facing = np.sqrt(np.maximum(facing, 0))
    surface = np.float32(start[2]) + along * np.float32(end[2] - start[2])
    surface += radius * (across * np.float32(tilt) + facing * np.float32(bulge))
    window = np.s_[y0:y1, x0:x1]
    return window, inside, surface, along, np.clip(across, -1, 1), facing


def _texture(
    identity: Identity, tile: np.ndarray, angle: np.ndarray, along: np.ndarray
) -> np.ndarray:
    """Look up (n,) surface points in the person's textures: uint8 (n, 3)."""
    column = (angle * np.float32(TILE / (2 * np.pi))).astype(np.intp) % TILE
    row = np.minimum(along * TILE, TILE - 1).astype(np.intp)
    return texture_atlas(identity)[row, tile.astype(np.intp) * TILE + column]


def _creases(depth: np.ndarray, silhouette: np.ndarray, scale: float) -> np.ndarray:
    """Darkening (0..1) where one part lies close behind another, as an arm before a torso."""
    filled = np.where(silhouette, depth, depth[silhouette].min())
    size = max(3, int(scale * 0.035) | 1)
    in_front = cv2.blur(filled, (size, size)) - filled
    return 1 - np.clip(in_front / np.float32(scale * 0.05), 0, 0.55)


def unoccluded_by_self(projection: Projection, drawing: Drawing) -> np.ndarray:
    """Which joints (17,) no other part of the same body hides: bool, True outside the picture."""
    height, width = drawing.depth.shape
    x, y = np.rint(projection.joints[:, :2]).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    surface = drawing.depth[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    covered = surface - projection.joints[:, 2] > JOINT_DEPTH * projection.scale
    return ~(inside & covered)
