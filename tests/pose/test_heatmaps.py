import math

import numpy as np
import pytest
import torch

from pgfl.pose.heatmaps import confidences, merge, part_maps, spatial_softmax

MEMBERS = (
    *((0, 1, 2, 3, 4), (7, 9), (8, 10), (13,), (14,), (15,), (16,)),
    (5, 6, 11, 12),
)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 8, 4)])
@pytest.mark.parametrize(("combine", "together"), [("sum", sum), ("max", max)])
def test_merging_sums_the_maps_of_a_group_or_takes_the_largest(shape, combine, together):
    torch.manual_seed(0)
    count, height, width = shape
    raw = torch.randn(count, 17, height, width, dtype=torch.float64)
    merged = merge(raw, combine)
    assert merged.shape == (count, 8, height, width)
    for n, part, y, x in np.ndindex(*merged.shape):
        expected = together(raw[n, keypoint, y, x].item() for keypoint in MEMBERS[part])
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


def softmax(values, scale):
    powers = [math.exp(scale * value) for value in values]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(("combine", "together"), [("sum", sum), ("max", max)])
@pytest.mark.parametrize("order", ["merge_first", "softmax_first"])
def test_part_maps_in_both_orders_as_by_hand(combine, together, order):
    torch.manual_seed(0)
    raw, scale = torch.randn(2, 17, 3, 4), 3.0
    maps = part_maps(raw, scale, combine, order)
    for n, part in np.ndindex(2, 8):
        members = [raw[n, keypoint].flatten().tolist() for keypoint in MEMBERS[part]]
        if order == "merge_first":
            expected = softmax([together(cell) for cell in zip(*members, strict=True)], scale)
        else:
            soft = [softmax(member, scale) for member in members]
            merged = [together(cell) for cell in zip(*soft, strict=True)]
            expected = [value / sum(merged) for value in merged]
        assert maps[n, part].flatten().tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("bad", [{"combine": "mean"}, {"order": "both"}])
def test_an_unknown_way_is_refused(bad):
    with pytest.raises(ValueError, match="known: "):
        part_maps(torch.zeros(1, 17, 2, 2), 1.0, **bad)


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
