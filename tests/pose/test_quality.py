import numpy as np
import pytest
import torch

from pgfl.pose import quality
from pgfl.pose.estimators import SMALL_WEIGHTS
from pgfl.pose.heatmaps import merge, spatial_softmax
from pgfl.pose.hrnet import load_estimator
from pgfl.pose.keypoints import PART_MIRROR, PARTS
from pgfl.pose.quality import competing, find_modes, person_score, rise, spread, visibility
from pgfl.pose.store import decode, encode

H, W = 32, 16
HEAD, KNEE, OTHER_KNEE, ANKLE = (
    PARTS.index(part) for part in ("head", "left_knee", "right_knee", "left_ankle")
)


def softmaxed(responses, scale=10.0):
    """Responses (..., h, w) as a store holds them."""
    weights = np.exp(scale * (responses - responses.max(axis=(-2, -1), keepdims=True)))
    return (weights / weights.sum(axis=(-2, -1), keepdims=True)).astype(np.float32)


def peaks(*places, size=(H, W), sigma=1.2):
    """Responses (h, w): the higher of Gaussians (row, column, height)."""
    y, x = np.mgrid[: size[0], : size[1]]
    hills = [h * np.exp(-((y - r) ** 2 + (x - c) ** 2) / 2 / sigma**2) for r, c, h in places]
    return np.max([np.zeros(size), *hills], axis=0)


def image(part, responses, **others):
    """Eight maps (1, 8, h, w), flat but for those given."""
    maps = np.zeros((1, len(PARTS), *responses.shape))
    maps[0, part] = responses
    for name, given in others.items():
        maps[0, PARTS.index(name)] = given
    return maps


def competes(responses, part=HEAD, scale=10.0, **others):
    maps = softmaxed(image(part, responses, **others), scale)
    found = competing(find_modes(maps, scale), responses.shape[0])[0]
    assert not np.delete(found, part).any()
    return bool(found[part])


@pytest.mark.parametrize("scale", [1.0, 10.0, 25.0])
def test_differences_of_responses_come_back_from_the_softmax(scale):
    responses = peaks((5, 5, 0.9), (20, 9, 0.7))
    assert rise(softmaxed(responses, scale), scale) == pytest.approx(0.9, abs=1e-3)
    modes = find_modes(softmaxed(responses[None, None], scale), scale)
    assert modes.first.tolist() == [[[5, 5]]] and modes.second.tolist() == [[[20, 9]]]
    assert modes.gap.item() == pytest.approx(0.2, abs=1e-3)
    assert modes.rise.item() == pytest.approx(0.7, abs=1e-3)
    assert modes.dip.item() == pytest.approx(0.7, abs=0.02)


def test_they_come_back_from_the_stored_bytes_too():
    maps = softmaxed(image(HEAD, peaks((5, 5, 0.9), (20, 9, 0.7))))
    modes = find_modes(decode(*encode(maps)))
    assert modes.gap[0, HEAD] == pytest.approx(0.2, abs=0.01)
    assert rise(decode(*encode(maps)))[0, HEAD] == pytest.approx(0.9, abs=0.1)
    assert competing(modes, H)[0, HEAD]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(10, 8, 0.9)], False),  # one peak
        ([(10, 8, 0.9), (13, 8, 0.9)], False),  # two, too near
        ([(10, 8, 0.9), (16, 8, 0.9)], False),  # just too near: 6 of 32 cells
        ([(10, 8, 0.9), (17, 8, 0.9)], True),  # just far enough: 7 of 32
        ([(10, 3, 0.9), (10, 13, 0.9)], True),  # beside each other
        ([(10, 8, 0.9), (25, 8, 0.65)], True),  # a little weaker
        ([(10, 8, 0.9), (25, 8, 0.55)], False),  # much weaker
        ([(0, 0, 0.9), (31, 15, 0.8)], True),  # in the corners
        ([(0, 8, 0.9)], False),  # one at the border
        ([(31, 0, 0.9), (31, 15, 0.9)], True),  # both at the border
        ([(10, 8, 0.15), (25, 8, 0.15)], False),  # both hardly more than nothing
        ([(10, 8, 0.25), (25, 8, 0.25)], True),
        ([(5, 8, 0.9), (15, 8, 0.85), (25, 8, 0.8)], True),  # three
        ([], False),  # flat
    ],
)
def test_two_people_compete_where_a_second_mode_is_far_and_as_strong(places, expected):
    assert competes(peaks(*places)) is expected


def test_a_plateau_and_a_ridge_are_one_mode():
    plateau = np.zeros((H, W))
    plateau[4:24, 5:11] = 0.9
    assert not competes(plateau)
    ridge = np.zeros((H, W))
    ridge[2:30, 8] = 0.8 + 0.05 * (np.arange(28) % 2)
    assert not competes(ridge)


@pytest.mark.parametrize("size", [(16, 8), (64, 48), (96, 32)])
def test_distances_are_shares_of_the_height(size):
    height, width = size
    far = [(height // 4, width // 2, 0.9), (height // 4 + round(0.25 * height), width // 2, 0.9)]
    near = [far[0], (height // 4 + round(0.18 * height), width // 2, 0.9)]
    assert competes(peaks(*far, size=size, sigma=0.02 * height))
    assert not competes(peaks(*near, size=size, sigma=0.02 * height))


@pytest.mark.parametrize("part", range(len(PARTS)))
def test_only_parts_that_one_person_has_in_one_place_count(part):
    expected = PARTS[part] in quality.SINGLE_PARTS
    assert expected == (PARTS[part] not in ("left_lower_arm", "right_lower_arm", "torso"))
    assert competes(peaks((5, 8, 0.9), (25, 8, 0.9)), part) is expected


def test_a_leg_taken_for_the_other_is_no_second_person():
    both = peaks((20, 3, 0.9), (20, 12, 0.8))
    assert competes(both, KNEE)
    assert not competes(both, KNEE, right_knee=peaks((20, 12, 0.9)))
    assert not competes(both, KNEE, right_knee=peaks((22, 12, 0.9)))
    assert competes(both, KNEE, right_knee=peaks((28, 12, 0.9)))
    assert competes(both, KNEE, right_ankle=peaks((20, 12, 0.9)))
    assert PART_MIRROR[KNEE] == OTHER_KNEE and PART_MIRROR[ANKLE] != ANKLE


def test_modes_are_those_of_a_naive_search():
    rng = np.random.default_rng(0)
    maps = softmaxed(rng.random((3, 8, 12, 6)).round(1))  # rounded: with ties
    modes = find_modes(maps)
    for n, k in np.ndindex(3, 8):
        part = maps[n, k]
        cells = sorted(np.ndindex(12, 6), key=lambda cell: -part[cell])
        first = cells[0]
        others = [
            cell
            for cell in cells
            if np.hypot(cell[0] - first[0], cell[1] - first[1]) >= 0.2 * 12
            and part[cell]
            == part[max(cell[0] - 1, 0) : cell[0] + 2, max(cell[1] - 1, 0) : cell[1] + 2].max()
        ]
        assert tuple(modes.first[n, k]) == first
        assert tuple(modes.second[n, k]) == (others[0] if others else first)
        gap = np.log(part[first] / part[others[0]]) / 10 if others else np.inf
        assert modes.gap[n, k] == pytest.approx(gap, abs=1e-6)


def test_a_map_without_a_second_mode_says_so():
    modes = find_modes(softmaxed(peaks((3, 3, 0.9), size=(6, 6), sigma=4)[None, None]))
    assert modes.second.tolist() == modes.first.tolist()
    assert modes.gap.item() == np.inf and modes.rise.item() == 0 and modes.dip.item() == 0


def test_a_flat_map_is_invisible_and_a_peak_is_not():
    maps = softmaxed(np.stack([peaks(), 0.1 * np.random.default_rng(0).random((H, W))]))
    assert visibility(rise(maps)).tolist() == [0, 0]
    assert visibility(rise(softmaxed(peaks((3, 3, 0.9))))) == 1
    assert 0 < visibility(rise(softmaxed(peaks((3, 3, 0.4))))) < 1


def test_cells_of_value_zero_do_no_harm():
    """Another estimator's maps may be exactly zero off their peaks."""
    maps = np.zeros((1, 8, H, W), np.float16)
    maps[..., 3, 3] = 1
    with np.errstate(all="raise"):
        assert visibility(rise(maps)).tolist() == [[1] * 8]
        assert not competing(find_modes(maps), H).any()


@pytest.mark.parametrize("found", range(6))
def test_a_persons_score_tells_whether_three_keypoints_are_found(found):
    confidence = np.full((1, 17), 0.1)
    confidence[0, np.random.default_rng(found).permutation(17)[:found]] = 0.3
    assert (person_score(confidence) < 0.3).item() is (found < 3)


def test_a_spread_goes_from_the_highest_to_the_lowest():
    values = np.array([0.3, 0.9, 0.1, 0.9, 0.5])
    assert spread(values, 3).tolist() == [1, 4, 2]
    assert spread(values, 9).tolist() == [1, 3, 4, 0, 2]
    assert spread(values, 1).tolist() == [1]


def test_hrnet_competes_for_two_people_side_by_side_and_not_for_one(people):
    """Crops that hold the middles of two people, against the same people alone."""
    model = load_estimator("hrnet_small", SMALL_WEIGHTS)
    whole = [crop.image for crop in people[::2]]
    pairs = [np.hstack([a[:, 16:48], b[:, 16:48]]) for a in whole[:4] for b in whole[4:12]]

    def share(images):
        with torch.inference_mode():
            raw = model(torch.from_numpy(np.stack(images)))
        modes = find_modes(spatial_softmax(merge(raw), 10).numpy())
        return competing(modes, H).any(axis=1).mean()

    assert share([crop.image for crop in people]) == 0
    assert share(pairs) > 0.2


def test_nobody_is_found_where_fewer_than_three_keypoints_reach_the_threshold():
    confidence = np.zeros((4, 17))
    confidence[1, :2] = 0.9
    confidence[2, :3] = 0.3
    confidence[3] = 0.9
    assert quality.nobody_found(confidence).tolist() == [True, True, False, False]
    assert quality.nobody_found(confidence, 0.4).tolist() == [True, True, True, False]
    assert quality.nobody_line(confidence) == (
        "nobody found in 2 of 4 images (50.0 %), where fewer than 3 of 17 keypoints reach 0.3"
    )
    assert quality.nobody_line(confidence[:0]).startswith("nobody found in 0 of 0 images")
