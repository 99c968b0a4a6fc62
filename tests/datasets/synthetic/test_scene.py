import numpy as np
import pytest

from pgfl.datasets.synthetic import scene


def person_mask():
    silhouette = np.zeros((256, 128), bool)
    silhouette[10:246, 40:90] = True
    return silhouette


def test_a_network_shares_out_styles_and_views():
    cameras = [scene.camera_of(camera, 5) for camera in range(scene.CAMERAS)]
    assert {camera.style for camera in cameras} == set(scene.STYLES)
    assert len({round(camera.view, 1) for camera in cameras}) == scene.CAMERAS
    assert cameras[0] != scene.camera_of(0, 6)


@pytest.mark.parametrize(("camera", "seed"), [(-1, 0), (8, 0), (0, -1)])
def test_cameras_out_of_range_are_refused(camera, seed):
    with pytest.raises(ValueError, match="must be"):
        scene.camera_of(camera, seed)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_objects_cover_about_the_share_asked_for(share):
    silhouette = person_mask()
    covered = []
    for seed in range(40):
        canvas = np.zeros((256, 128, 3), np.uint8)
        mask = scene.add_object(canvas, silhouette, np.random.default_rng(seed), share)
        assert canvas[mask].any() and not canvas[~mask].any()
        covered.append(mask[silhouette].mean())
    assert abs(np.mean(covered) - share) < 0.08
    assert min(covered) > 0.1


def test_backdrop_is_plain_when_easy_and_repeats_with_the_rng():
    camera = scene.camera_of(2, 0)
    plain = scene.backdrop(camera, (64, 32), np.random.default_rng(0), 0.0)
    assert (plain == scene.PLAIN).all()
    first, second = (
        scene.backdrop(camera, (64, 32), np.random.default_rng(1), 1.0) for _ in range(2)
    )
    assert (first == second).all() and first.std() > 5


def test_an_easy_picture_is_only_shrunk():
    canvas = np.full((64, 32, 3), (10, 120, 230), np.uint8)
    picture = scene.develop(canvas, (32, 16), scene.camera_of(0, 0), np.random.default_rng(0), 0.0)
    assert picture.shape == (32, 16, 3)
    assert np.abs(picture.astype(int) - canvas[:32, :16]).max() <= 1
