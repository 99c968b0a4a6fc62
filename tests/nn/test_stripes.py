import pytest
import torch

from pgfl.nn.stripes import stripe_means


@pytest.mark.parametrize(("height", "stripes"), [(24, 6), (16, 3), (4, 8), (5, 1)])
def test_it_is_adaptive_average_pooling(height, stripes):
    feature_map = torch.randn(2, 7, height, 3)
    expected = torch.nn.functional.adaptive_avg_pool2d(feature_map, (stripes, 1))[..., 0]
    torch.testing.assert_close(stripe_means(feature_map, stripes), expected.transpose(1, 2))


def test_half_precision_costs_nothing_but_the_rounding_of_the_map():
    feature_map = torch.randn(2, 7, 6, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = stripe_means(feature_map, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, stripe_means(feature_map.float(), 3))


def test_a_feature_of_a_stripe_reaches_its_rows_only():
    feature_map = torch.randn(1, 1, 6, 2, requires_grad=True)
    stripe_means(feature_map, 3)[0, 1, 0].backward()
    rows = feature_map.grad[0, 0]
    assert torch.equal(rows, torch.tensor([0, 0, 0.25, 0.25, 0, 0])[:, None].expand(6, 2))
