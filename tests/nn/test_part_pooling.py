import numpy as np
import pytest
import torch

from pgfl.nn.part_pooling import pool_parts, resize_heatmaps


def naive_pool(features, heatmaps, reduction):
    """Eq. 1: multiply every channel by the map of a part, then pool over positions."""
    images, channels, height, width = features.shape
    result = np.zeros((images, heatmaps.shape[1], channels))
    for n, k, c in np.ndindex(*result.shape):
        for y in range(height):
            for x in range(width):
                result[n, k, c] += features[n, c, y, x] * heatmaps[n, k, y, x]
    return result / (height * width) if reduction == "mean" else result


def centres(maps):
    """The centre of mass of each map, as a share of its height and width."""
    height, width = maps.shape[2:]
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    return torch.stack([(maps.sum(dim=3) * y).sum(dim=2), (maps.sum(dim=2) * x).sum(dim=2)])


def random_maps(*shape):
    return torch.rand(*shape).flatten(2).softmax(dim=2).view(shape)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(
    ("features", "parts"), [((1, 1, 1, 1), 1), ((2, 3, 4, 5), 8), ((3, 7, 6, 2), 2)]
)
def test_pooling_is_equation_1(features, parts, reduction):
    torch.manual_seed(0)
    tensor = torch.randn(features)
    maps = random_maps(features[0], parts, *features[2:])
    expected = naive_pool(tensor.numpy(), maps.numpy(), reduction)
    found = pool_parts(tensor, maps, reduction)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_are_those_of_equation_1(assert_agrees, reduction):
    torch.manual_seed(0)
    weight = torch.randn(2, 4, 3)

    def naive(features, maps):
        total = 0
        for n, k, c in np.ndindex(2, 4, 3):
            pooled = sum(sum(features[n, c, y] * maps[n, k, y]) for y in range(5))
            total = total + weight[n, k, c].double() * pooled / (20 if reduction == "mean" else 1)
        return total

    assert_agrees(
        lambda features, maps: (weight * pool_parts(features, maps, reduction)).sum(),
        naive,
        torch.randn(2, 3, 5, 4),
        random_maps(2, 4, 5, 4),
    )


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_extreme_features_stay_finite(assert_finite, scale):
    torch.manual_seed(0)
    features, maps = scale * torch.randn(2, 3, 5, 4), random_maps(2, 4, 5, 4)
    assert_finite(lambda *inputs: pool_parts(*inputs).square().mean(), features, maps)


def test_flat_maps_give_the_mean_of_the_features():
    torch.manual_seed(0)
    features = torch.randn(2, 5, 4, 3)
    pooled = pool_parts(features, torch.full((2, 8, 4, 3), 1 / 12))
    for part in range(8):
        torch.testing.assert_close(pooled[:, part], features.mean(dim=(2, 3)))


def test_a_single_peak_picks_one_position():
    features = torch.randn(1, 5, 4, 3)
    maps = torch.zeros(1, 2, 4, 3)
    maps[0, 0, 3, 1] = maps[0, 1, 0, 2] = 1
    pooled = pool_parts(features, maps)[0]
    assert torch.equal(pooled, torch.stack([features[0, :, 3, 1], features[0, :, 0, 2]]))


def test_pooling_is_not_rounded_by_autocast():
    torch.manual_seed(0)
    features, maps = torch.randn(2, 5, 4, 3), random_maps(2, 8, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = pool_parts(features, maps)
    assert torch.equal(found, pool_parts(features, maps))


def test_sizes_that_differ_are_an_error():
    with pytest.raises(ValueError, match="differ in size"):
        pool_parts(torch.zeros(1, 4, 24, 8), torch.zeros(1, 8, 12, 8))


@pytest.mark.parametrize("size", [(24, 8), (12, 4), (5, 3), (1, 1), (48, 16), (96, 32)])
def test_resized_maps_sum_to_one(size):
    torch.manual_seed(0)
    maps = resize_heatmaps(random_maps(2, 8, 24, 8), size)
    assert maps.shape == (2, 8, *size) and maps.min() >= 0
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 8))


def test_a_map_shrunk_by_a_whole_factor_holds_the_mass_of_each_block():
    torch.manual_seed(0)
    maps = random_maps(1, 8, 12, 8)
    small = resize_heatmaps(maps, (3, 4))
    for k, y, x in np.ndindex(8, 3, 4):
        block = maps[0, k, 4 * y : 4 * y + 4, 2 * x : 2 * x + 2].sum()
        torch.testing.assert_close(small[0, k, y, x], block)


@pytest.mark.parametrize("size", [(6, 4), (12, 8), (48, 16)])
def test_no_mass_moves(size):
    maps = torch.zeros(1, 3, 24, 8)
    maps[0, 0, 20, 1] = maps[0, 1, 3, 6] = 1
    maps[0, 2] = 1 / 192
    resized = resize_heatmaps(maps, size)
    cell = torch.tensor([1 / min(size[0], 24), 1 / min(size[1], 8)]).view(2, 1, 1)
    assert (centres(resized) - centres(maps)).abs().le(cell / 2 + 1e-6).all()
    torch.testing.assert_close(resized[0, 2], torch.full(size, 1 / (size[0] * size[1])))


def test_maps_of_the_same_size_stay_as_they_are():
    maps = random_maps(2, 8, 6, 4)
    torch.testing.assert_close(resize_heatmaps(maps, (6, 4)), maps)


def test_an_empty_map_does_not_become_nan():
    assert torch.equal(resize_heatmaps(torch.zeros(1, 1, 4, 4), (2, 2)), torch.zeros(1, 1, 2, 2))
