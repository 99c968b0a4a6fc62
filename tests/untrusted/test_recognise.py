import pytest
import torch

from pgfl.nn.resnet import build_resnet
from pgfl.untrusted.recognise import seems_to_be


@pytest.mark.parametrize(
    ("name", "said"), [("resnet18", "a ResNet-18"), ("resnet50", "a ResNet-50")]
)
@pytest.mark.parametrize("prefix", ["", "model.backbone."])
def test_resnets_are_told_by_their_blocks(name, said, prefix):
    with torch.device("meta"):
        state = {prefix + key: value for key, value in build_resnet(name).state_dict().items()}
    assert seems_to_be(state) == said
    head = {f"{prefix}fc.weight": torch.zeros(1000, 9)}
    assert seems_to_be(state | head) == f"{said} with a classifier of 1000 classes"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"model.conv2.0.conv2a.0.weight": torch.zeros(1)}, "an OSNet"),
        ({"patch_embed.proj.weight": torch.zeros(1)}, "a vision transformer"),
        (
            {"necks.global.classifier.weight": torch.zeros(1)},
            "the branches of a training run",
        ),
        (
            {"a": torch.zeros(1), "b": torch.zeros(1), "c": torch.zeros(1), "d": torch.zeros(1)},
            "a network with 4 tensors that is not known here (a, b, c …)",
        ),
        ({"final_layer.weight": torch.tensor(1.0)}, "a network with 1 tensors that is not known"),
    ],
)
def test_others_are_told_by_their_names(state, said):
    assert seems_to_be(state).startswith(said)
