import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from pgfl.config.recipe import Recipe
from pgfl.errors import UserError
from pgfl.methods.pgfl_kd.settings import Settings
from pgfl.networks.build import build_network
from pgfl.networks.saved import load_student, save_student
from pgfl.nn.batch import Batch
from pgfl.nn.settings import ModelSettings


class Features(nn.Module):
    """Two feature maps, as timm's `features_only` networks give."""

    def __init__(self, stride):
        super().__init__()
        self.feature_info = SimpleNamespace(channels=lambda: [8, 16])
        self.first, self.second = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 16, stride, stride)

    def forward(self, x):
        first = self.first(x)
        return [first, self.second(first)]


@pytest.fixture
def timm(monkeypatch):
    """A stand-in for the package, and the calls it got."""
    calls = []

    def create_model(name, pretrained=False, features_only=False, output_stride=32):
        calls.append((name, pretrained, features_only, output_stride))
        if name == "vit":
            raise TypeError("no argument 'output_stride'")
        return Features(output_stride // 4)

    module = ModuleType("timm")
    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return calls


def settings(**changes):
    of_tests = {"backbone": "timm:tiny", "height": 64, "width": 32}
    return ModelSettings(**of_tests | changes)


def recipe(**changes):
    return Recipe(model=settings(**changes), settings=Settings(second_layer4="shared"))


@pytest.mark.parametrize(("last_stride", "size"), [(1, (4, 2)), (2, (2, 1))])
def test_a_timm_network_is_a_backbone(timm, last_stride, size):
    model = build_network(recipe(last_stride=last_stride), identities=3)
    assert timm == [("tiny", False, True, 16 * last_stride)]
    images = torch.zeros(2, 64, 32, 3, dtype=torch.uint8)
    assert model.student.feature_map(images).shape == (2, 16, *size)
    nobody = torch.zeros(2, dtype=torch.int64)
    features, logits = model(Batch(images, nobody, nobody, torch.full((2, 8, 4, 2), 1 / 8)))
    assert features["enhanced"].shape == (2, 16) and logits["fused"].shape == (2, 3)


def test_a_student_with_a_timm_backbone_is_saved_and_loaded(timm, tmp_path):
    torch.manual_seed(0)
    model = build_network(recipe(), identities=3)
    path = tmp_path / "model.safetensors"
    save_student(model.student, recipe(), path)
    student, found = load_student(path)
    assert found == settings()
    images = torch.randint(0, 256, (2, 64, 32, 3), dtype=torch.uint8)
    assert torch.equal(student(images), model.student.eval()(images))
    assert not any(pretrained for _, pretrained, *_ in timm)


def test_a_network_that_timm_cannot_build_is_one_line(timm):
    with pytest.raises(UserError, match="timm:vit with last_stride 1: no argument") as caught:
        build_network(recipe(backbone="timm:vit"), identities=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ImportError("No module named 'timm'"), RuntimeError("nms")])
def test_a_missing_timm_is_one_line(monkeypatch, error):
    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name == "timm":
                raise error

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])
    with pytest.raises(UserError, match=r"pip install -e '.\[timm\]'") as caught:
        build_network(recipe(), identities=3)
    assert "\n" not in str(caught.value)
