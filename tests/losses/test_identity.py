import math

import pytest
import torch

from pgfl.losses.identity import identity_loss


def naive(logits, labels, smoothing):
    """The definition, sample by sample and class by class."""
    total = 0.0
    count, classes = logits.shape
    for row in range(count):
        partition = sum(torch.exp(logits[row, c]) for c in range(classes))
        for c in range(classes):
            target = smoothing / classes + (1 - smoothing) * (c == int(labels[row]))
            total = total - target * torch.log(torch.exp(logits[row, c]) / partition)
    return total / count


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("count", "classes"), [(1, 2), (4, 3), (7, 11)])
def test_is_the_smoothed_cross_entropy(assert_agrees, count, classes, smoothing):
    torch.manual_seed(count)
    labels = torch.randint(classes, (count,))
    assert_agrees(
        lambda logits: identity_loss(logits, labels, smoothing),
        lambda logits: naive(logits, labels, smoothing),
        3 * torch.randn(count, classes),
    )


def test_equal_logits_cost_the_logarithm_of_the_classes():
    value = identity_loss(torch.zeros(3, 5), torch.tensor([0, 1, 4]))
    assert value.item() == pytest.approx(math.log(5), rel=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_logits_stay_finite(assert_finite, scale):
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 0])
    assert_finite(lambda logits: identity_loss(logits, labels), scale * torch.randn(4, 3))


def test_is_computed_in_float32(assert_float32_under_autocast):
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 0])
    assert_float32_under_autocast(
        lambda logits: identity_loss(logits, labels), 4 * torch.randn(4, 3)
    )
