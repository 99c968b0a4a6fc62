import numpy as np
import pytest
import torch

from pgfl.models.foreground_branch import attend, foreground_attention


def naive(features, query, similarity, temperature):
    """Eq. 2 and Eq. 3 over positions; returns the attention and the attended feature."""
    images, channels, height, width = features.shape
    attention = np.zeros((images, height, width))
    attended = np.zeros((images, channels))
    for n in range(images):
        origin = features[n].mean(axis=(1, 2)) if similarity == "centred" else 0
        asked = query[n] - origin
        for y, x in np.ndindex(height, width):
            there = features[n, :, y, x] - origin
            score = float(there @ asked)
            if similarity != "dot":
                lengths = np.linalg.norm(there) * np.linalg.norm(asked)
                score /= max(lengths * temperature, 1e-30)
            attention[n, y, x] = np.exp(score)
        attention[n] /= attention[n].sum()
        for y, x in np.ndindex(height, width):
            attended[n] += attention[n, y, x] * features[n, :, y, x]
    return attention, attended


@pytest.mark.parametrize(
    ("similarity", "temperature"), [("cosine", 0.1), ("cosine", 1), ("dot", 1), ("centred", 0.3)]
)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 4, 3, 5), (3, 16, 6, 2)])
def test_is_equations_2_and_3(shape, similarity, temperature):
    torch.manual_seed(shape[1])
    features, query = torch.randn(shape), torch.randn(shape[:2])
    arrays = features.double().numpy(), query.double().numpy()
    expected_attention, expected = naive(*arrays, similarity, temperature)
    attention = foreground_attention(features, query, similarity, temperature)
    assert attention.dtype == torch.float32
    np.testing.assert_allclose(attention.numpy(), expected_attention, rtol=1e-4, atol=1e-7)
    found = attend(features, attention)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
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


def test_nothing_is_rounded_by_autocast():
    torch.manual_seed(0)
    features, query = torch.randn(2, 8, 4, 3), torch.randn(2, 8)
    expected = foreground_attention(features, query, "cosine", 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        attention = foreground_attention(features, query, "cosine", 0.1)
        attended = attend(features, attention)
    assert torch.equal(attention, expected) and torch.equal(attended, attend(features, expected))


def test_a_similarity_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'centered'"):
        foreground_attention(torch.rand(1, 4, 2, 2), torch.rand(1, 4), "centered")
