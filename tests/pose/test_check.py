import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from pgfl.errors import UserError
from pgfl.pose.check import check_store
from pgfl.pose.keypoints import GROUPS
from pgfl.pose.store import HeatmapReader, HeatmapWriter

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "heatmaps.md"
IMAGES = [f"images/{index}.jpg" for index in range(6)]


@pytest.fixture
def store(tmp_path):
    """A store of six images as our own stage writes it."""
    maps = np.random.default_rng(0).random((6, 8, 12, 4), np.float32)
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    with HeatmapWriter(tmp_path / "train.h5", IMAGES, (12, 4), {"estimator": "x"}) as writer:
        writer.write(0, maps, np.ones((6, 17), np.float32))
    return tmp_path / "train.h5"


def unsealed(store):
    """The same file without its checksum, as another program would write it."""
    with store.open("r+b") as file:
        file.write(bytes(512))
    return store


def test_our_own_files_pass(store):
    check_store(store, IMAGES)


def replaced(name, change):
    def apply(file):
        old = file[name][:]
        del file[name]
        new = change(old)
        if new is not None:
            file[name] = new

    return apply


def put(name, index, value):
    def apply(file):
        file[name][index] = value

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.attrs.update(format_version=2), "format_version is not 1"),
        (lambda file: file.attrs.update(groups="{}"), "attribute groups is not"),
        (replaced("heatmaps", lambda _: None), "/heatmaps is missing"),
        (replaced("affine", lambda _: None), "/affine is missing"),
        (replaced("confidence", lambda old: old[:, :16]), r"/confidence has shape \(6, 16\)"),
        (replaced("heatmaps", lambda old: old[:5]), r"/heatmaps has shape \(5, 8, 12, 4\)"),
        (replaced("heatmaps", lambda old: old[:, :7]), r"expected \(6, 8, h, w\)"),
        (replaced("heatmaps", lambda old: old.astype("int32")), "neither uint8 codes nor"),
        (replaced("image", lambda _: np.arange(6)), "/image does not hold text"),
        (replaced("image", lambda old: old[::-1]), r"row 0 is images/5\.jpg, the manifest has"),
        (put("affine", (3, 2, 0), np.nan), "NaN or infinity: 1 images, the first is row 3"),
        (put("affine", (4, 0, 0), 0.5), "more than 0.001 from one: 1 images, the first is row 4"),
        (put("affine", (5, 1, 0), -1.0), "a map is negative: 1 images, the first is row 5"),
        (put("confidence", (2, 16), np.inf), "confidence holds NaN or infinity: 1 images"),
    ],
)
def test_what_does_not_fit_is_said(store, damage, message):
    with h5py.File(unsealed(store), "r+") as file:
        damage(file)
    with pytest.raises(UserError, match=message) as caught:
        check_store(store, IMAGES)
    assert all(line.startswith(f"{store}: ") for line in str(caught.value).splitlines())


def test_several_faults_are_said_together(store):
    with h5py.File(unsealed(store), "r+") as file:
        put("confidence", slice(1, 4), np.nan)(file)
        put("affine", (0, 0, 0), np.inf)(file)
    with pytest.raises(UserError) as caught:
        check_store(store, IMAGES)
    assert len(str(caught.value).splitlines()) == 2
    assert "3 images, the first is row 1: images/1.jpg, images/2.jpg, images/3.jpg" in str(
        caught.value
    )


@pytest.mark.parametrize("content", [b"", b"no HDF5", None])
def test_what_is_no_hdf5_file_is_said(store, content):
    whole = store.read_bytes()
    store.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(UserError, match=r"train\.h5: .*damaged.*; delete it, then run the same"):
        check_store(store, IMAGES)


def test_a_file_cut_within_the_data_is_said(store):
    with h5py.File(unsealed(store), "r+") as file:
        at = file["heatmaps"].id.get_chunk_info(0)
    content = bytearray(store.read_bytes())
    content[at.byte_offset : at.byte_offset + at.size] = bytes(at.size)
    store.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.h5: not a heatmap file, or damaged \(.*filter"):
        check_store(store, IMAGES)


def test_the_documents_script_writes_a_file_that_passes_and_can_be_read(tmp_path):
    """As somebody with another estimator would: nothing of pgfl but what the page says."""
    rows = "".join(f"{image},train,{index},1\n" for index, image in enumerate(IMAGES))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("image,split,pid,camid\n" + rows)
    (script,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert "pgfl" not in script
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "pgfl", "heatmaps", "check", "train.h5"]
    result = subprocess.run(
        [*command, "--manifest", "manifest.csv"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0 and "fits manifest.csv, train: 6 images" in result.stdout
    maps = HeatmapReader(tmp_path / "train.h5")[3]
    assert maps.dtype == np.float32 and maps.shape == (8, 32, 16)
    assert np.unravel_index(maps[0].argmax(), maps[0].shape) == (16, 8)


def test_the_document_names_our_groups_and_version():
    assert json.dumps(GROUPS) in DOCUMENT.read_text()
