"""What the loader yields, and what a network makes of it."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from pgfl.pose.keypoints import PARTS


class Batch(NamedTuple):
    """Training images with their labels, and their maps where the method needs them.

    A tuple, since Lightning converts the inputs of a network in mixed precision, and cannot do so
    with a frozen dataclass.
    """

    images: Tensor
    """uint8 (N, H, W, 3), RGB, augmented."""
    labels: Tensor
    """(N,): identities numbered from 0 in the order of their pids."""
    camids: Tensor
    """(N,): cameras as the manifest numbers them."""
    heatmaps: Tensor | None
    """(N, 8, h, w), moved with the images; None where no branch needs them."""
    confidence: Tensor | None = None
    """(N, 8) in [0, 1]: how sure the pose network is of each part; None without maps."""

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The batch with every tensor changed."""
        heatmaps = None if self.heatmaps is None else change(self.heatmaps)
        described = self.described(change)
        return described._replace(images=change(self.images), heatmaps=heatmaps)

    def described(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The batch with what is said of its images changed: labels, cameras, confidence."""
        confidence = None if self.confidence is None else change(self.confidence)
        described = self._replace(labels=change(self.labels), camids=change(self.camids))
        return described._replace(confidence=confidence)

    def pin_memory(self) -> Self:
        """Called by the loader, so that copies to a GPU run beside the computing."""
        return self.mapped(Tensor.pin_memory)


def blank_batch(height: int, width: int) -> Batch:
    """Four black images of two identities with flat maps: to see what a network makes of a batch.

    Args:
        height: of the images in pixels; the maps have a quarter of it.
        width: likewise.
    """
    cells = (height // 4, width // 4)
    return Batch(
        images=torch.zeros(4, height, width, 3, dtype=torch.uint8),
        labels=torch.tensor([0, 0, 1, 1]),
        camids=torch.tensor([0, 1, 0, 1]),
        heatmaps=torch.full((4, len(PARTS), *cells), 1 / (cells[0] * cells[1])),
        confidence=torch.ones(4, len(PARTS)),
    )


class Outputs(NamedTuple):
    """What a network says of a batch. All rows are images: (N, ...)."""

    features: dict[str, Tensor]
    """By name: what is trained, distilled or needed by a loss."""
    logits: dict[str, Tensor]
    """By name: identity logits (N, identities)."""

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The outputs with every tensor changed."""
        return type(self)(*({name: change(one) for name, one in part.items()} for part in self))
