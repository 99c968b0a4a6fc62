"""Settings of the pose stage."""

from typing import Literal

from pydantic import Field

from pgfl.settings import Settings

Estimator = Literal["hrnet_small", "hrnet_w32", "hrnet_w48"]


class PoseSettings(Settings):
    """Which HRNet sees which pixels, and how its 17 maps become 8."""

    estimator: Estimator = "hrnet_w48"
    checkpoint: str = ""
    """A weights file of your own (.pth or .safetensors); empty: the estimator's published file."""
    height: int = Field(384, ge=32, multiple_of=32)
    """Height in pixels that the person crop is resized to before HRNet."""
    width: int = Field(128, ge=32, multiple_of=32)
    batch_size: int = Field(32, ge=1)
    softmax_scale: float = Field(10.0, gt=0)
    """Multiplies the merged maps before the softmax over space."""
