"""Settings of the pose stage."""

from typing import Literal

from pydantic import Field

from pgfl.runtime.settings import FilePath, Settings

Estimator = Literal[
    "hrnet_small", "hrnet_w32", "hrnet_w48", "hrnet_w32_256x192", "hrnet_w48_256x192"
]
EXTERNAL = "external"
"""The heatmap files are another program's, and the workflow only checks them."""
View = Literal["crop", "topdown"]


class PoseSettings(Settings):
    """Which HRNet sees which pixels, and how its 17 maps become 8."""

    estimator: Literal[Estimator, "external"] = "hrnet_w48"
    """`external`: the heatmaps are another program's files (docs/heatmaps.md); none is made."""
    checkpoint: FilePath = ""
    """A weights file of your own (.pth or .safetensors); empty: the estimator's published file."""
    view: View = "crop"
    """`crop` resizes the person crop to height x width, which is what HRNet then sees; `topdown`
    is MMPose's way (padded by a quarter, aspect kept, warped to the estimator's own input size),
    after which the maps are warped back to the crop."""
    height: int = Field(384, ge=32, le=4096, multiple_of=32)
    """Four times the height of the maps in cells; with `crop` also HRNet's input in pixels."""
    width: int = Field(128, ge=32, le=4096, multiple_of=32)
    flip_test: bool = False
    """Average the maps of a crop and of its mirror image; twice the work."""
    combine: Literal["sum", "max"] = "sum"
    """How the maps of a group's keypoints become one."""
    order: Literal["merge_first", "softmax_first"] = "merge_first"
    """Softmax over the merged maps, or merge the softmaxes of all 17 (and normalise again)."""
    softmax_scale: float = Field(10.0, gt=0)
    """Multiplies the maps before the softmax over space."""
    precision: Literal["auto", "fp32", "half"] = "auto"
    """`half` is fp16 on a GPU and bf16 on a CPU; `auto` is half on a GPU, else fp32."""
    batch_size: int = Field(16, ge=1)
    unusable: Literal["stop", "flat"] = "stop"
    """A photograph that does not decode or is one pixel wide: stop and name it, or name it and go
    on with flat maps, which guide nothing."""
