import numpy as np

from pgfl.pose.keypoints import (
    GROUPS,
    KEYPOINT_MIRROR,
    KEYPOINTS,
    PART_MIRROR,
    PARTS,
    part_confidence,
)


def test_the_keypoints_are_in_coco_order():
    assert (
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
        *("left_wrist", "right_wrist", "left_hip", "right_hip"),
        *("left_knee", "right_knee", "left_ankle", "right_ankle"),
    ) == KEYPOINTS


def test_the_groups_are_those_of_the_paper():
    named = {part: {KEYPOINTS[i] for i in group} for part, group in GROUPS.items()}
    assert named == {
        "head": {"nose", "left_eye", "right_eye", "left_ear", "right_ear"},
        "left_lower_arm": {"left_elbow", "left_wrist"},
        "right_lower_arm": {"right_elbow", "right_wrist"},
        "left_knee": {"left_knee"},
        "right_knee": {"right_knee"},
        "left_ankle": {"left_ankle"},
        "right_ankle": {"right_ankle"},
        "torso": {"left_shoulder", "right_shoulder", "left_hip", "right_hip"},
    }


def test_every_keypoint_belongs_to_one_group():
    assert sorted(i for group in GROUPS.values() for i in group) == list(range(17))


def test_the_parts_are_in_channel_order():
    assert (
        *("head", "left_lower_arm", "right_lower_arm", "left_knee", "right_knee"),
        *("left_ankle", "right_ankle", "torso"),
    ) == PARTS


def test_a_mirror_exchanges_left_and_right_keypoints():
    assert KEYPOINT_MIRROR == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


def test_a_mirror_exchanges_left_and_right_parts():
    assert PART_MIRROR == (0, 2, 1, 4, 3, 6, 5, 7)


def test_the_part_mirror_follows_from_the_keypoint_mirror():
    groups = [set(group) for group in GROUPS.values()]
    for part, group in enumerate(groups):
        assert groups[PART_MIRROR[part]] == {KEYPOINT_MIRROR[i] for i in group}


def test_a_part_is_as_sure_as_its_surest_keypoint():
    confidence = np.random.default_rng(0).uniform(-0.2, 1.3, (3, 17)).astype(np.float32)
    found = part_confidence(confidence)
    for row in range(3):
        for place, group in enumerate(GROUPS.values()):
            expected = min(max(max(confidence[row, point] for point in group), 0), 1)
            assert found[row, place] == np.float32(expected)
    assert found.shape == (3, 8) and found.dtype == np.float32
