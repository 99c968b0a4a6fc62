import pytest
import torch

from pgfl.losses.triplet import batch_hard_triplet_loss, pairwise_distances


def naive(features, pids, margin):
    """Every anchor's farthest positive and nearest negative, one pair at a time."""
    total = 0.0
    for anchor in range(len(pids)):
        positives, negatives = [], []
        for other in range(len(pids)):
            if other == anchor:
                continue
            distance = torch.sqrt(sum((features[anchor] - features[other]) ** 2))
            (positives if pids[other] == pids[anchor] else negatives).append(distance)
        total = total + torch.clamp(max(positives) - min(negatives) + margin, min=0)
    return total / len(pids)


@pytest.mark.parametrize("margin", [0.0, 0.3, 5.0])
@pytest.mark.parametrize(
    ("pids", "channels"),
    [([0, 0, 1, 1], 2), ([3, 9, 3, 9, 3], 5), ([0, 0, 0, 1, 1, 2, 2, 2], 16)],
)
def test_mines_the_hardest_pair_of_each_anchor(assert_agrees, pids, channels, margin):
    torch.manual_seed(len(pids) + channels)
    labels = torch.tensor(pids)
    assert_agrees(
        lambda features: batch_hard_triplet_loss(features, labels, margin),
        lambda features: naive(features, pids, margin),
        torch.randn(len(pids), channels),
    )


def test_well_separated_identities_cost_nothing():
    features = torch.tensor([[0.0, 0.0], [0.1, 0.0], [9.0, 0.0], [9.1, 0.0]])
    assert batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1])) == 0


def test_the_value_worked_by_hand():
    features = torch.tensor([[0.0], [3.0], [4.0], [6.0]])
    # Anchor by anchor: 3 - 4, 3 - 1, 2 - 1, 2 - 3, each plus 0.3 and not below zero.
    expected = (0 + 2.3 + 1.3 + 0) / 4
    value = batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.3)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_features_stay_finite(assert_finite, scale):
    torch.manual_seed(0)
    pids = torch.tensor([0, 0, 1, 1])
    assert_finite(
        lambda features: batch_hard_triplet_loss(features, pids), scale * torch.randn(4, 64)
    )


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_equal_features_cost_the_margin_and_have_gradients(assert_finite, scale):
    pids = torch.tensor([0, 0, 1, 1])
    value = batch_hard_triplet_loss(scale * torch.ones(4, 8), pids, margin=0.3)
    assert value.item() == pytest.approx(0.3, abs=1e-5)
    torch.manual_seed(0)
    same = scale * torch.randn(1, 64).expand(4, 64)
    assert_finite(lambda features: batch_hard_triplet_loss(features, pids), same)


def test_is_computed_in_float32(assert_float32_under_autocast):
    torch.manual_seed(0)
    pids = torch.tensor([0, 0, 1, 1])
    assert_float32_under_autocast(
        lambda features: batch_hard_triplet_loss(features, pids), torch.randn(4, 64)
    )


@pytest.mark.parametrize("pids", [[0, 0, 0, 0], [0, 0, 1, 1, 2], [0, 1, 2]])
def test_an_anchor_without_a_positive_or_a_negative_is_an_error(pids):
    with pytest.raises(ValueError, match="two images of each of two identities"):
        batch_hard_triplet_loss(torch.randn(len(pids), 3), torch.tensor(pids))


def test_pairwise_distances_are_euclidean():
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    expected = torch.tensor([[0.0, 5.0, 1.0], [5.0, 0.0, 18**0.5], [1.0, 18**0.5, 0.0]])
    torch.testing.assert_close(pairwise_distances(features), expected, rtol=1e-5, atol=1e-5)
