import pytest
import torch

from pgfl.errors import UserError
from pgfl.models.part_branch import PartBranch


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
