"""The 17 COCO keypoints, the paper's 8 groups of them, and what a mirror does to both."""

import numpy as np

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip

GROUPS: dict[str, tuple[int, ...]] = {
    "head": (0, 1, 2, 3, 4),
    "left_lower_arm": (7, 9),
    "right_lower_arm": (8, 10),
    "left_knee": (13,),
    "right_knee": (14,),
    "left_ankle": (15,),
    "right_ankle": (16,),
    "torso": (5, 6, 11, 12),
}
"""Section 4.2 of the paper: which keypoints make each of the K = 8 parts, in channel order."""

PARTS = tuple(GROUPS)


def _mirrored(names: tuple[str, ...]) -> tuple[int, ...]:
    def twin(name: str) -> str:
        side, _, rest = name.partition("_")
        return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)

    return tuple(names.index(twin(name)) for name in names)


KEYPOINT_MIRROR = _mirrored(KEYPOINTS)
"""For each keypoint channel, the channel that a horizontal flip turns it into."""

PART_MIRROR = _mirrored(PARTS)
"""The same for the 8 parts."""


def part_confidence(confidence: np.ndarray) -> np.ndarray:
    """How sure the pose network is of each part: its surest keypoint.

    Args:
        confidence: (..., 17) peak responses.

    Returns:
        float32 (..., 8) in [0, 1].
    """
    parts = [confidence[..., list(group)].max(axis=-1) for group in GROUPS.values()]
    return np.clip(np.stack(parts, axis=-1), 0, 1).astype(np.float32)
