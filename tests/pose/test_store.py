import multiprocessing
import pickle
import random

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch.utils.data import DataLoader

from pgfl.errors import UserError
from pgfl.pose.store import HeatmapReader, HeatmapWriter, decode, encode

NAMES = [f"train/{i:02}.jpg" for i in range(12)]

SHAPES = array_shapes(min_dims=4, max_dims=4, max_side=7)
NUMBERS = st.floats(0, 1, width=32) | st.sampled_from([0.0, 2.0**-40, 1.0])


def normalized(raw):
    """Maps (N, K, h, w) that sum to one, flat where nothing is left of one."""
    raw = raw.astype(np.float64) + 1e-9
    return (raw / raw.sum(axis=(2, 3), keepdims=True)).astype(np.float32)


def one_hot(size=(1, 1, 4, 3)):
    raw = np.zeros(size, np.float32)
    raw[..., -1, 1] = 1
    return raw


def barely_below_half_a_step():
    """One high cell, one empty one, and all others so small that they would round to nothing."""
    raw = np.full((1, 1, 16, 8), 0.49 / 255, np.float32)
    raw[0, 0, 0, :2] = 1, 0
    return normalized(raw)


def sample_maps(count, size=(6, 4)):
    return normalized(np.random.default_rng(0).random((count, 8, *size)) ** 4)


@pytest.fixture
def store(tmp_path):
    """A store of twelve images, and the maps that were written, block by block."""
    path = tmp_path / "train.h5"
    maps = sample_maps(len(NAMES))
    confidence = np.random.default_rng(1).random((len(NAMES), 17)).astype(np.float32)
    with HeatmapWriter(path, NAMES, (6, 4), {"estimator": "hrnet_small"}) as writer:
        for start in range(0, len(NAMES), 5):
            writer.write(start, maps[start : start + 5], confidence[start : start + 5])
    return path, maps, confidence


def any_maps(test):
    """Random maps of all shapes, and those that quantising is hardest on."""
    for maps in (
        np.full((1, 1, 5, 4), 1 / 20, np.float32),
        one_hot(),
        np.ones((2, 3, 1, 1), np.float32),
        barely_below_half_a_step(),
    ):
        test = example(maps)(test)
    return given(arrays(np.float32, SHAPES, elements=NUMBERS).map(normalized))(test)


@any_maps
def test_a_decoded_value_is_within_a_step_of_the_true_one(maps):
    codes, affine = encode(maps)
    assert codes.dtype == np.uint8 and codes.shape == maps.shape
    error = np.abs(decode(codes, affine).astype(np.float64) - maps)
    low, peak = (f(maps, axis=(2, 3), keepdims=True) for f in (np.min, np.max))
    assert np.all(error <= (peak - low) / 255 * 1.001 + 1e-6 * peak)


@any_maps
def test_decoded_maps_sum_to_one_and_are_not_negative(maps):
    decoded = decode(*encode(maps))
    assert decoded.dtype == np.float32 and decoded.shape == maps.shape
    assert decoded.min() >= 0
    np.testing.assert_allclose(decoded.sum(axis=(2, 3)), 1, rtol=1e-5)


def test_flat_maps_and_one_hot_maps_survive_unchanged():
    flat = np.full((1, 8, 6, 4), np.float32(1 / 24))
    for maps in (flat, one_hot()):
        np.testing.assert_allclose(decode(*encode(maps)), maps, rtol=1e-6)


def test_the_background_keeps_its_mass():
    maps = np.full((1, 1, 96, 32), 0.7 / 3072, np.float32)
    maps[0, 0, 40, 9] += 0.3
    decoded = decode(*encode(maps))[0, 0]
    assert decoded[40, 9] == pytest.approx(maps[0, 0, 40, 9], rel=1e-3)
    assert decoded[0, 0] == pytest.approx(maps[0, 0, 0, 0], rel=1e-3)


def test_what_was_written_is_read(store):
    path, maps, confidence = store
    reader = HeatmapReader(path)
    assert len(reader) == len(NAMES) and reader.images() == NAMES
    assert reader.attributes()["estimator"] == "hrnet_small"
    np.testing.assert_array_equal(reader.confidence(), confidence)
    for row, written in enumerate(maps):
        assert reader[row].dtype == np.float32
        np.testing.assert_array_equal(reader[row], decode(*encode(written[None]))[0])


def test_the_parts_are_named_in_the_file(store):
    with h5py.File(store[0]) as file:
        assert '"torso": [5, 6, 11, 12]' in file.attrs["groups"]
        assert file["heatmaps"].dtype == np.uint8


def test_worker_processes_read_the_same_after_a_fork(store):
    reader = HeatmapReader(store[0])
    expected = np.stack([reader[row] for row in range(len(reader))])
    loader = DataLoader(reader, batch_size=None, num_workers=2, multiprocessing_context="fork")
    for _ in range(2):
        np.testing.assert_array_equal(np.stack([maps.numpy() for maps in loader]), expected)
    np.testing.assert_array_equal(reader[3], expected[3])


def test_an_open_reader_can_be_sent_to_other_processes(store):
    reader = HeatmapReader(store[0])
    expected = [reader[row] for row in range(len(reader))]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))[5], expected[5])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(reader.__getitem__, range(len(reader)))
    np.testing.assert_array_equal(found, expected)


def test_the_images_of_the_manifest_are_required(store):
    reader = HeatmapReader(store[0])
    reader.require(NAMES)
    with pytest.raises(UserError, match="holds 12 images, the manifest 11"):
        reader.require(NAMES[:-1])
    with pytest.raises(UserError, match=r"row 0 is train/00.jpg, the manifest has train/01.jpg"):
        reader.require([NAMES[1], NAMES[0], *NAMES[2:]])


def test_a_missing_or_damaged_store_is_an_error(store, tmp_path):
    with pytest.raises(UserError, match=r"none.h5: no such heatmap file"):
        HeatmapReader(tmp_path / "none.h5").require(NAMES)
    damaged = tmp_path / "half.h5"
    content = store[0].read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"half.h5: not a heatmap file"):
        len(HeatmapReader(damaged))


def test_a_file_of_another_kind_is_an_error(tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(UserError, match=r"other.h5: attribute format_version is not 1"):
        HeatmapReader(path).require(NAMES)


def test_data_in_another_file_is_refused(store, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["heatmaps"] = np.ones((12, 8, 6, 4), np.uint8)
    with h5py.File(store[0], "r+") as file:
        del file["heatmaps"]
        file["heatmaps"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/heatmaps")
    with pytest.raises(UserError, match="/heatmaps lies in another file"):
        HeatmapReader(store[0]).images()
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(12 * 17 * 4))
    with h5py.File(store[0], "r+") as file:
        del file["heatmaps"], file["confidence"]
        file.create_dataset("confidence", (12, 17), "f4", external=[(str(secret), 0, 816)])
    with pytest.raises(UserError, match="/confidence lies in another file"):
        HeatmapReader(store[0]).images()


def test_sizes_that_the_file_cannot_hold_are_refused_unread(store):
    with h5py.File(store[0], "r+") as file:
        del file["confidence"], file["image"], file["affine"], file["usable"], file["heatmaps"]
        count = 2**40
        file.create_dataset("image", (count,), h5py.string_dtype(), chunks=(1,))
        file.create_dataset("confidence", (count, 17), "f4", chunks=(1, 17))
        file.create_dataset("heatmaps", (count, 8, 2, 2), "f4", chunks=(1, 8, 2, 2))
    with pytest.raises(UserError, match=r"/confidence has shape .* more than the file can hold"):
        HeatmapReader(store[0]).images()


def test_no_flipped_bit_goes_unnoticed(store):
    path, _, _ = store
    content, places = path.read_bytes(), random.Random(0)
    for place in [20, 80, 511, *(places.randrange(512, len(content)) for _ in range(200))]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << places.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"train\.h5: damaged: its checksum is wrong; delete"):
            HeatmapReader(path).require(NAMES)


def test_a_file_without_our_checksum_is_taken_as_it_is(store, tmp_path):
    path, maps, _ = store
    with h5py.File(path) as ours, h5py.File(tmp_path / "theirs.h5", "w") as theirs:
        for name in ours:
            ours.copy(name, theirs)
        theirs.attrs.update(ours.attrs)
    reader = HeatmapReader(tmp_path / "theirs.h5")
    reader.require(NAMES)
    np.testing.assert_array_equal(reader[3], HeatmapReader(path)[3])
