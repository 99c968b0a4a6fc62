import math

import numpy as np
import pytest
import safetensors.torch
import torch

from pgfl.errors import UserError
from pgfl.pose.estimators import ESTIMATORS, SMALL_WEIGHTS
from pgfl.pose.heatmaps import part_maps
from pgfl.pose.hrnet import PoseNetwork, load_estimator, ready
from pgfl.pose.keypoints import GROUPS, KEYPOINT_MIRROR


@pytest.fixture(scope="module")
def small():
    return load_estimator("hrnet_small", SMALL_WEIGHTS)


def maps_of(model, images):
    with torch.inference_mode():
        return model(torch.from_numpy(np.stack(images)))


def test_the_small_one_is_small():
    assert SMALL_WEIGHTS.stat().st_size < 4e6
    assert sum(p.numel() for p in PoseNetwork("hrnet_small").parameters()) < 3e6


def test_maps_are_a_quarter_of_the_input(small, people):
    assert maps_of(small, [people[0].image]).shape == (1, 17, 32, 16)


def test_it_finds_the_visible_joints_of_people_it_never_saw(small, people):
    maps = maps_of(small, [crop.image for crop in people])
    best = maps.flatten(2).argmax(dim=2)
    places = torch.stack([best % 16, best // 16], dim=2) * 4 + 1.5
    joints = torch.from_numpy(np.stack([crop.joints for crop in people]))
    seen = torch.from_numpy(np.stack([crop.visible for crop in people]))
    near = (places - joints).norm(dim=2) < 0.2 * 0.25 * 128
    assert near[seen].float().mean() > 0.85


def test_a_hidden_joint_has_a_lower_peak(small, people):
    peaks = maps_of(small, [crop.image for crop in people]).amax(dim=(2, 3))
    seen = torch.from_numpy(np.stack([crop.visible for crop in people]))
    assert peaks[seen].mean() > peaks[~seen].mean() + 0.3


def test_a_hidden_parts_map_is_flat_and_a_seen_ones_is_not(small, people):
    """On the drawings' truth: a part none of whose keypoints is seen guides nothing."""
    maps = part_maps(maps_of(small, [crop.image for crop in people]), scale=10.0).flatten(2)
    evenness = -(maps * maps.log()).sum(dim=2) / math.log(maps.shape[2])
    seen = torch.from_numpy(
        np.stack([[crop.visible[list(g)].any() for g in GROUPS.values()] for crop in people])
    )
    assert (~seen).sum() > 30
    assert evenness[~seen].median() > 0.98
    assert evenness[seen].median() < 0.5


def test_a_mirrored_person_has_mirrored_maps(small, people):
    images = [crop.image for crop in people[:8:2]]
    straight = maps_of(small, images)
    mirrored = maps_of(small, [np.ascontiguousarray(image[:, ::-1]) for image in images])
    back = mirrored.flip(3)[:, KEYPOINT_MIRROR, :, :]
    # The network is no exact mirror of itself, but left and right must not be confused.
    confused = (mirrored.flip(3) - straight).square().mean()
    assert (back - straight).square().mean() < 0.3 * confused


@pytest.mark.parametrize(("name", "millions"), [("hrnet_w32", 28.5), ("hrnet_w48", 63.6)])
def test_mmposes_own_architectures_are_built(name, millions):
    with torch.device("meta"):
        model = PoseNetwork(name)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.1)


def test_published_weights_have_an_address_and_a_checksum():
    published = [spec.weights for name, spec in ESTIMATORS.items() if name != "hrnet_small"]
    assert len(published) == 4
    for source in published:
        assert source.url.startswith("https://") and source.url.endswith(source.name)
        digest = source.checksum.removeprefix("sha256:")
        assert len(digest) == 8 and digest in source.name


def test_a_checkpoint_that_does_not_fit_is_refused_by_key(tmp_path):
    state = safetensors.torch.load_file(SMALL_WEIGHTS)
    state["extra.weight"] = torch.zeros(1)
    state["head.final_layer.bias"] = torch.zeros(3)
    del state["backbone.conv1.weight"]
    path = tmp_path / "odd.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(UserError) as caught:
        load_estimator("hrnet_small", path)
    message = str(caught.value)
    assert "missing: backbone.conv1.weight" in message
    assert "unexpected: extra.weight" in message
    assert "of another shape: head.final_layer.bias" in message


def test_a_network_made_ready_says_the_same(people):
    torch.manual_seed(0)
    network = PoseNetwork("hrnet_small")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
    network.eval()
    before = maps_of(network, [crop.image for crop in people[:2]])
    after = maps_of(ready(network), [crop.image for crop in people[:2]])
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * before.abs().max().item())
