"""Whose a heatmap file is decides whether the workflow may overwrite it."""

import hashlib
import json
import os

import h5py
import numpy as np
import pytest

from pgfl.pose.keypoints import GROUPS
from pgfl.pose.origin import KEPT, MADE_AGAIN, advice, is_external, stamp
from pgfl.pose.store import HeatmapReader, HeatmapWriter

NAMES = [f"{index}.jpg" for index in range(4)]


def write_ours(path, estimator="hrnet_w48"):
    attributes = {"estimator": estimator} if estimator else {}
    with HeatmapWriter(path, NAMES, (6, 4), attributes) as writer:
        writer.write(0, np.full((4, 8, 6, 4), 1 / 24, np.float32), np.ones((4, 17), np.float32))
    return path


def write_theirs(path, user_block=0, **attributes):
    """As docs/heatmaps.md tells another estimator's author."""
    with h5py.File(path, "w", userblock_size=user_block) as file:
        file.attrs.update({"format_version": 1, "groups": json.dumps(GROUPS)} | attributes)
        file["image"] = NAMES
        file["heatmaps"] = np.full((4, 8, 6, 4), 1 / 24, np.float32)
        file["confidence"] = np.ones((4, 17), np.float32)
    return path


@pytest.mark.parametrize("estimator", ["hrnet_w48", "hrnet_small", "hrnet_w32_256x192", ""])
def test_what_our_stage_writes_is_ours(tmp_path, estimator):
    path = write_ours(tmp_path / "train.h5", estimator)
    assert not is_external(path) and advice(path) == MADE_AGAIN
    assert HeatmapReader(path).images() == NAMES


def test_our_writer_with_another_estimators_maps_is_theirs(tmp_path):
    path = write_ours(tmp_path / "train.h5", "MoveNet Thunder")
    assert is_external(path) and HeatmapReader(path).images() == NAMES


@pytest.mark.parametrize("user_block", [0, 512, 4096])
@pytest.mark.parametrize("attributes", [{}, {"estimator": "movenet"}, {"estimator": "hrnet_w48"}])
def test_another_programs_file_is_theirs_whatever_it_says(tmp_path, user_block, attributes):
    path = write_theirs(tmp_path / "train.h5", user_block, **attributes)
    assert is_external(path) and advice(path) == KEPT


def test_ours_whose_checksum_was_zeroed_on_purpose_is_kept(tmp_path):
    path = write_ours(tmp_path / "train.h5")
    with path.open("r+b") as file:
        file.write(bytes(512))
    assert is_external(path)


def test_what_was_written_before_the_seal_named_the_estimator_is_ours_and_is_read(tmp_path):
    path = write_ours(tmp_path / "train.h5")
    content = path.read_bytes()[512:]
    seal = b"sha256 " + hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(seal.ljust(512, b"\0") + content)
    assert not is_external(path) and HeatmapReader(path).images() == NAMES


def test_what_is_no_heatmap_file_is_nobodys(tmp_path):
    path = tmp_path / "train.h5"
    assert not is_external(path)
    for content in (b"", b"no HDF5", bytes(10_000)):
        path.write_bytes(content)
        assert not is_external(path)


def test_links_and_what_cannot_be_read_were_put_there_by_somebody(tmp_path):
    path, away = tmp_path / "train.h5", tmp_path / "disk" / "maps.h5"
    path.symlink_to(away)
    assert is_external(path)
    away.parent.mkdir()
    write_theirs(away)
    assert is_external(path)
    folder = tmp_path / "query.h5"
    folder.mkdir()
    assert is_external(folder)


def test_a_stamp_tells_contents_of_one_size_apart_and_knows_no_times(tmp_path):
    path = tmp_path / "train.h5"
    content = bytearray(np.random.default_rng(0).bytes(100_000))
    path.write_bytes(content)
    first = stamp(path)
    os.utime(path, (1e9, 1e9))
    assert stamp(path) == first
    path.write_bytes(content[::-1])
    assert stamp(path) != first
    path.unlink()
    assert stamp(path) == ""
