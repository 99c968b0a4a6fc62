from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgfl.datasets.synthetic.crops import Occlusion, render
from pgfl.datasets.synthetic.identity import sample_identity

PEOPLE = [sample_identity(1, pid) for pid in range(60)]
STRANGERS = [sample_identity(2, pid) for pid in range(10)]


def shot(pid=0, seed=0, camera=0, size=(128, 64), **options):
    rng = np.random.default_rng(seed)
    return render(PEOPLE[pid], rng=rng, camera=camera, camera_seed=0, size=size, **options)


@pytest.mark.parametrize("occlusion", get_args(Occlusion))
def test_equal_arguments_give_equal_bytes(occlusion):
    first, second = (shot(occlusion=occlusion, strangers=STRANGERS) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert (first.joints == second.joints).all() and (first.visible == second.visible).all()


def test_drawing_others_in_between_changes_nothing():
    first = shot(seed=4)
    shot(pid=9, seed=5, camera=3)
    assert (shot(seed=4).image == first.image).all()


def test_another_person_differs_more_than_another_noise():
    def distance(first, second):
        return np.abs(first.image.astype(int) - second.image).mean()

    # At difficulty 0 what is left to the rng is the gait and a slight turn.
    same = [distance(shot(pid, 0, difficulty=0), shot(pid, 1, difficulty=0)) for pid in range(10)]
    other = [
        distance(shot(pid, 0, difficulty=0), shot(pid + 1, 0, difficulty=0)) for pid in range(10)
    ]
    assert np.mean(other) > 1.5 * np.mean(same)


def test_cameras_give_the_same_person_different_colours():
    means = np.stack([shot(camera=camera).image.mean(axis=(0, 1)) for camera in range(8)])
    assert np.abs(means - means.mean(axis=0)).max() > 10


def test_easy_shots_show_the_whole_person_from_the_front():
    crop = shot(difficulty=0)
    assert crop.visible.all()
    assert crop.joints[5, 0] > crop.joints[6, 0]
    assert crop.joints[0, 1] < 0.2 * 128 and crop.joints[15:, 1].min() > 0.8 * 128


def mean_visible(occlusion, difficulty=0.5):
    crops = [
        shot(seed, seed, seed % 8, occlusion=occlusion, strangers=STRANGERS, difficulty=difficulty)
        for seed in range(40)
    ]
    return np.mean([crop.visible.mean() for crop in crops])


@pytest.mark.parametrize("occlusion", ["object", "person", "cut", "mixed"])
def test_occlusion_hides_joints(occlusion):
    assert 0.15 < mean_visible(occlusion) < mean_visible("none") - 0.1


def test_joints_cut_off_lie_outside_and_are_invisible():
    crops = [shot(seed, seed, occlusion="cut") for seed in range(30)]
    outside = 0
    for crop in crops:
        out = ((crop.joints < -0.5) | (crop.joints >= [63.5, 127.5])).any(axis=1)
        assert not crop.visible[out].any()
        outside += out.any()
    assert outside > 20


def test_some_camera_hides_the_nose_and_some_shows_it():
    noses = [[shot(1, seed, camera).visible[0] for seed in range(5)] for camera in range(8)]
    shares = np.mean(noses, axis=1)
    assert shares.min() < 0.5 < shares.max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (31, 16)}, "size must be at least"),
        ({"size": (32, 15)}, "size must be at least"),
        ({"occlusion": "fog"}, "occlusion must be one of"),
        ({"occlusion": "person"}, "needs at least one stranger"),
        ({"difficulty": 1.1}, "difficulty must be in"),
        ({"difficulty": float("nan")}, "difficulty must be in"),
        ({"camera": 8}, "camera must be in"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shot(**options)


def test_colour_histograms_do_not_solve_re_identification():
    def histogram(image):
        bins = (image // 32).astype(int) @ (64, 8, 1)
        return np.sqrt(np.bincount(bins.ravel(), minlength=512) / bins.size)

    query, gallery = (
        np.stack([histogram(shot(pid, pid, camera).image) for pid in range(60)])
        for camera in (0, 1)
    )
    nearest = (query @ gallery.T).argmax(axis=1)  # the largest Bhattacharyya coefficient
    assert (nearest == np.arange(60)).mean() < 0.6


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(32, 200),
    width=st.integers(16, 160),
    occlusion=st.sampled_from(get_args(Occlusion)),
    difficulty=st.floats(0, 1),
    camera=st.integers(0, 7),
    seed=st.integers(0, 2**32),
)
def test_any_crop_is_well_formed(height, width, occlusion, difficulty, camera, seed):
    crop = shot(
        seed % len(PEOPLE),
        seed,
        camera,
        (height, width),
        occlusion=occlusion,
        difficulty=difficulty,
        strangers=STRANGERS,
    )
    assert crop.image.shape == (height, width, 3) and crop.image.dtype == np.uint8
    assert crop.joints.shape == (17, 2) and crop.joints.dtype == np.float32
    assert crop.visible.shape == (17,) and crop.visible.dtype == bool
    assert np.isfinite(crop.joints).all()
    inside = (crop.joints > -0.5) & (crop.joints < (width - 0.5, height - 0.5))
    assert not crop.visible[~inside.all(axis=1)].any()
