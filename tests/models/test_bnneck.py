import torch

from pgfl.models.bnneck import BNNeck


def test_logits_are_the_classified_normalised_feature():
    torch.manual_seed(0)
    neck, feature = BNNeck(6, 3), 5 + 2 * torch.randn(16, 6)
    deviation = (feature.var(dim=0, unbiased=False) + neck.norm.eps).sqrt()
    normalised = (feature - feature.mean(dim=0)) / deviation
    torch.testing.assert_close(neck(feature), normalised @ neck.classifier.weight.T)


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
