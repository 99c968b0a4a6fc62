import csv
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from pgfl.errors import UserError
from pgfl.networks.build import matcher_of
from pgfl.networks.saved import load_student, load_trained
from pgfl.pose.estimators import SMALL_WEIGHTS
from pgfl.pose.heatmaps import merge, spatial_softmax
from pgfl.pose.hrnet import load_estimator
from pgfl.pose.settings import PoseSettings
from pgfl.reporting.paper import speed_table
from pgfl.reporting.paper.speed_table import (
    Trained,
    guided_embedder,
    random_gallery,
    rank,
    seconds_a_query,
    student_embedder,
    write_speed_table,
)

POSE = PoseSettings(estimator="hrnet_small", height=128, width=64)
TINY = {"queries": 3, "warm_up": 1, "gallery": 20}
"""Together more queries than there are images."""


@pytest.fixture(scope="module")
def trained(save_run):
    """The files of an untrained network and of the small pose network."""
    return Trained(*save_run(0), SMALL_WEIGHTS, POSE)


@pytest.fixture(scope="module")
def manifest(queries):
    return queries[0]


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (64, 32, 3), dtype=np.uint8)


def test_the_table_has_the_papers_rows_and_two_measured_ones(trained, manifest, tmp_path):
    out = tmp_path / "table9.csv"
    write_speed_table(trained, manifest, "demo", out, **TINY)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    published = {row["method"]: row["seconds"] for row in rows[:6]}
    assert published == {
        "DSR": "4.84",
        "SFR": "4.65",
        "PGFA": "0.82",
        "PGFA w/o pose": "0.12",
        "PCB": "0.09",
        "PGFL-KD (Ours)": "0.08",
    }
    assert [row["source"] for row in rows] == ["published"] * 6 + ["reproduced"] * 2
    assert all(row["device"] == "" for row in rows[:6])
    for row in rows[6:]:
        assert float(row["seconds"]) > 0 and row["device"]
        assert row["threads"] == str(torch.get_num_threads())
        assert (row["queries"], row["gallery"], row["experiment"]) == ("3", "20", "demo")
    text = out.with_suffix(".md").read_text()
    assert "does not say on which machine" in text and "{" not in text
    assert "Not the paper's experiment" in text and "a gallery of 20," in text


def test_the_warm_up_does_not_count_and_methods_take_turns(manifest, monkeypatch):
    clock = [0.0]
    seen = []

    def taking(method, seconds):
        durations = iter(seconds)

        def embed(image):
            clock[0] += next(durations)
            seen.append((method, image[0, 0].tolist()))
            return torch.ones(1, 4)

        return embed

    monkeypatch.setattr(speed_table.time, "perf_counter", lambda: clock[0])
    images = [manifest.parent / name for name in ("0.png", "1.png")]
    # The first two queries are slow.
    embedders = {"a": taking("a", (100, 100, 1, 5, 3)), "b": taking("b", (70, 70, 7, 2, 9))}
    found = seconds_a_query(embedders, torch.ones(6, 4), images, queries=3, warm_up=2)
    assert found == {"a": 3, "b": 7}
    assert [method for method, _ in seen] == ["a", "b"] * 5
    pixels = [pixel for method, pixel in seen if method == "a"]
    assert pixels == [pixels[0], pixels[1]] * 2 + [pixels[0]] and pixels[0] != pixels[1]


def test_the_ranking_is_by_cosine_similarity():
    gallery = random_gallery(30, 8, torch.device("cpu"))
    torch.testing.assert_close(gallery.norm(dim=1), torch.ones(30))
    feature = torch.randn(1, 8, generator=torch.Generator().manual_seed(1))
    cosines = [float(torch.cosine_similarity(feature[0], row, dim=0)) for row in gallery]
    expected = sorted(range(30), key=lambda row: -cosines[row])
    assert rank(feature, gallery).tolist() == expected


@torch.inference_mode()
def test_what_is_timed_is_the_student_and_the_whole_network(trained, image, model_settings):
    student, _ = load_student(trained.model)
    pixels = torch.from_numpy(image)[None]
    assert torch.equal(student_embedder(student, model_settings)(image), student(pixels))

    matcher = matcher_of(*load_trained(trained.model, trained.branches), "fused")
    estimator = load_estimator(POSE.estimator, SMALL_WEIGHTS)
    larger = cv2.resize(image, (64, 128), interpolation=cv2.INTER_LINEAR)
    maps = spatial_softmax(merge(estimator(torch.from_numpy(larger)[None])), POSE.softmax_scale)
    found = guided_embedder(matcher, model_settings, estimator, POSE)(image)
    torch.testing.assert_close(found, matcher(pixels, maps))


def test_a_model_that_is_not_there_is_named(trained, manifest, tmp_path):
    missing = Trained(tmp_path / "none.safetensors", trained.branches, SMALL_WEIGHTS, POSE)
    with pytest.raises(UserError, match=r"none\.safetensors: no such weights file"):
        write_speed_table(missing, manifest, "demo", tmp_path / "table9.csv", **TINY)
    assert not (tmp_path / "table9.csv").exists()


def test_another_programs_pose_network_is_not_timed(trained, manifest, tmp_path):
    external = POSE.model_copy(update={"estimator": "external"})
    files = replace(trained, pose_weights=None, pose=external)
    out = tmp_path / "table9.csv"
    write_speed_table(files, manifest, "demo", out, **TINY)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows[6:]] == ["PGFL-KD"]
    assert "its network cannot be timed" in out.with_suffix(".md").read_text()
