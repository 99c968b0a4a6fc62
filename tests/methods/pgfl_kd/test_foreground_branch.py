import pytest
import torch

from pgfl.methods.pgfl_kd.foreground_branch import attend, foreground_attention


def naive(features, query, similarity, temperature):
    """Eq. 2 and Eq. 3 over positions; returns the attention and the attended feature."""
    height, width = features.shape[2:]
    positions = [(y, x) for y in range(height) for x in range(width)]
    attentions, attended = [], []
    for image, asked in zip(features, query, strict=True):
        there = {place: image[:, place[0], place[1]] for place in positions}
        mean = sum(there.values()) / len(there)
        scores = []
        for place in positions:
            if similarity == "dot":
                score = sum(there[place] * asked)
            else:
                origin = mean if similarity == "centred" else 0 * mean
                one, other = there[place] - origin, asked - origin
                lengths = torch.sqrt(sum(one**2)) * torch.sqrt(sum(other**2))
                score = sum(one * other) / lengths / temperature
            scores.append(torch.exp(score))
        weights = [score / sum(scores) for score in scores]
        attentions.append(torch.stack(weights).view(height, width))
        attended.append(sum(w * there[place] for w, place in zip(weights, positions, strict=True)))
    return torch.stack(attentions), torch.stack(attended)


SIMILARITIES = [("cosine", 0.1), ("cosine", 1), ("dot", 1), ("centred", 0.3)]


@pytest.mark.parametrize(("similarity", "temperature"), SIMILARITIES)
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (3, 16, 6, 2)])
def test_is_equations_2_and_3(assert_agrees, shape, similarity, temperature):
    torch.manual_seed(shape[1])
    weight = torch.randn(shape[0], *shape[2:]), torch.randn(shape[:2])

    def weighted(attention, attended):
        parts = zip(weight, (attention, attended), strict=True)
        return sum((there.to(found) * found).sum() for there, found in parts)

    def ours(features, query):
        attention = foreground_attention(features, query, similarity, temperature)
        return weighted(attention, attend(features, attention))

    features, query = torch.randn(shape), torch.randn(shape[:2])
    expected = naive(features.double(), query.double(), similarity, temperature)
    attention = foreground_attention(features, query, similarity, temperature)
    torch.testing.assert_close(attention.double(), expected[0], rtol=1e-4, atol=1e-7)
    found = attend(features, attention)
    torch.testing.assert_close(found.double(), expected[1], rtol=1e-4, atol=1e-5)
    assert_agrees(
        ours,
        lambda features, query: weighted(*naive(features, query, similarity, temperature)),
        features,
        query,
    )


@pytest.mark.parametrize(("similarity", "temperature"), SIMILARITIES)
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e4])
def test_extreme_features_stay_finite(assert_finite, similarity, temperature, scale):
    torch.manual_seed(0)

    def loss(features, query):
        attention = foreground_attention(features, query, similarity, temperature)
        return attend(features, attention).square().mean()

    assert_finite(loss, scale * torch.randn(2, 8, 4, 3), scale * torch.randn(2, 8))


def test_a_single_position_gets_all_attention():
    attention = foreground_attention(torch.randn(2, 3, 1, 1), torch.randn(2, 3), "centred", 0.2)
    assert torch.equal(attention, torch.ones(2, 1, 1))


@pytest.mark.parametrize("similarity", ["cosine", "dot", "centred", "uniform"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_attention_sums_to_one(similarity, scale):
    torch.manual_seed(0)
    features = scale * torch.randn(2, 8, 4, 3)
    attention = foreground_attention(features, scale * torch.randn(2, 8), similarity, 0.1)
    torch.testing.assert_close(attention.sum(dim=(1, 2)), torch.ones(2))


def test_centred_attention_does_not_see_what_all_positions_have_in_common():
    torch.manual_seed(0)
    features, query = torch.randn(2, 8, 4, 3), torch.randn(2, 8)
    common = 10 * torch.randn(2, 8)
    moved = features + common[:, :, None, None]
    alone = foreground_attention(features, query, "centred", 0.1)
    together = foreground_attention(moved, query + common, "centred", 0.1)
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-5)
    plain = foreground_attention(moved, query + common, "cosine", 0.1)
    assert (plain.amax(dim=(1, 2)) < alone.amax(dim=(1, 2)) / 2).all()


@pytest.mark.parametrize("similarity", ["cosine", "dot", "centred"])
def test_a_position_without_features_has_finite_gradients(similarity):
    torch.manual_seed(0)
    features = torch.randn(2, 8, 4, 3)
    features[:, :, 1, 1] = 0
    features.requires_grad_()
    query = features.mean(dim=(2, 3))
    attention = foreground_attention(features, query, similarity, 0.1)
    attend(features, attention).square().sum().backward()
    assert features.grad.isfinite().all() and features.grad.abs().sum() > 0


@pytest.mark.parametrize("noise", [0, 1e-7, 1e-4])
def test_centred_attention_looks_nowhere_when_the_pose_says_nothing(noise):
    """Flat maps, as of a person all hidden, pool the mean feature but for rounding."""
    torch.manual_seed(0)
    features = torch.randn(4, 32, 4, 3)

    def gradient(query):
        moved = features.clone().requires_grad_()
        attention = foreground_attention(moved, query(moved), "centred", 0.2)
        attend(moved, attention)[:, 0].sum().backward()
        return attention, moved.grad.norm()

    usual, usual_gradient = gradient(lambda moved: moved[:, :, :2].mean(dim=(2, 3)))
    flat, flat_gradient = gradient(lambda moved: moved.mean(dim=(2, 3)) + noise)
    assert usual.max() > 0.3
    torch.testing.assert_close(flat, torch.full_like(flat, 1 / 12), rtol=0.05, atol=0)
    assert flat_gradient < 30 * usual_gradient


def test_uniform_attention_is_the_mean():
    torch.manual_seed(0)
    features = torch.randn(2, 8, 4, 3)
    attention = foreground_attention(features, torch.randn(2, 8), "uniform")
    torch.testing.assert_close(attention, torch.full((2, 4, 3), 1 / 12))
    torch.testing.assert_close(attend(features, attention), features.mean(dim=(2, 3)))


def test_cosine_attention_looks_at_the_position_like_the_query():
    features = torch.randn(1, 32, 4, 3)
    attention = foreground_attention(features, 0.01 * features[:, :, 2, 1], "cosine", 0.1)
    assert attention[0, 2, 1] == attention.max() and attention.max() > 0.5


@pytest.mark.parametrize("similarity", ["cosine", "dot", "centred"])
def test_nothing_is_rounded_by_autocast(similarity):
    torch.manual_seed(0)
    features, query = torch.randn(2, 8, 4, 3), torch.randn(2, 8)
    expected = foreground_attention(features, query, similarity, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        attention = foreground_attention(features, query, similarity, 0.1)
        attended = attend(features, attention)
    assert torch.equal(attention, expected) and torch.equal(attended, attend(features, expected))


def test_a_similarity_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'centered'"):
        foreground_attention(torch.rand(1, 4, 2, 2), torch.rand(1, 4), "centered")
