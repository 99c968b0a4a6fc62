import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial

import cv2
import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pgfl.cli.main import app
from pgfl.errors import UserError
from pgfl.pose import stage
from pgfl.pose.blocks import BlockFolder
from pgfl.pose.check import check_store
from pgfl.pose.estimators import SMALL_WEIGHTS
from pgfl.pose.heatmaps import merge, spatial_softmax
from pgfl.pose.hrnet import load_estimator
from pgfl.pose.settings import PoseSettings
from pgfl.pose.stage import make_heatmaps
from pgfl.pose.store import HeatmapReader
from pgfl.runtime.files import file_hash

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


@pytest.fixture
def odd_photographs(person_folder, tmp_path):
    """One photograph does not decode, another is one pixel wide."""
    (tmp_path / "5.png").write_text("no picture")
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((40, 1, 3), np.uint8))
    return person_folder


def test_a_photograph_one_pixel_wide_stops_the_stage(odd_photographs, tmp_path):
    with pytest.raises(UserError, match=r"2\.png: 1x40 pixels hold no person; .*unusable: flat"):
        make(odd_photographs, tmp_path / "t.h5")


def test_unusable_photographs_are_named_and_flat_if_so_wished(
    odd_photographs, tmp_path, capsys, small_blocks
):
    target = tmp_path / "t.h5"
    flat = SETTINGS.model_copy(update={"unusable": "flat"})
    assert make(odd_photographs, target, settings=flat) == 8
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2 and "2.png" in notes[0] and "5.png" in notes[1]
    reader = HeatmapReader(target)
    assert reader.usable().tolist() == [row not in (2, 5) for row in range(8)]
    for row in (2, 5):
        assert np.allclose(reader[row], 1 / (32 * 16), rtol=1e-6)
        assert (reader.confidence()[row] == 0).all()
    assert reader[3].max() > 0.02
    check_store(target, reader.images())


def test_the_other_photographs_are_as_without_the_unusable_ones(
    person_folder, tmp_path, odd_photographs
):
    flat = SETTINGS.model_copy(update={"unusable": "flat"})
    make(odd_photographs, tmp_path / "odd.h5", settings=flat)
    whole = cv2.imread(str(tmp_path / "3.png"))
    for name in ("2.png", "5.png"):
        cv2.imwrite(str(tmp_path / name), whole)
    make(person_folder, tmp_path / "whole.h5", settings=flat)
    odd, good = HeatmapReader(tmp_path / "odd.h5"), HeatmapReader(tmp_path / "whole.h5")
    for row in (0, 1, 3, 4, 6, 7):
        assert np.allclose(odd[row], good[row], atol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"view": "topdown"},
        {"flip_test": True},
        {"combine": "max"},
        {"order": "softmax_first"},
        {"precision": "half"},
    ],
)
def test_every_setting_reaches_the_store_and_its_attributes(person_folder, tmp_path, changed):
    make(person_folder, tmp_path / "plain.h5")
    make(person_folder, tmp_path / "t.h5", settings=SETTINGS.model_copy(update=changed))
    plain, other = HeatmapReader(tmp_path / "plain.h5"), HeatmapReader(tmp_path / "t.h5")
    check_store(tmp_path / "t.h5", plain.images())
    assert any(not np.array_equal(plain[row], other[row]) for row in range(8))
    attributes = other.attributes()
    assert all(attributes[name] == value for name, value in changed.items())
    assert tuple(attributes["input_size"]) == (128, 64)


@pytest.fixture
def too_large_weights(tmp_path):
    """Finite weights whose maps are not."""
    state = load_file(SMALL_WEIGHTS)
    name = next(name for name in reversed(state) if "final_layer.weight" in name)
    state[name] = state[name].float() * 1e38
    save_file(state, tmp_path / "large.safetensors")
    return tmp_path / "large.safetensors"


def test_maps_that_are_not_finite_stop_the_stage_by_name(
    person_folder, tmp_path, too_large_weights
):
    many_photographs(person_folder, 2)
    settings = SETTINGS.model_copy(update={"batch_size": 16})
    target, state = tmp_path / "t.h5", tmp_path / "state"
    with pytest.raises(UserError) as caught:
        make_heatmaps(person_folder, "train", too_large_weights, target, settings, state)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{too_large_weights}: hrnet_small gives NaN or infinite maps")
    assert "0.png, 1.png, 2.png, " in line and "1-1.png, and 6 more; " in line
    assert not target.exists() and not list(state.rglob("*.npz"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_image_whose_maps_are_not_finite_is_the_one_that_is_named(
    person_folder, tmp_path, monkeypatch, small_blocks, value
):
    seen = []

    def estimate(*arguments, **options):
        raw = stage_estimate(*arguments, **options)
        seen.append(raw)
        if len(seen) == 2:  # images 3, 4, 5
            raw[1, 7, 0, 0] = value
        return raw

    stage_estimate = stage.estimate
    monkeypatch.setattr(stage, "estimate", estimate)
    with pytest.raises(UserError, match=r"small\.safetensors: .* weights, for 4\.png; nothing"):
        make(person_folder, tmp_path / "t.h5")
    monkeypatch.undo()
    assert make(person_folder, tmp_path / "t.h5") == 8


@pytest.fixture
def theirs(person_folder, tmp_path):
    """A file of another program at the target's place."""
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["image"] = ["0.png"]
    return tmp_path / "t.h5", file_hash(tmp_path / "t.h5")


def test_another_estimators_file_is_never_overwritten(person_folder, theirs):
    target, content = theirs
    with pytest.raises(UserError, match=r"t\.h5: nothing was made: it is another estimator's"):
        make(person_folder, target)
    assert file_hash(target) == content


def test_nor_one_that_is_put_there_meanwhile(person_folder, theirs, monkeypatch, capsys):
    target, content = theirs
    aside = target.rename(target.with_name("aside"))
    compute = stage._compute

    def bring(*arguments):
        compute(*arguments)
        aside.rename(target)

    monkeypatch.setattr(stage, "_compute", bring)
    make(person_folder, target)
    assert file_hash(target) == content
    assert f"note: {target} was not overwritten" in capsys.readouterr().out


def test_external_makes_nothing(person_folder, tmp_path):
    external = SETTINGS.model_copy(update={"estimator": "external"})
    with pytest.raises(UserError, match=r"setting pose\.estimator: external makes no heatmaps"):
        make(person_folder, tmp_path / "t.h5", settings=external)


@pytest.mark.parametrize("photographs", [True, False])
def test_the_command_says_in_how_many_images_nobody_was_found(
    person_folder, tmp_path, monkeypatch, photographs
):
    """A black image shows nobody; the demo's own estimator on photographs is warned of."""
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((128, 64, 3), np.uint8))
    command = ["heatmaps", "make", str(person_folder), "--split", "train", "--threads", "1"]
    command += ["--weights", str(SMALL_WEIGHTS), "--out", str(tmp_path / "t.h5")]
    command += ["--state", str(tmp_path / "state"), "--settings", SETTINGS.model_dump_json()]
    result = CliRunner().invoke(app, command + ["--photographs"] * photographs)
    assert result.exit_code == 0, result.output
    last = result.stdout.splitlines()[-1]
    assert "nobody found in 1 of 8 images (12.5 %), where fewer than 3 of 17 keypoints" in last
    assert last.startswith("warning: ") == photographs
    assert ("hrnet_small was trained on drawn people" in last) == photographs


def many_photographs(manifest, copies):
    """Every photograph of the folder under many names."""
    rows = manifest.read_text().splitlines()
    for copy in range(1, copies):
        for index in range(8):
            os.link(manifest.parent / f"{index}.png", manifest.parent / f"{copy}-{index}.png")
            rows.append(f"{copy}-{index}.png,train,{index // 2},1")
    manifest.write_text("\n".join(rows) + "\n")


def limited(size):
    """A process's files may have this many bytes: what a disk that runs full feels like."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(("size", "blocks"), [(100, 0), (50_000, 10)])
def test_a_disk_that_runs_full_is_one_line_and_loses_no_block(
    person_folder, tmp_path, size, blocks
):
    """Full at the first block, and full while the store is written."""
    many_photographs(person_folder, 10)
    settings = SETTINGS.model_copy(update={"batch_size": 1})
    command = [sys.executable, "-m", "pgfl", "heatmaps", "make", str(person_folder)]
    command += ["--split", "train", "--weights", str(SMALL_WEIGHTS), "--out", "full.h5"]
    command += ["--state", "state", "--settings", settings.model_dump_json(), "--threads", "1"]
    run = partial(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True)
    result = run(preexec_fn=limited(size))
    assert result.returncode == 1, result.stderr
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "File too large; the file system takes no larger file here" in error
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "full.h5").exists() and not list(tmp_path.glob(".full*"))
    assert len(list((tmp_path / "state").rglob("*.npz"))) == blocks
    assert f"full.h5: {80 - 8 * blocks} images computed" in run(check=True).stdout
    make(person_folder, tmp_path / "whole.h5", settings=settings)
    assert file_hash(tmp_path / "full.h5") == file_hash(tmp_path / "whole.h5")


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


HOLD = (
    "import sys; from pathlib import Path; from pgfl.pose.stage import _held\n"
    "with _held(Path(sys.argv[1]), (1, 2)): print('held', flush=True); sys.stdin.read()"
)


def test_shards_share_the_blocks_and_nobody_computes_the_same_twice(
    person_folder, tmp_path, small_blocks, monkeypatch
):
    monkeypatch.setattr("pgfl.runtime.locks.PATIENCE", 0)
    target = tmp_path / "shared.h5"
    command = [sys.executable, "-c", HOLD, str(target.with_suffix(".state"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        for shard in ((1, 2), (1, 1)):
            with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
                make(person_folder, target, shard)
        assert make(person_folder, target, (2, 2)) == 3
        holder.stdin.close()
        holder.wait()
    assert make(person_folder, target) == 5
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_block_is_computed_again(person_folder, tmp_path, small_blocks, damage):
    make(person_folder, tmp_path / "whole.h5")
    target = tmp_path / "again.h5"
    make(person_folder, target, (1, 2))
    block = sorted(target.with_suffix(".state").rglob("*.npz"))[0]
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 1
    block.write_bytes(content[:100] if damage == "cut" else content)
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


def _run(manifest, target):
    """A whole stage in a process of its own."""
    torch.set_num_threads(1)
    stage.BATCHES_A_BLOCK = 1
    make(manifest, target)


def test_ten_kills_at_random_moments_change_nothing(person_folder, tmp_path):
    """Real processes, kill -9, moments spread over the whole run."""
    many_photographs(person_folder, 60)
    # Forked from a server that has imported everything, so that a run is mostly its own work.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pgfl.pose.stage", "mmpose.models", "cv2"])

    def start(target):
        process = context.Process(target=_run, args=(person_folder, target))
        process.start()
        return process

    for name in ("warm.h5", "whole.h5"):
        began = time.monotonic()
        undisturbed = start(tmp_path / name)
        undisturbed.join()
        duration = time.monotonic() - began
        assert undisturbed.exitcode == 0
    whole, target = file_hash(tmp_path / "whole.h5"), tmp_path / "killed.h5"
    moments, kills = random.Random(0), 0
    while kills < 10:
        process = start(target)
        process.join(moments.uniform(0.03, 0.3) * duration)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if target.exists():
            # It came to its end between two kills; the next one begins anew.
            assert file_hash(target) == whole
            target.unlink()
    last = start(target)
    last.join()
    assert last.exitcode == 0
    assert file_hash(target) == whole
    assert not target.with_suffix(".state").exists()
