"""What a state dict seems to be of, for messages about a file that does not fit."""

import re

from torch import Tensor

_RESNETS = {
    (False, (2, 2, 2, 2)): "ResNet-18",
    (False, (3, 4, 6, 3)): "ResNet-34",
    (True, (3, 4, 6, 3)): "ResNet-50",
    (True, (3, 4, 23, 3)): "ResNet-101",
    (True, (3, 8, 36, 3)): "ResNet-152",
}
"""By whether a block has three convolutions, and the number of blocks in each stage."""


def seems_to_be(state: dict[str, Tensor]) -> str:
    """A network's name with what its last layers are for, or its first tensors' names.

    Args:
        state: names to tensors, with any prefix.
    """
    for recognised in (_hrnet, _resnet, _other):
        if name := recognised(state):
            return name
    first = ", ".join(list(state)[:3])
    return f"a network with {len(state)} tensors that is not known here ({first} …)"


def _hrnet(state: dict[str, Tensor]) -> str | None:
    first = _find(state, r"stage2\.0\.branches\.0\.0\.conv1\.weight")
    if first is None:
        return None
    name = f"an HRNet-W{len(first)}"
    keypoints = _find(state, r"final_layer\.weight")
    if any("incre_modules" in key for key in state):
        return f"{name} for classification"
    if keypoints is None:
        return f"{name} without a pose head"
    return f"{name} with a head for {len(keypoints)} keypoints"


def _resnet(state: dict[str, Tensor]) -> str | None:
    blocks = {
        (int(found[1]), int(found[2]))
        for key in state
        if (found := re.search(r"(?:^|\.)layer([1-4])\.(\d{1,4})\.conv2\.weight$", key))
    }
    depths = tuple(sum(stage == number for stage, _ in blocks) for number in (1, 2, 3, 4))
    bottleneck = _find(state, r"layer1\.0\.conv3\.weight") is not None
    if 0 in depths:
        return None
    name = _RESNETS.get((bottleneck, depths), f"ResNet of {depths} blocks")
    classes = _find(state, r"(?:fc|classifier)\.weight")
    heads = "" if classes is None else f" with a classifier of {len(classes)} classes"
    return f"a {name}{heads}"


def _other(state: dict[str, Tensor]) -> str | None:
    for pattern, name in {
        r"conv2\.0\.conv2a\.": "an OSNet",
        r"patch_embed\.proj": "a vision transformer",
        r"necks\.global\.classifier\.weight": "the branches of a training run",
    }.items():
        if any(re.search(rf"(?:^|\.){pattern}", key) for key in state):
            return name
    return None


def _find(state: dict[str, Tensor], pattern: str) -> Tensor | None:
    """The first tensor whose name ends so, if it has rows."""
    for key, value in state.items():
        if re.search(rf"(?:^|\.){pattern}$", key) and value.ndim:
            return value
    return None
