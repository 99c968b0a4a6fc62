"""Backbones of the optional package timm (pytorch-image-models)."""

from types import ModuleType

from torch import Tensor, nn

from pgfl.errors import UserError
from pgfl.nn.settings import TIMM


class TimmBackbone(nn.Module):
    """A timm network up to its last feature map; `channels` is that map's depth."""

    def __init__(self, name: str, last_stride: int = 1, pretrained: bool = False):
        """Build a network.

        Args:
            name: `timm:NAME`.
            last_stride: 1 asks timm for a map of 1/16 of the input, 2 takes the network as it is.
            pretrained: with timm's own weights, which timm downloads.

        Raises:
            UserError: timm is missing, or cannot build such a network.
        """
        super().__init__()
        options = {"output_stride": 16} if last_stride == 1 else {}
        try:
            self.network = _timm(name).create_model(
                name.removeprefix(TIMM), pretrained=pretrained, features_only=True, **options
            )
        except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
            raise UserError(
                f"setting model.backbone: timm cannot build {name} with last_stride "
                f"{last_stride}: {' '.join(str(error).split())}"
            ) from None
        self.channels = self.network.feature_info.channels()[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, channels, h, w)."""
        return self.network(x)[-1]


def _timm(name: str) -> ModuleType:
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch: RuntimeError
        raise UserError(
            f"setting model.backbone: {name} needs the package timm and a torchvision built for "
            f"this torch (pip install -e '.[timm]' in the clone); importing it failed: {error}"
        ) from None
    return timm
