import pytest
import torch

from pgfl.nn.settings import ModelSettings


@pytest.fixture
def small():
    """The smallest network that the settings allow to be useful."""
    return ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32)


@pytest.fixture
def images():
    """Four random crops, uint8 (4, 64, 32, 3)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (4, 64, 32, 3), generator=generator).byte()


@pytest.fixture
def heatmaps():
    """Random maps of twice the feature map's size, each summing to one."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 8, 8, 4, generator=generator).flatten(2).softmax(dim=2).view(4, 8, 8, 4)
