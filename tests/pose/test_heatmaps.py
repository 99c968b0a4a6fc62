import math

import numpy as np
import pytest
import torch

from pgfl.pose.heatmaps import confidences, merge, spatial_softmax

MEMBERS = (
    *((0, 1, 2, 3, 4), (7, 9), (8, 10), (13,), (14,), (15,), (16,)),
    (5, 6, 11, 12),
)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 8, 4)])
def test_merging_sums_the_maps_of_a_group(shape):
    torch.manual_seed(0)
    count, height, width = shape
    raw = torch.randn(count, 17, height, width, dtype=torch.float64)
    merged = merge(raw)
    assert merged.shape == (count, 8, height, width)
    for n, part, y, x in np.ndindex(*merged.shape):
        expected = sum(raw[n, keypoint, y, x].item() for keypoint in MEMBERS[part])
        assert merged[n, part, y, x].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(1, 16, 4, 4), (1, 18, 4, 4), (17, 4, 4)])
def test_merging_needs_seventeen_maps(shape):
    with pytest.raises(ValueError, match="17"):
        merge(torch.zeros(shape))


@pytest.mark.parametrize("scale", [0.5, 1.0, 10.0])
def test_the_softmax_runs_over_the_positions_of_each_map(scale):
    torch.manual_seed(0)
    raw = torch.randn(2, 3, 4, 5)
    maps = spatial_softmax(raw, scale)
    assert maps.shape == raw.shape
    for n, k in np.ndindex(2, 3):
        powers = [math.exp(scale * value) for value in raw[n, k].flatten().tolist()]
        expected = torch.tensor(powers) / sum(powers)
        torch.testing.assert_close(maps[n, k].flatten(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_maps_sum_to_one(size, dtype):
    torch.manual_seed(0)
    maps = spatial_softmax((size * torch.randn(2, 8, 24, 8)).to(dtype), 10.0)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 8))


@pytest.mark.parametrize("level", [0.0, 0.03, 1e4])
def test_the_map_of_a_hidden_joint_is_flat_at_any_scale(level):
    maps = spatial_softmax(torch.full((1, 8, 6, 4), level), 10.0)
    torch.testing.assert_close(maps, torch.full((1, 8, 6, 4), 1 / 24))


def test_the_scale_sharpens_a_peak():
    raw = torch.zeros(1, 1, 24, 8)
    raw[0, 0, 5, 3] = 1
    flat, sharp = (spatial_softmax(raw, scale)[0, 0, 5, 3].item() for scale in (1.0, 10.0))
    assert flat == pytest.approx(math.e / (math.e + 191), rel=1e-5)
    assert sharp == pytest.approx(math.exp(10) / (math.exp(10) + 191), rel=1e-5)


def test_confidence_is_the_peak_of_each_raw_map():
    raw = -torch.ones(2, 17, 4, 3)
    raw[1, 16, 3, 2] = 0.75
    expected = -torch.ones(2, 17)
    expected[1, 16] = 0.75
    assert torch.equal(confidences(raw), expected)
