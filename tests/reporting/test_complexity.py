import pytest
import torch
from torch import nn

from pgfl.config.recipe import Recipe
from pgfl.errors import UserError
from pgfl.nn.resnet import build_resnet
from pgfl.nn.settings import ModelSettings
from pgfl.pose.settings import PoseSettings
from pgfl.reporting.complexity import (
    Complexity,
    measure,
    measure_feature,
    measure_last_stage,
    measure_pose_network,
)

SMALL_POSE = PoseSettings(estimator="hrnet_small", height=64, width=32)
SMALL = Recipe(model=ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32))


@pytest.mark.parametrize(
    ("layer", "inputs", "macs", "parameters"),
    [
        # Each of 4x4 places and 5 channels sums 3 channels of 3x3.
        (nn.Conv2d(3, 5, 3, 2, 1, bias=False), (1, 3, 8, 8), 4 * 4 * 5 * 3 * 9, 5 * 3 * 9),
        (nn.Conv2d(4, 8, 1, groups=2, bias=False), (1, 4, 6, 2), 6 * 2 * 8 * 2, 8 * 2),
        (nn.Linear(7, 11, bias=False), (1, 7), 7 * 11, 7 * 11),
        # A shift is an addition, not a multiply-accumulate; batch norm is neither.
        (nn.Linear(7, 11), (1, 7), 7 * 11, 7 * 11 + 11),
        (nn.BatchNorm1d(6).eval(), (1, 6), 0, 12),
        (nn.AdaptiveAvgPool2d(2), (1, 3, 8, 8), 0, 0),
    ],
)
def test_layers_cost_what_one_counts_by_hand(layer, inputs, macs, parameters):
    assert measure(layer, torch.zeros(inputs)) == Complexity(macs, parameters)


def test_matrix_products_written_as_functions_count_too():
    class Attention(nn.Module):
        def forward(self, features, query):
            scores = torch.einsum("nc,ncp->np", query, features.flatten(2))
            pooled = torch.einsum("nchw,nhw->nc", features, scores.view(1, 3, 2))
            return pooled @ torch.zeros(5, 4)

    found = measure(Attention(), torch.zeros(1, 5, 3, 2), torch.zeros(1, 5))
    assert found == Complexity(6 * 5 + 6 * 5 + 5 * 4, 0)


def test_what_does_not_run_is_free_and_what_runs_twice_is_learnt_once():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.classifier = nn.Linear(3, 3, bias=False), nn.Linear(3, 100)

        def forward(self, x):
            return self.used(self.used(x))

    network = Network()
    assert measure(network, torch.zeros(1, 3)) == Complexity(18, 9)
    assert not any(module._forward_hooks for module in network.modules())


def test_resnet_50_at_the_papers_size():
    found = measure(build_resnet("resnet50").eval(), torch.zeros(1, 3, 384, 128))
    assert found.macs == pytest.approx(6.080e9, rel=1e-4)
    assert found.parameters == 23_508_032  # torchvision's 25,557,032 less its classifier
    stage = measure_last_stage(Recipe())
    assert stage.parameters == 14_964_736
    assert (found + stage).macs == pytest.approx(8.949e9, rel=1e-4)


def test_hrnet_w48_at_the_papers_size():
    found = measure_pose_network(PoseSettings(estimator="hrnet_w48", height=384, width=128))
    assert found.macs == pytest.approx(15.69e9, rel=1e-3)
    assert found.parameters == pytest.approx(63.6e6, rel=1e-3)


@pytest.mark.parametrize("last_stage", ["shared", "separate"])
def test_a_features_cost_is_the_students_and_what_its_branch_adds(last_stage):
    settings = SMALL.settings.model_copy(update={"second_layer4": last_stage})
    recipe = SMALL.model_copy(update={"settings": settings})
    h, w, c, parts = 4, 2, 512, 8
    found = {
        feature: measure_feature(recipe, feature, SMALL_POSE)
        for feature in ("global", "part", "fused", "foreground", "enhanced")
    }
    student, norm = found["global"], 2 * c
    stage = measure_last_stage(recipe) if last_stage == "separate" else Complexity(0, 0)
    pooling = parts * h * w * c  # Eq. 1
    attention = 2 * h * w * c  # Eq. 2 and Eq. 3
    reductions = parts * c * (c // parts)
    part_parameters = reductions + 2 * c  # of c / parts channels each, normalised
    assert found["part"].macs == student.macs + pooling + reductions
    assert found["foreground"].macs == student.macs + pooling + attention
    # What f_G is a part of needs both last stages, where there are two.
    assert found["fused"].macs == found["part"].macs + stage.macs
    assert found["enhanced"].macs == found["foreground"].macs + stage.macs
    assert found["enhanced"].parameters == student.parameters + stage.parameters
    # f_P and f_F have no BNNeck, and f_G's own is not used for them.
    assert found["part"].parameters == student.parameters - norm + part_parameters
    assert found["fused"].parameters == (student + stage).parameters + part_parameters
    assert found["foreground"].parameters == student.parameters - norm


def test_a_network_without_the_branch_has_no_such_cost():
    whole = SMALL.model_dump()
    settings = {"reid_on": ("global", "enhanced"), "lambda_mcl": 0}
    with pytest.raises(UserError, match="trained without the body-part branch"):
        measure_feature(Recipe.parse(whole | {"settings": settings}), "part", SMALL_POSE)
    bot = Recipe.parse(whole | {"method": "bot", "settings": {}})
    with pytest.raises(UserError, match="bot has no feature 'part'; known: global"):
        measure_feature(bot, "part", SMALL_POSE)
