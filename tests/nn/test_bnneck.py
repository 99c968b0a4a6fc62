import numpy as np
import pytest
import torch

from pgfl.nn.bnneck import BNNeck


def test_logits_are_the_classified_normalised_feature():
    torch.manual_seed(0)
    neck, feature = BNNeck(6, 3), 5 + 2 * torch.randn(16, 6)
    deviation = (feature.var(dim=0, unbiased=False) + neck.norm.eps).sqrt()
    normalised = (feature - feature.mean(dim=0)) / deviation
    torch.testing.assert_close(neck(feature), normalised @ neck.classifier.weight.T)


def test_gradients_are_those_of_the_formula():
    torch.manual_seed(0)
    neck, feature, weight = BNNeck(6, 3), 5 + 2 * torch.randn(8, 6), torch.randn(8, 3)
    ours, theirs = feature.clone().requires_grad_(), feature.double().requires_grad_()
    (weight * neck(ours)).sum().backward()
    columns = []
    for column in theirs.T:
        mean = sum(column) / 8
        deviation = torch.sqrt(sum((value - mean) ** 2 for value in column) / 8 + neck.norm.eps)
        columns.append((column - mean) / deviation)
    classifier = neck.classifier.weight.detach().double()
    for n, c in np.ndindex(8, 3):
        logit = sum(classifier[c, k] * columns[k][n] for k in range(6))
        (weight[n, c].double() * logit).backward(retain_graph=True)
    assert theirs.grad.abs().max() > 0
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_extreme_features_stay_finite(assert_finite, scale):
    torch.manual_seed(0)
    neck = BNNeck(6, 3)
    assert_finite(lambda feature: neck(feature).square().mean(), scale * torch.randn(8, 6))


def test_the_shift_is_not_learnt():
    neck = BNNeck(6, 3)
    neck(torch.randn(4, 6)).square().sum().backward()
    assert neck.norm.bias.grad is None and torch.equal(neck.norm.bias, torch.zeros(6))
    assert neck.norm.weight.grad is not None
    assert neck.classifier.weight.grad.abs().sum() > 0


def test_the_classifier_has_no_bias_and_starts_small():
    torch.manual_seed(0)
    classifier = BNNeck(512, 100).classifier
    assert classifier.bias is None
    assert 0.0009 < classifier.weight.std() < 0.0011
