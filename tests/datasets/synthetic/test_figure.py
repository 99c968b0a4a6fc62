from dataclasses import replace

import numpy as np
import pytest

from pgfl.datasets.synthetic import figure
from pgfl.datasets.synthetic.figure import Pose
from pgfl.datasets.synthetic.identity import sample_identity
from pgfl.pose.keypoints import KEYPOINTS

STANDING = Pose(yaw=0.0, elevation=0.0, phase=0.0, pace=0.15, head_turn=0.0, carry=0)
LIGHT = (0.0, -0.5, 0.8)
PLAIN = next(  # nothing on the head or back that could hide a joint
    person
    for person in (sample_identity(0, pid) for pid in range(200))
    if (person.hair, person.headwear, person.bag) == ("short", "none", "none")
)


def seen(pose, person=PLAIN):
    """A person in a picture of 256 x 160: projection, visible joints by name, silhouette."""
    posed = figure.pose_figure(person, pose)
    projection = figure.moved(figure.project(posed, 230), 80, 12)
    drawing = figure.draw(np.zeros((256, 160, 3), np.uint8), posed, projection, LIGHT)
    visible = figure.unoccluded_by_self(projection, drawing)
    return projection, dict(zip(KEYPOINTS, visible, strict=True)), drawing.silhouette


def test_all_joints_are_seen_from_the_front():
    _, visible, _ = seen(STANDING)
    assert all(visible.values())


def test_the_face_is_hidden_from_behind_and_the_limbs_are_not():
    _, visible, _ = seen(replace(STANDING, yaw=np.pi))
    assert not any(visible[name] for name in ("nose", "left_eye", "right_eye"))
    assert visible["left_shoulder"] and visible["right_knee"]


@pytest.mark.parametrize(
    ("yaw", "near", "far"), [(1.57, "right", "left"), (-1.57, "left", "right")]
)
def test_the_far_side_is_hidden_in_profile(yaw, near, far):
    _, visible, _ = seen(replace(STANDING, yaw=yaw))
    for joint in ("ear", "shoulder", "elbow"):
        assert visible[f"{near}_{joint}"] and not visible[f"{far}_{joint}"]


@pytest.mark.parametrize("name", ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee"])
def test_left_is_the_persons_own_left(name):
    left, right = (KEYPOINTS.index(f"{side}_{name}") for side in ("left", "right"))
    front, back = (seen(replace(STANDING, yaw=yaw))[0].joints for yaw in (0.0, np.pi))
    assert front[left, 0] > front[right, 0]
    assert back[left, 0] < back[right, 0]


def test_walking_to_the_right_leads_with_the_nose():
    joints = seen(replace(STANDING, yaw=np.pi / 2))[0].joints
    assert joints[0, 0] > joints[3:5, 0].mean()


@pytest.mark.parametrize("yaw", np.linspace(-np.pi, np.pi, 7))
def test_joints_lie_on_the_silhouette(yaw):
    projection, _, silhouette = seen(Pose(yaw, 0.2, 1.0, 0.8, 0.0, 1))
    x, y = np.rint(projection.joints[:, :2]).astype(int).T
    near = [silhouette[b - 2 : b + 3, a - 2 : a + 3].any() for a, b in zip(x, y, strict=True)]
    assert all(near)


def test_figure_spans_the_height_asked_for():
    _, _, silhouette = seen(STANDING)
    rows = np.flatnonzero(silhouette.any(axis=1))
    assert abs((rows[-1] - rows[0]) - 230) < 12


def test_a_figure_outside_the_picture_leaves_it_untouched():
    posed = figure.pose_figure(PLAIN, STANDING)
    canvas = np.zeros((64, 32, 3), np.uint8)
    projection = figure.moved(figure.project(posed, 60), 500, 500)
    drawing = figure.draw(canvas, posed, projection, LIGHT)
    assert not canvas.any() and not drawing.silhouette.any()
    assert figure.unoccluded_by_self(projection, drawing).all()
