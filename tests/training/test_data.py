import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import chain

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgfl.datasets.images import read_image, resized
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.pose.keypoints import part_confidence
from pgfl.pose.store import HeatmapReader, HeatmapWriter
from pgfl.training.data import (
    EpochSampler,
    TrainingImages,
    batches,
    derangement,
    make_loader,
)


def build(inputs, recipe, maps=True, seed=0):
    table = read_manifest(inputs.manifest, "train")
    reader = HeatmapReader(inputs.heatmaps) if maps else None
    if reader is not None:
        reader.require(list(table["image"]))  # opens the file, as a run does before it forks
    return TrainingImages(inputs.manifest.parent, table, reader, recipe, seed)


def epochs(images, recipe, workers, seed=0, count=2):
    """All batches of some epochs."""
    sampler = EpochSampler(images.labels, recipe, seed)
    loader = make_loader(images, sampler, workers)
    found = []
    for epoch in range(count):
        sampler.epoch = epoch
        found.append(list(loader))
    return found


@pytest.fixture
def still():
    return {"augment": {"flip": 0, "pad": 0, "erase": 0}}


def test_the_number_of_workers_changes_no_bit(data, make_recipe):
    recipe = make_recipe()
    alone, helped = (epochs(build(data, recipe), recipe, workers) for workers in (0, 2))
    for first, second in zip(alone, helped, strict=True):
        for ours, theirs in zip(first, second, strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal(ours.heatmaps, theirs.heatmaps)


@pytest.mark.parametrize("way", ["memory", "pipe"])
def test_batches_need_no_shared_memory_and_are_the_same_either_way(
    data, make_recipe, monkeypatch, way
):
    recipe = make_recipe()
    if way == "pipe":
        monkeypatch.delattr("os.memfd_create")  # as on a system that has none
    # What PyTorch would have put into /dev/shm.
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", None)
    monkeypatch.setattr(torch.UntypedStorage, "_share_filename_cpu_", None)
    alone, helped = (epochs(build(data, recipe), recipe, workers) for workers in (0, 1))
    for ours, theirs in zip(*map(chain.from_iterable, (alone, helped)), strict=True):
        assert torch.equal(ours.images, theirs.images) and ours.images.dtype == torch.uint8
        assert torch.equal(ours.labels, theirs.labels) and ours.labels.dtype == torch.int64
        assert torch.equal(ours.heatmaps, theirs.heatmaps)
        theirs.images.add_(1)  # as its own


PAPERS_BATCHES = """
import sys, time
from pathlib import Path
import torch
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.pose.store import HeatmapReader
from pgfl.config.recipe import Recipe
from pgfl.training.data import EpochSampler, TrainingImages, batches, make_loader

torch.set_num_threads(1)
folder = Path(sys.argv[1])
table = read_manifest(folder / "manifest.csv", "train")
size = {"height": 384, "width": 128}
recipe = Recipe.parse({"model": size, "training": {"identities": 4, "images": 16}})
reader = HeatmapReader(folder / "train.h5")
reader.require(list(table["image"]))
images = TrainingImages(folder, table, reader, recipe)
images.maps_of[:] = 0
sampler = EpochSampler(images.labels, recipe, 0)
sampler.batches = lambda: [[0] * 64] * 12
try:
    for batch in batches(make_loader(images, sampler, 4)):
        time.sleep(0.1)
        print(batch.images.nbytes + batch.heatmaps.nbytes)
except UserError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.parametrize(("size", "works"), [("64m", True), ("4k", False)])
def test_the_papers_batches_in_a_containers_shared_memory(tmp_path, data, size, works):
    """/dev/shm of Docker's size, and one that is full; 4 x 2 batches are 126 MB."""
    (tmp_path / "run.py").write_text(PAPERS_BATCHES)
    (tmp_path / "images").symlink_to(data.manifest.parent / "images")
    (tmp_path / "manifest.csv").symlink_to(data.manifest)
    image_names = list(pd.read_csv(data.manifest)["image"])
    maps = np.full((16, 8, 96, 32), 1 / (96 * 32), np.float32)
    with HeatmapWriter(tmp_path / "train.h5", image_names, (96, 32), {}) as writer:
        writer.write(0, maps, np.ones((16, 17), np.float32))
    script = f"mount -t tmpfs -o size={size} tmpfs /dev/shm || exit 77; "
    script += "" if works else "head -c 4096 /dev/zero > /dev/shm/others; "
    script += f'exec "{sys.executable}" -W ignore run.py .'
    command = ["unshare", "-m", "sh", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if done.returncode in (1, 77) and "ermi" in done.stderr:
        pytest.skip("a mount namespace needs root")
    if works:
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(64 * (384 * 128 * 3 + 8 * 96 * 32 * 4))] * 12
    else:
        assert done.returncode == 1 and done.stdout == ""
        assert re.fullmatch(
            r"error: loader processes cannot start .*/dev/shm is full.*--shm-size.*"
            r"resources\.workers.*\n",
            done.stderr,
        )


AFTER_OPENCV = """
import sys
from pathlib import Path

import cv2
import numpy as np
from pgfl.config.recipe import Recipe
from pgfl.datasets.manifest import read_manifest
from pgfl.training.data import EpochSampler, TrainingImages, make_loader

cv2.setNumThreads(4)
cv2.GaussianBlur(np.zeros((2000, 2000)), (0, 0), 3)  # starts OpenCV's threads
folder = Path(sys.argv[1])
sizes = {"height": 64, "width": 32, "backbone": "resnet18"}
recipe = Recipe.parse({"model": sizes, "training": {"identities": 2, "images": 2}})
images = TrainingImages(folder, read_manifest(folder / "manifest.csv", "train"), None, recipe)
loader = make_loader(images, EpochSampler(images.labels, recipe, 0), 1)
print(sum(len(batch.images) for batch in loader))
"""


def test_loader_processes_start_whatever_opencv_did_before(data):
    """A forked process has no threads to end: it waited for OpenCV's for ever."""
    command = [sys.executable, "-c", AFTER_OPENCV, str(data.manifest.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and int(done.stdout) >= 4, done.stderr


def test_seeds_and_epochs_give_other_batches(data, make_recipe):
    recipe = make_recipe()
    images = build(data, recipe)
    first, second = epochs(images, recipe, 0)
    (other,) = epochs(images, recipe, 0, seed=1, count=1)
    assert not torch.equal(first[0].images, second[0].images)
    assert not torch.equal(first[0].images, other[0].images)


def test_epochs_draw_other_rows(data, make_recipe):
    recipe = make_recipe()
    sampler = EpochSampler(build(data, recipe).labels, recipe, seed=0)
    drawn = []
    for sampler.epoch in (0, 1, 0):
        drawn.append(sampler.batches())
    assert drawn[0] != drawn[1] and drawn[0] == drawn[2]


def test_an_epoch_can_be_repeated(data, make_recipe):
    recipe = make_recipe()
    first, second = (epochs(build(data, recipe), recipe, 0, count=1)[0] for _ in range(2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))


def test_a_batch_holds_images_labels_and_maps_of_the_same_rows(data, make_recipe, still):
    recipe = make_recipe(**still)
    images = build(data, recipe)
    sampler = EpochSampler(images.labels, recipe, seed=0)
    for rows, batch in zip(sampler.batches(), make_loader(images, sampler, 0), strict=True):
        assert batch.images.shape == (4, 64, 32, 3) and batch.images.dtype == torch.uint8
        assert batch.heatmaps.shape == (4, 8, 16, 8)
        for place, row in enumerate(rows):
            path = data.manifest.parent / images.images[row]
            expected = resized(read_image(path), 64, 32)
            assert np.array_equal(batch.images[place].numpy(), expected)
            assert np.array_equal(batch.heatmaps[place].numpy(), images.heatmaps[row])
            assert batch.labels[place] == images.labels[row]
            sure = part_confidence(images.heatmaps.confidence()[row])
            assert np.array_equal(batch.confidence[place].numpy(), sure)


@given(st.integers(2, 40), st.integers(0, 2**32))
def test_a_derangement_moves_every_row_to_another(count, seed):
    others = derangement(count, seed)
    assert sorted(others) == list(range(count)) and (others != np.arange(count)).all()
    assert np.array_equal(others, derangement(count, seed))


def test_shuffled_maps_are_those_of_another_image_and_always_the_same_one(
    data, make_recipe, still
):
    recipe = make_recipe(heatmaps="shuffled", **still)
    images, plain = build(data, recipe), build(data, make_recipe(heatmaps="true", **still))
    owners = []
    for row in range(16):
        sample, label, _ = images[row, (0, 0, 0)]
        own, own_label, _ = plain[row, (0, 0, 0)]
        assert np.array_equal(sample.image, own.image) and label == own_label
        maps = sample.heatmaps
        assert not np.array_equal(maps, own.heatmaps)
        (owner,) = (other for other in range(16) if np.array_equal(maps, plain.heatmaps[other]))
        assert np.array_equal(sample.confidence, plain.confidence[owner])
        assert np.array_equal(images[row, (0, 7, 3)][0].heatmaps, maps)
        owners.append(owner)
    assert sorted(owners) == list(range(16))
    assert list(build(data, recipe, seed=1).maps_of) != owners


def test_flat_maps_are_flat_under_every_augmentation(data, make_recipe):
    images, plain = (build(data, make_recipe(heatmaps=kind)) for kind in ("flat", "estimated"))
    for row in range(16):
        sample, label, _ = images[row, (0, 0, row)]
        expected, expected_label, _ = plain[row, (0, 0, row)]
        assert np.array_equal(sample.image, expected.image) and label == expected_label
        maps, true = sample.heatmaps, expected.heatmaps
        assert maps.shape == true.shape and maps.dtype == true.dtype
        assert (maps == np.float32(1 / (16 * 8))).all() and not np.array_equal(maps, true)
        assert (sample.confidence == 1).all() and sample.confidence.dtype == np.float32


def test_identities_are_numbered_in_the_order_of_their_pids(data, make_recipe):
    images = build(data, make_recipe())
    assert images.num_identities == 4
    assert images.labels == [2, 0, 3, 1] * 4  # of pids 9, 3, 50, 7


def test_a_baseline_gets_no_maps(data, make_recipe):
    recipe = make_recipe(baseline=True)
    ((batch, *_),) = epochs(build(data, recipe, maps=False), recipe, 0, count=1)
    assert batch.heatmaps is None and batch.images.shape == (4, 64, 32, 3)


def test_no_two_draws_of_a_run_share_their_numbers(data, make_recipe):
    recipe = make_recipe()
    sampler = EpochSampler(build(data, recipe).labels, recipe, seed=5)
    seeds = []
    for sampler.epoch in range(3):
        seeds += [seed for batch in sampler for _, seed in batch]
    assert len(set(seeds)) == len(seeds) and {seed[0] for seed in seeds} == {5}


@pytest.mark.parametrize(("accumulate", "processes"), [(2, 1), (1, 3), (2, 3), (3, 2)])
def test_parts_and_shares_make_the_batches_again(make_recipe, accumulate, processes):
    labels = [row % 13 for row in range(60)]
    recipe, whole = (
        make_recipe(identities=12, images=3, accumulate=parts) for parts in (accumulate, 1)
    )
    samplers = [
        EpochSampler(labels, recipe, 5, rank, processes=processes) for rank in range(processes)
    ]
    expected = EpochSampler(labels, whole, 5)
    for epoch in (0, 1):
        expected.epoch = epoch
        for sampler in samplers:
            sampler.epoch = epoch
        shares = [list(sampler) for sampler in samplers]
        # Rank by rank a part, part by part a batch: the same draws in the same order.
        parts = [list(chain(*part)) for part in zip(*shares, strict=True)]
        batches = [
            list(chain(*parts[start : start + accumulate]))
            for start in range(0, len(parts), accumulate)
        ]
        assert batches == list(expected)
        assert len(samplers[0]) == len(shares[0]) == accumulate * len(expected)
        for share in shares[0]:
            owners = [labels[row] for row, _ in share]
            assert all(owners.count(owner) == 3 for owner in owners)


def test_identities_that_cannot_be_dealt_are_an_error(make_recipe):
    with pytest.raises(UserError, match=r"6 identities in 3 part\(s\) .* evenly to 4 devices"):
        EpochSampler([0, 1, 2], make_recipe(identities=6, accumulate=3), 0, processes=4)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_an_error(data, make_recipe, workers):
    recipe = make_recipe()
    images = build(data, recipe)
    images.images = ["images/none.png"] * 16
    sampler = EpochSampler(images.labels, recipe, seed=0)
    loader = make_loader(images, sampler, workers)
    with pytest.raises(UserError, match=r"none\.png: cannot be read") as caught:
        list(batches(loader))
    assert "\n" not in str(caught.value)


def test_maps_that_are_not_finite_are_named_and_no_learning_rate_is_blamed(
    data, make_recipe, tmp_path
):
    """A file may change under a run that has checked it."""
    wrong = tmp_path / "train.h5"
    shutil.copy(data.heatmaps, wrong)
    with h5py.File(wrong, "r+") as file:
        file["affine"][6, 0, 0] = np.inf
    with wrong.open("r+b") as file:
        file.write(bytes(512))
    images = build(replace(data, heatmaps=wrong), make_recipe())
    images[5, (0, 0, 0)]
    with pytest.raises(UserError, match=r"train\.h5: the maps of images/06\.png hold NaN"):
        images[6, (0, 0, 0)]
