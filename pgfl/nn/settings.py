"""The settings of the backbone and its input, which all methods share."""

import re
from typing import Literal

from pydantic import Field, field_validator

from pgfl.runtime.messages import shown
from pgfl.runtime.settings import Settings

RESNETS = ("resnet18", "resnet50")
TIMM = "timm:"
BACKBONE = rf"^({'|'.join(RESNETS)}|{TIMM}[A-Za-z0-9_.-]{{1,100}})$"


class ModelSettings(Settings):
    """The network."""

    backbone: str = Field("resnet50", json_schema_extra={"pattern": BACKBONE})
    """`resnet18`, `resnet50`, or `timm:NAME` for a network of the optional package timm."""
    pretrained: bool = True
    """Start from ImageNet weights: torchvision's (a file or download, checked), or timm's own."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last stage; 1 gives the paper's 24x8 map at 384x128."""
    height: int = Field(384, ge=32, le=4096, multiple_of=16)
    """Input height in pixels."""
    width: int = Field(128, ge=16, le=4096, multiple_of=16)
    """Input width in pixels."""

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str) -> str:
        if not re.fullmatch(BACKBONE, name):
            allowed = f"one of {', '.join(RESNETS)}, or {TIMM} and a network's name in timm"
            raise ValueError(f"must be {allowed} (got {shown(name)})")
        return name

    @property
    def weights_file(self) -> bool:
        """Whether training starts from a file of ImageNet weights; timm brings its own."""
        return self.pretrained and self.backbone in RESNETS
