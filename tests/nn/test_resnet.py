import pytest
import torch
from torch.nn import functional

from pgfl.nn.resnet import build_resnet

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
CONVOLUTIONS = {"resnet18": 2, "resnet50": 3}


def feature_size(height, width, last_stride):
    """What the map's size must be: the input's over the total stride, rounded up."""
    stride = 16 * last_stride
    return -(-height // stride), -(-width // stride)


def torchvision_keys(name):
    """The key names of torchvision's file, less the classifier."""
    keys = {"conv1.weight", *norm_keys("bn1")}
    for stage, depth in enumerate(DEPTHS[name], start=1):
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            for i in range(1, CONVOLUTIONS[name] + 1):
                keys |= {f"{prefix}.conv{i}.weight", *norm_keys(f"{prefix}.bn{i}")}
            if block == 0 and (stage > 1 or name == "resnet50"):
                keys |= {f"{prefix}.downsample.0.weight", *norm_keys(f"{prefix}.downsample.1")}
    return keys


def norm_keys(prefix):
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{prefix}.{name}" for name in names}


def reference(state, x, name, last_stride):
    """The network written with functions over a state dict; the stride is on the 3x3 kernel."""

    def conv_norm(x, conv, norm, stride=1):
        weight = state[f"{conv}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        values = (state[f"{norm}.{v}"] for v in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *values)

    x = functional.max_pool2d(conv_norm(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage, depth in enumerate(DEPTHS[name], start=1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            stride = {1: 1, 4: last_stride}.get(stage, 2) if block == 0 else 1
            shortcut = x
            if f"{at}.downsample.0.weight" in state:
                shortcut = conv_norm(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
            strides = {"resnet18": (stride, 1), "resnet50": (1, stride, 1)}[name]
            for i, step in enumerate(strides, start=1):
                x = conv_norm(x, f"{at}.conv{i}", f"{at}.bn{i}", step)
                x = x.relu() if i < len(strides) else (x + shortcut).relu()
    return x


@pytest.mark.parametrize("name", DEPTHS)
def test_keys_are_torchvisions(name):
    assert build_resnet(name).state_dict().keys() == torchvision_keys(name)


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_176_512), ("resnet50", 23_508_032)])
def test_parameter_counts_are_torchvisions(name, count):
    assert sum(parameter.numel() for parameter in build_resnet(name).parameters()) == count


@pytest.mark.parametrize("last_stride", [1, 2])
@pytest.mark.parametrize("name", DEPTHS)
def test_computes_what_torchvision_computes(name, last_stride):
    torch.manual_seed(0)
    model = build_resnet(name, last_stride).eval()
    for key, value in model.state_dict().items():
        if "bn" in key or "downsample.1" in key:
            value.copy_(value + 0.1 * torch.rand_like(value.float()))
    x = torch.randn(1, 3, 64, 32)
    with torch.inference_mode():
        expected = reference(model.state_dict(), x, name, last_stride)
        torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-3)


def test_the_papers_input_gives_the_papers_map():
    with torch.inference_mode():
        size = build_resnet("resnet50").eval()(torch.zeros(1, 3, 384, 128)).shape
    assert size == (1, 2048, 24, 8) and feature_size(384, 128, 1) == (24, 8)


@pytest.mark.parametrize("last_stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(64, 32), (48, 16), (80, 48)])
def test_feature_size_is_the_size_of_the_map(height, width, last_stride):
    model = build_resnet("resnet18", last_stride).eval()
    with torch.inference_mode():
        size = model(torch.zeros(1, 3, height, width)).shape
    assert size == (1, model.channels, *feature_size(height, width, last_stride))


def test_an_unknown_backbone_is_an_error():
    with pytest.raises(ValueError, match="no backbone 'vgg16'"):
        build_resnet("vgg16")
