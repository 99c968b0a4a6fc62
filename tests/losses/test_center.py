import pytest
import torch

from pgfl.losses.center import Extra, center_loss
from pgfl.nn.batch import Batch, Outputs


def naive(features, centers):
    """One image at a time."""
    total = 0.0
    for feature, center in zip(features, centers, strict=True):
        total = total + sum((feature - center) ** 2) / 2
    return total / len(features)


@pytest.mark.parametrize("shape", [(1, 3), (4, 16), (6, 5)])
def test_is_half_the_squared_distance_to_each_images_centre(assert_agrees, shape):
    torch.manual_seed(shape[1])
    assert_agrees(center_loss, naive, torch.randn(shape), torch.randn(shape))


def test_the_value_worked_by_hand():
    features, centers = torch.tensor([[0.0, 3.0], [1.0, 1.0]]), torch.tensor([[4.0, 0.0], [1, 1]])
    assert center_loss(features, centers) == (25 / 2 + 0) / 2


def test_features_at_their_centres_cost_nothing(assert_finite):
    features = torch.randn(4, 8)
    assert center_loss(features, features) == 0
    assert_finite(center_loss, features, features)


def test_is_computed_in_float32(assert_float32_under_autocast):
    torch.manual_seed(0)
    assert_float32_under_autocast(center_loss, torch.randn(4, 64), torch.randn(4, 64))


def test_a_centre_for_each_feature_is_needed():
    with pytest.raises(ValueError, match="one centre for each feature"):
        center_loss(torch.randn(4, 3), torch.randn(2, 3))


def test_every_feature_with_logits_has_centres_of_its_own():
    torch.manual_seed(0)
    extra = Extra(5, {"global": 4, "part": 3})
    features = {"global": torch.randn(6, 4), "part": torch.randn(6, 3), "other": torch.randn(6, 2)}
    labels = torch.tensor([0, 0, 4, 4, 2, 2])
    batch = Batch(torch.zeros(6, 8, 8, 3), labels, labels, None)
    value = extra(Outputs(features, {}), batch)
    terms = [naive(features[name], extra.centers[name].weight[labels]) for name in extra.centers]
    assert value.item() == pytest.approx(sum(terms).item() / 2)
    value.backward()
    for name, centers in extra.centers.items():
        moved = centers.weight.grad.abs().sum(dim=1) > 0
        assert moved.tolist() == [True, False, True, False, True], name
