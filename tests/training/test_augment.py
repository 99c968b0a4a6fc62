import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgfl.config.recipe import AugmentSettings
from pgfl.datasets.images import resized
from pgfl.nn.part_pooling import resize_heatmaps
from pgfl.pose.keypoints import PART_MIRROR, PARTS
from pgfl.training.augment import ERASED_AREA, MEAN_COLOUR, Sample, augment, erase, flip, shift

CELL = 4
"""Pixels of the picture in a cell of the maps."""
ROWS, COLUMNS = 16, 8
NOTHING = {"flip": 0, "pad": 0, "erase": 0}
WHERE = st.tuples(st.integers(0, ROWS - 1), st.integers(0, COLUMNS - 1))
PART = st.integers(0, 7)


def marked(cell, part):
    """A black picture with one white cell, which the map of one part points at."""
    row, column = cell
    image = np.zeros((ROWS * CELL, COLUMNS * CELL, 3), np.uint8)
    image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 255
    maps = np.full((8, ROWS, COLUMNS), 1 / (ROWS * COLUMNS), np.float32)
    maps[part] = 0
    maps[part, row, column] = 1
    return Sample(image, maps)


def share_of_cells(mask):
    """The share of each cell that a mask of the picture covers."""
    return mask.reshape(ROWS, CELL, COLUMNS, CELL).mean(axis=(1, 3))


def white_cells(image):
    """The share of each cell that is white."""
    return share_of_cells(image[..., 0] == 255)


def noise(seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.random((8, ROWS, COLUMNS), dtype=np.float32)
    image = rng.integers(0, 256, (ROWS * CELL, COLUMNS * CELL, 3), dtype=np.uint8)
    return Sample(image, maps / maps.sum(axis=(1, 2), keepdims=True))


@given(WHERE, PART)
def test_a_flip_moves_block_and_peak_together_and_swaps_the_sides(cell, part):
    flipped = flip(marked(cell, part))
    name = PARTS[part].replace("left", "?").replace("right", "left").replace("?", "right")
    peak = flipped.heatmaps[PARTS.index(name)]
    assert np.array_equal(white_cells(flipped.image), peak)
    assert peak[cell[0], COLUMNS - 1 - cell[1]] == 1


def test_flipping_twice_changes_nothing():
    sample = noise()
    again = flip(flip(sample))
    assert np.array_equal(again.image, sample.image)
    assert np.array_equal(again.heatmaps, sample.heatmaps)
    assert not np.array_equal(flip(sample).image, sample.image)


@given(WHERE, PART, st.integers(-20, 20), st.integers(-10, 10))
def test_a_shift_by_whole_cells_moves_block_and_peak_together(cell, part, down, right):
    moved = shift(marked(cell, part), down * CELL, right * CELL)
    row, column = cell[0] + down, cell[1] + right
    if 0 <= row < ROWS and 0 <= column < COLUMNS:
        expected = np.zeros((ROWS, COLUMNS))
        expected[row, column] = 1
        assert np.array_equal(white_cells(moved.image), expected)
        assert np.array_equal(moved.heatmaps[part], expected)
    else:  # the part left the picture: black, and a map that points nowhere
        assert not moved.image.any()
        np.testing.assert_allclose(moved.heatmaps[part], 1 / (ROWS * COLUMNS), rtol=1e-6)


@given(WHERE, PART, st.integers(-10, 10), st.integers(-10, 10))
def test_a_shift_between_cells_spreads_the_peak_as_the_block(cell, part, dy, dx):
    moved = shift(marked(cell, part), dy, dx)
    share = white_cells(moved.image)
    if share.any():
        # What is left of the block; the rest is everywhere.
        rest = (1 - share.sum()) / (ROWS * COLUMNS)
        np.testing.assert_allclose(moved.heatmaps[part], share + rest, atol=1e-6)


@given(WHERE, PART, st.sampled_from([(64, 32), (128, 64), (48, 48), (32, 16), (200, 70)]))
def test_a_resized_picture_keeps_its_block_where_the_maps_point(cell, part, size):
    sample = marked(cell, part)
    image = resized(sample.image, *size)[..., 0].astype(float)
    small = resize_heatmaps(torch.from_numpy(sample.heatmaps)[None], (8, 4))[0, part].numpy()
    for maps, slack in ((sample.heatmaps[part], 0), (small, 0.5)):
        for axis in (0, 1):
            found = [centre(field, axis) for field in (image, maps)]
            # The small map's cells are twice as large; and a block at the edge loses half a pixel.
            assert abs(found[0] - found[1]) <= slack / maps.shape[axis] + 1 / size[axis]


def centre(field, axis):
    """The centre of mass along an axis, as a share of the field's size."""
    profile = field.sum(axis=1 - axis)
    return (profile * (np.arange(len(profile)) + 0.5)).sum() / profile.sum() / len(profile)


@given(st.integers(-70, 70), st.integers(-40, 40), st.integers(0, 9))
def test_shifted_maps_sum_to_one(dy, dx, seed):
    maps = shift(noise(seed), dy, dx).heatmaps
    assert maps.dtype == np.float32 and maps.min() >= 0
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, rtol=1e-5)


def test_what_enters_is_black():
    sample = Sample(np.full((8, 8, 3), 200, np.uint8), None)
    moved = shift(sample, 3, -2).image
    expected = np.zeros((8, 8, 3), np.uint8)
    expected[3:, :6] = 200
    assert np.array_equal(moved, expected)


def test_no_shift_changes_nothing():
    sample = noise()
    still = shift(sample, 0, 0)
    assert np.array_equal(still.image, sample.image)
    np.testing.assert_allclose(still.heatmaps, sample.heatmaps, rtol=1e-5, atol=1e-8)


@given(st.integers(0, 2**32))
def test_erasing_paints_one_rectangle_in_the_mean_colour_and_leaves_the_maps(seed):
    sample = marked((0, 0), 0)
    before = sample.image.copy()
    erased = erase(sample, np.random.default_rng(seed), maps_too=False)
    assert erased.heatmaps is sample.heatmaps and np.array_equal(sample.image, before)
    changed = (erased.image != before).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert (erased.image[changed] == (124, 116, 104)).all()
    low, high = ERASED_AREA
    assert 0.8 * low <= changed.mean() <= 1.2 * high


@given(st.integers(0, 2**32))
def test_maps_can_lose_what_is_erased(seed):
    sample = noise()
    erased = erase(sample, np.random.default_rng(seed), maps_too=True)
    left = 1 - share_of_cells((erased.image == MEAN_COLOUR).all(axis=2))
    expected = sample.heatmaps * left
    expected += (1 - expected.sum(axis=(1, 2), keepdims=True)) / (ROWS * COLUMNS)
    np.testing.assert_allclose(erased.heatmaps, expected, rtol=1e-3, atol=1e-7)
    image_only = erase(sample, np.random.default_rng(seed), maps_too=False)
    assert np.array_equal(image_only.image, erased.image)


def test_a_map_that_is_erased_whole_becomes_flat():
    maps = np.zeros((8, ROWS, COLUMNS), np.float32)
    maps[:, 8, 4] = 1
    sample = Sample(noise().image, maps)
    flat = [
        erased.heatmaps
        for seed in range(40)
        for erased in [erase(sample, np.random.default_rng(seed), maps_too=True)]
        if (erased.image[32:36, 16:20] == MEAN_COLOUR).all()
    ]
    assert flat
    for result in flat:
        np.testing.assert_allclose(result, 1 / (ROWS * COLUMNS), rtol=1e-6)


def test_a_part_that_leaves_the_picture_or_is_covered_is_less_sure():
    """As sure as the share of its map that is left; a flip swaps the sides."""
    rng = np.random.default_rng(0)
    sure = rng.random(8, dtype=np.float32)
    sample = Sample(*dataclasses.astuple(noise())[:2], sure)
    mirror = list(PART_MIRROR)
    np.testing.assert_array_equal(flip(sample).confidence, sure[mirror])
    moved = shift(sample, 2 * CELL, 0)
    left = sample.heatmaps[:, : ROWS - 2].sum(axis=(1, 2))
    np.testing.assert_allclose(moved.confidence, sure * left, rtol=1e-5)
    erased = erase(sample, np.random.default_rng(3), maps_too=True)
    hidden = share_of_cells((erased.image == MEAN_COLOUR).all(axis=2))
    left = (sample.heatmaps * (1 - hidden)).sum(axis=(1, 2))
    np.testing.assert_allclose(erased.confidence, sure * left, rtol=1e-3)
    only_image = erase(sample, np.random.default_rng(3), maps_too=False)
    np.testing.assert_array_equal(only_image.confidence, sure)
    assert moved.confidence.dtype == erased.confidence.dtype == np.float32


@pytest.mark.parametrize("change", [flip, lambda s: shift(s, 3, 5)])
def test_images_without_maps_are_changed_alike(change):
    sample = noise()
    alone = change(Sample(sample.image, None))
    assert alone.heatmaps is None and np.array_equal(alone.image, change(sample).image)


def test_everything_can_be_turned_off():
    sample = noise()
    result = augment(sample, AugmentSettings(**NOTHING), np.random.default_rng(0))
    assert np.array_equal(result.image, sample.image)
    assert np.array_equal(result.heatmaps, sample.heatmaps)


def test_probabilities_of_one_always_act():
    sample = noise()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        flipped = augment(sample, AugmentSettings(**NOTHING | {"flip": 1}), rng)
        assert np.array_equal(flipped.image, flip(sample).image)
        erased = augment(sample, AugmentSettings(**NOTHING | {"erase": 1}), rng)
        assert not np.array_equal(erased.image, sample.image)
        assert not np.array_equal(erased.heatmaps, sample.heatmaps)
        image_only = AugmentSettings(**NOTHING | {"erase": 1, "erase_maps": False})
        assert np.array_equal(augment(sample, image_only, rng).heatmaps, sample.heatmaps)


def test_crops_reach_the_padding_and_no_farther():
    sample = marked((8, 4), 0)
    moves = set()
    for seed in range(300):
        moved = augment(
            sample, AugmentSettings(**NOTHING | {"pad": 2}), np.random.default_rng(seed)
        )
        top, left = np.argwhere(moved.image[..., 0])[0]
        moves.add((int(top) - 8 * CELL, int(left) - 4 * CELL))
    assert moves == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


@given(WHERE, PART, st.integers(0, 2**32))
def test_block_and_maps_stay_together_through_all_of_it(cell, part, seed):
    settings = AugmentSettings(flip=0.5, pad=6, erase=0)
    result = augment(marked(cell, part), settings, np.random.default_rng(seed))
    share = white_cells(result.image)
    if share.any():
        seen = share + (1 - share.sum()) / (ROWS * COLUMNS)
        peaks = [np.allclose(result.heatmaps[k], seen, atol=1e-6) for k in range(8)]
        assert sum(peaks) == 1
        assert PARTS[peaks.index(True)].split("_")[-1] == PARTS[part].split("_")[-1]


def test_the_same_numbers_make_the_same_sample():
    sample, settings = noise(), AugmentSettings(pad=6)
    first, second, other = (
        augment(sample, settings, np.random.default_rng([0, 1, place])) for place in (5, 5, 6)
    )
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.heatmaps, second.heatmaps)
    assert not np.array_equal(first.image, other.image)
