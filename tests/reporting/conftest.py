from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pgfl.models.pgfl import PGFL
from pgfl.models.student_file import save_student, save_tensors
from pgfl.pose.store import HeatmapWriter
from pgfl.recipe import LossSettings, ModelSettings
from pgfl.training.stage import _branches

SETTINGS = ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32)


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Tiny tensors are slower on several threads, the more so when other processes run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model_settings():
    """Of all the models here."""
    return SETTINGS


@pytest.fixture(scope="session")
def save_run(tmp_path_factory):
    """Save an untrained network with both branches: its model and its branches."""

    def save(seed: int) -> tuple[Path, Path]:
        torch.manual_seed(seed)
        network = PGFL(SETTINGS, LossSettings(), identities=5)
        folder = tmp_path_factory.mktemp("run")
        save_student(network.student, SETTINGS, folder / "model.safetensors")
        save_tensors(_branches(network), folder / "branches.safetensors")
        return folder / "model.safetensors", folder / "branches.safetensors"

    return save


@pytest.fixture(scope="session")
def queries(tmp_path_factory):
    """The manifest of three query images, and the store of their heatmaps."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    names = ["0.png", "1.png", "2.png"]
    for name in names:
        assert cv2.imwrite(str(folder / name), rng.integers(0, 256, (50, 20, 3), dtype=np.uint8))
    table = pd.DataFrame({"image": names, "split": "query", "pid": 1, "camid": 0})
    table.to_csv(folder / "manifest.csv", index=False)
    maps = rng.random((3, 8, 16, 8)).astype(np.float32) ** 8
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    with HeatmapWriter(folder / "query.h5", names, (16, 8), {}) as writer:
        writer.write(0, maps, np.ones((3, 17), np.float32))
    return folder / "manifest.csv", folder / "query.h5"
