import numpy as np
import pytest
import torch

from pgfl.errors import UserError
from pgfl.files import file_hash
from pgfl.pose import stage
from pgfl.pose.blocks import BlockFolder
from pgfl.pose.estimators import SMALL_WEIGHTS
from pgfl.pose.heatmaps import merge, spatial_softmax
from pgfl.pose.hrnet import load_estimator
from pgfl.pose.settings import PoseSettings
from pgfl.pose.stage import make_heatmaps
from pgfl.pose.store import HeatmapReader

SETTINGS = PoseSettings(estimator="hrnet_small", height=128, width=64, batch_size=3)


def make(manifest, target, shard=(1, 1), settings=SETTINGS):
    state = target.with_suffix(".state")
    return make_heatmaps(manifest, "train", SMALL_WEIGHTS, target, settings, state, shard)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of one batch, three images."""
    monkeypatch.setattr(stage, "BATCHES_A_BLOCK", 1)


def test_the_cache_holds_what_the_network_says_of_each_image(person_folder, tmp_path, people):
    target = tmp_path / "cache" / "train.h5"
    assert make(person_folder, target) == 8
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
    make(person_folder, target)
    attributes = HeatmapReader(target).attributes()
    assert attributes["estimator"] == "hrnet_small"
    assert attributes["checkpoint_sha256"] == file_hash(SMALL_WEIGHTS)
    assert tuple(attributes["input_size"]) == (128, 64)
    assert attributes["softmax_scale"] == 10.0


def test_the_same_input_gives_the_same_bytes(person_folder, tmp_path):
    for name in ("a.h5", "b.h5"):
        make(person_folder, tmp_path / name)
    assert file_hash(tmp_path / "a.h5") == file_hash(tmp_path / "b.h5")


def test_a_damaged_image_is_named_and_leaves_no_cache(person_folder, tmp_path):
    (tmp_path / "5.png").write_text("no picture")
    with pytest.raises(UserError, match=r"5\.png: not an image"):
        make(person_folder, tmp_path / "t.h5")
    assert not list(tmp_path.glob("*.h5")) and not list(tmp_path.glob(".*"))


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@pytest.mark.parametrize("blocks_before", [0, 1, 2])
def test_a_killed_run_goes_on_after_its_last_whole_block(
    person_folder, tmp_path, monkeypatch, small_blocks, blocks_before
):
    make(person_folder, tmp_path / "whole.h5")
    write, written = BlockFolder.write, []

    def die(self, start, block):
        if len(written) == blocks_before:
            raise Killed
        written.append(start)
        write(self, start, block)

    target = tmp_path / "killed.h5"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(BlockFolder, "write", die)
        make(person_folder, target)
    assert not target.exists()
    assert make(person_folder, target) == 8 - 3 * blocks_before
    assert file_hash(target) == file_hash(tmp_path / "whole.h5")
    assert not target.with_suffix(".state").exists()


def test_shards_put_together_are_the_whole(person_folder, tmp_path, small_blocks):
    make(person_folder, tmp_path / "whole.h5")
    target = tmp_path / "shared.h5"
    done = [make(person_folder, target, (part, 2)) for part in (2, 1)]
    assert sorted(done) == [3, 5] and not target.exists()
    assert make(person_folder, target) == 0
    assert file_hash(target) == file_hash(tmp_path / "whole.h5")


def test_a_damaged_block_is_computed_again(person_folder, tmp_path, small_blocks):
    make(person_folder, tmp_path / "whole.h5")
    target = tmp_path / "again.h5"
    make(person_folder, target, (1, 2))
    block = sorted(target.with_suffix(".state").rglob("*.npz"))[0]
    block.write_bytes(block.read_bytes()[:100])
    assert make(person_folder, target) == 6
    assert file_hash(target) == file_hash(tmp_path / "whole.h5")


def test_blocks_of_other_settings_or_images_are_not_taken(person_folder, tmp_path, small_blocks):
    target = tmp_path / "train.h5"
    make(person_folder, target, (1, 2))
    softer = SETTINGS.model_copy(update={"softmax_scale": 5.0})
    assert make(person_folder, target, settings=softer) == 8
    make(person_folder, target, (1, 2))
    person_folder.write_text(person_folder.read_text().replace("7.png,train,3", "7.png,train,9"))
    assert make(person_folder, target) == 8
