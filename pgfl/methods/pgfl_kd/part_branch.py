"""The body-part semantics-aligned branch, SAB (Section 3.3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pgfl.errors import UserError


class PartBranch(nn.Module):
    """Shrinks every part feature to its own group of channels: f_P = [f_{p,1}, ..., f_{p,K}].

    f_{p,k} = ReLU(BN(W_k f_{l,k})), W_k of size c/K x c.
    """

    def __init__(self, channels: int, parts: int, scale: str = "as_is"):
        """Make K reductions of `channels` to `channels / parts`.

        Args:
            channels: c.
            parts: K.
            scale: `unit` brings every f_{l,k} to a root mean square of one first.

        Raises:
            UserError: the channels cannot be dealt evenly.
        """
        super().__init__()
        self.scale = scale
        if channels % parts:
            raise UserError(
                f"setting model.backbone: its {channels} channels cannot be split evenly into the "
                f"{parts} groups of Eq. 5; take a network whose channels are a multiple of {parts}"
            )
        self.reductions = nn.ModuleList(
            nn.Sequential(
                nn.Linear(channels, channels // parts, bias=False),
                nn.BatchNorm1d(channels // parts),
                nn.ReLU(),
            )
            for _ in range(parts)
        )

    def forward(self, part_features: Tensor) -> Tensor:
        """f_{l,k} (N, K, c) to f_P (N, c), float32."""
        with torch.autocast(part_features.device.type, enabled=False):
            parts = part_features.float()
            if self.scale == "unit":
                parts = functional.rms_norm(parts, parts.shape[2:])
            groups = [reduce(parts[:, part]) for part, reduce in enumerate(self.reductions)]
        return torch.cat(groups, dim=1)
