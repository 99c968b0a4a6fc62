import math

import numpy as np
import pytest
import torch

from pgfl.errors import UserError
from pgfl.pose.check import check_store
from pgfl.pose.keypoints import GROUPS
from pgfl.pose.settings import PoseSettings
from pgfl.pose.store import HeatmapReader
from pgfl.pose.true_joints import SIGMA, make_true_heatmaps, peaks

SETTINGS = PoseSettings(estimator="hrnet_small", height=128, width=64)


@pytest.fixture
def joints(people, tmp_path):
    """The side file of an archive that holds the people, in another order."""
    path = tmp_path / "archive.joints.npz"
    rows = [5, 3, 7, 1, 0, 2, 6, 4]
    np.savez(
        path,
        member=np.array([f"Some/folder/{row}.png" for row in rows]),
        joints=np.array([people[row].joints for row in rows], dtype=np.float32),
        visible=np.array([people[row].visible for row in rows]),
    )
    return path


def test_a_peak_has_height_one_and_the_width_of_its_sigma():
    cells = torch.tensor([[[2.0, 3.0]] * 17])
    visible = torch.arange(17)[None] % 2 == 0
    maps = peaks(cells, visible, (6, 5), sigma=1.5)
    for keypoint, y, x in np.ndindex(17, 6, 5):
        expected = math.exp(-((y - 3) ** 2 + (x - 2) ** 2) / (2 * 1.5**2)) * (keypoint % 2 == 0)
        assert maps[0, keypoint, y, x].item() == pytest.approx(expected)


def test_the_maps_peak_at_the_seen_joints_and_are_flat_for_hidden_ones(
    person_folder, people, joints, tmp_path
):
    target = tmp_path / "true.h5"
    assert make_true_heatmaps(person_folder, "train", joints, target, SETTINGS) == 8
    reader = HeatmapReader(target)
    check_store(target, [f"{row}.png" for row in range(8)])
    singles = [(part, group[0]) for part, group in enumerate(GROUPS.values()) if len(group) == 1]
    seen = hidden = 0
    for row, (part, keypoint) in ((r, s) for r in range(8) for s in singles):
        crop, found = people[row], reader[row][part]
        if crop.visible[keypoint]:
            y, x = np.unravel_index(found.argmax(), found.shape)
            x, y = x * 4 + 1.5, y * 4 + 1.5
            assert np.abs(crop.joints[keypoint] - (x, y)).max() <= 2 + 1e-4
            seen += 1
        else:
            assert np.allclose(found, 1 / found.size, rtol=1e-4)
            hidden += 1
    assert seen > 10 and hidden > 3
    assert SIGMA > 0 and reader.attributes()["estimator"] == "true joints"


def test_an_image_without_true_joints_is_named(person_folder, joints, tmp_path):
    person_folder.write_text(person_folder.read_text().replace("3.png", "33.png"))
    with pytest.raises(UserError, match=r"no true joints of 33\.png \(1 images\)"):
        make_true_heatmaps(person_folder, "train", joints, tmp_path / "t.h5", SETTINGS)
    assert not (tmp_path / "t.h5").exists()
