import numpy as np
import pytest
import torch

from pgfl.datasets.images import read_image, resized
from pgfl.errors import UserError
from pgfl.networks.saved import load_student
from pgfl.reporting.paper.responses import enlarged, response_maps, share_on_parts, stretched

NAMES = ["2.png", "0.png"]


def test_a_response_is_the_length_of_the_feature_at_each_place(save_run, queries, model_settings):
    model, _ = save_run(0)
    folder = queries[0].parent
    found = response_maps(model, folder, NAMES)
    assert found.shape == (2, 4, 2) and found.dtype == np.float32
    student, _ = load_student(model)
    for own, name in zip(found, NAMES, strict=True):
        pixels = resized(read_image(folder / name), model_settings.height, model_settings.width)
        with torch.inference_mode():
            features = student.feature_map(torch.from_numpy(pixels)[None])[0].numpy()
        for i in range(4):
            for j in range(2):
                expected = sum(float(x) ** 2 for x in features[:, i, j]) ** 0.5
                assert own[i, j] == pytest.approx(expected, rel=1e-4)


def test_a_missing_model_is_named(queries, tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors: no such weights file"):
        response_maps(tmp_path / "none.safetensors", queries[0].parent, NAMES)


def test_maps_are_stretched_one_by_one():
    found = stretched(np.array([[[1.0, 3.0], [2.0, 5.0]], [[7.0, 7.0], [7.0, 7.0]]]))
    assert found.tolist() == [[[0, 0.5], [0.25, 1]], [[0, 0], [0, 0]]]


def test_enlarging_keeps_a_flat_map_flat_and_a_corner_in_its_corner():
    flat = enlarged(np.full((1, 2, 2), 3, np.float32), (8, 6))
    assert flat.shape == (1, 8, 6) and (flat == 3).all()
    corner = np.zeros((1, 2, 2), np.float32)
    corner[0, 0, 1] = 1
    large = enlarged(corner, (8, 8))[0]
    assert large[:2, 6:].min() == 1 and large[6:].max() == 0


@pytest.fixture
def heatmaps():
    """Of one image: part 0 sits in the upper left quarter, part 1 in one place, others hidden."""
    maps = np.full((1, 8, 4, 4), 1 / 16, np.float32)
    maps[0, 0] = 0
    maps[0, 0, :2, :2] = 1 / 4
    maps[0, 1] = 0.1 / 15
    maps[0, 1, 3, 3] = 0.9
    return maps


def test_the_share_is_of_the_union_of_visible_parts(heatmaps):
    response = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    share, area = share_on_parts(response, heatmaps)
    on_parts = 0 + 1 + 4 + 5 + 15
    assert share[0] == pytest.approx(on_parts / 120) and area[0] == pytest.approx(5 / 16)


def test_a_uniform_response_has_the_share_of_the_area(heatmaps):
    share, area = share_on_parts(np.full((1, 2, 2), 7, np.float32), heatmaps)
    assert share[0] == pytest.approx(area[0])


def test_hidden_parts_and_dead_responses_have_no_share(heatmaps):
    hidden = np.full_like(heatmaps, 1 / 16)
    share, area = share_on_parts(np.ones((1, 4, 4), np.float32), hidden)
    assert share[0] == 0 and area[0] == 0
    share, _ = share_on_parts(np.zeros((1, 4, 4), np.float32), heatmaps)
    assert share[0] == 0
