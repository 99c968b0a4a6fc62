import pytest
import torch

from pgfl.errors import UserError
from pgfl.methods.pgfl_kd.part_branch import PartBranch


def test_each_part_gets_its_own_group_of_channels():
    torch.manual_seed(0)
    branch, parts = PartBranch(12, 4), torch.randn(16, 4, 12)
    found = branch(parts)
    assert found.shape == (16, 12) and found.dtype == torch.float32
    for k, (linear, norm, _) in enumerate(branch.reductions):
        assert linear.weight.shape == (3, 12) and linear.bias is None
        reduced = parts[:, k] @ linear.weight.T
        deviation = (reduced.var(dim=0, unbiased=False) + norm.eps).sqrt()
        expected = ((reduced - reduced.mean(dim=0)) / deviation).clamp_min(0)
        torch.testing.assert_close(found[:, 3 * k : 3 * k + 3], expected, rtol=1e-4, atol=1e-5)


def test_a_group_depends_on_its_part_alone():
    torch.manual_seed(0)
    branch, parts = PartBranch(16, 8).eval(), torch.randn(2, 8, 16)
    changed = parts.clone()
    changed[:, 5] = -changed[:, 5]
    differs = (branch(parts) != branch(changed)).any(dim=0).view(8, 2).any(dim=1)
    assert differs.tolist() == [part == 5 for part in range(8)]


@pytest.mark.parametrize("scale", ["as_is", "unit"])
def test_at_unit_scale_the_length_of_a_part_feature_does_not_matter(scale):
    torch.manual_seed(0)
    branch, parts = PartBranch(16, 8, scale), torch.randn(32, 8, 16)
    longer = parts.clone()
    longer[3] *= 30
    expected, found = branch(parts), branch(longer)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4) == (scale == "unit")


def test_unit_scale_is_a_root_mean_square_of_one():
    torch.manual_seed(0)
    as_is, unit = PartBranch(16, 8), PartBranch(16, 8, "unit")
    unit.load_state_dict(as_is.state_dict())
    parts = 5 * torch.randn(32, 8, 16)
    expected = as_is(parts / parts.square().mean(dim=2, keepdim=True).sqrt())
    torch.testing.assert_close(unit(parts), expected)


@pytest.mark.parametrize("scale", ["as_is", "unit"])
def test_gradients_are_those_of_the_formula(assert_agrees, scale):
    torch.manual_seed(0)
    branch, weight = PartBranch(12, 4, scale), torch.randn(6, 12)

    def naive(parts):
        total = 0
        for k, (linear, norm, _) in enumerate(branch.reductions):
            rows = [part / torch.sqrt((part**2).mean()) for part in parts[:, k]]
            rows = torch.stack(rows) if scale == "unit" else parts[:, k]
            for c, row in enumerate(linear.weight.detach().double()):
                reduced = [sum(row * part) for part in rows]
                mean = sum(reduced) / 6
                deviation = torch.sqrt(sum((r - mean) ** 2 for r in reduced) / 6 + norm.eps)
                for n, value in enumerate(reduced):
                    shrunk = torch.relu((value - mean) / deviation)
                    total = total + weight[n, 3 * k + c].double() * shrunk
        return total

    assert_agrees(lambda parts: (weight * branch(parts)).sum(), naive, 3 * torch.randn(6, 4, 12))


@pytest.mark.parametrize("scale", ["as_is", "unit"])
@pytest.mark.parametrize("size", [0.0, 1e-6, 1e6])
def test_extreme_part_features_stay_finite(assert_finite, scale, size):
    torch.manual_seed(0)
    branch = PartBranch(12, 4, scale)
    assert_finite(lambda parts: branch(parts).square().mean(), size * torch.randn(6, 4, 12))


def test_is_computed_in_float32():
    torch.manual_seed(0)
    branch, parts = PartBranch(16, 8).eval(), torch.randn(2, 8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = branch(parts)
    assert torch.equal(found, branch(parts))


def test_channels_that_cannot_be_dealt_evenly_are_an_error():
    with pytest.raises(
        UserError,
        match=r"model\.backbone: its 100 channels cannot be split evenly into the 8 groups",
    ):
        PartBranch(100, 8)
