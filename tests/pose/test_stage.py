import numpy as np
import pytest
import torch

from pgfl.errors import UserError
from pgfl.files import file_hash
from pgfl.pose.estimators import SMALL_WEIGHTS
from pgfl.pose.heatmaps import merge, spatial_softmax
from pgfl.pose.hrnet import load_estimator
from pgfl.pose.settings import PoseSettings
from pgfl.pose.stage import make_heatmaps
from pgfl.pose.store import HeatmapReader

SETTINGS = PoseSettings(estimator="hrnet_small", height=128, width=64, batch_size=3)


def test_the_cache_holds_what_the_network_says_of_each_image(person_folder, tmp_path, people):
    target = tmp_path / "cache" / "train.h5"
    assert make_heatmaps(person_folder, "train", SMALL_WEIGHTS, target, SETTINGS) == 8
    reader = HeatmapReader(target)
    assert reader.images() == [f"{index}.png" for index in range(8)]
    images = torch.from_numpy(np.stack([crop.image for crop in people[:8]]))
    with torch.inference_mode():
        raw = load_estimator("hrnet_small", SMALL_WEIGHTS)(images)
    expected = spatial_softmax(merge(raw), 10.0).numpy()
    for row in range(8):
        assert np.abs(reader[row] - expected[row]).max() < expected[row].max() / 255
    assert np.allclose(reader.confidence(), raw.amax(dim=(2, 3)), atol=1e-4)


def test_the_cache_says_how_it_was_made(person_folder, tmp_path):
    target = tmp_path / "train.h5"
    make_heatmaps(person_folder, "train", SMALL_WEIGHTS, target, SETTINGS)
    attributes = HeatmapReader(target).attributes()
    assert attributes["estimator"] == "hrnet_small"
    assert attributes["checkpoint_sha256"] == file_hash(SMALL_WEIGHTS)
    assert tuple(attributes["input_size"]) == (128, 64)
    assert attributes["softmax_scale"] == 10.0


def test_the_same_input_gives_the_same_bytes(person_folder, tmp_path):
    for name in ("a.h5", "b.h5"):
        make_heatmaps(person_folder, "train", SMALL_WEIGHTS, tmp_path / name, SETTINGS)
    assert file_hash(tmp_path / "a.h5") == file_hash(tmp_path / "b.h5")


def test_a_damaged_image_is_named_and_leaves_no_cache(person_folder, tmp_path):
    (tmp_path / "5.png").write_text("no picture")
    with pytest.raises(UserError, match=r"5\.png: not an image"):
        make_heatmaps(person_folder, "train", SMALL_WEIGHTS, tmp_path / "t.h5", SETTINGS)
    assert not list(tmp_path.glob("*.h5")) and not list(tmp_path.glob(".*"))
