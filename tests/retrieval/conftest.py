import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pgfl.config.recipe import Recipe
from pgfl.methods.bot import Student
from pgfl.networks.saved import save_student
from pgfl.nn.backbone import build_backbone
from pgfl.nn.settings import ModelSettings

SETTINGS = ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32)


@pytest.fixture(scope="session")
def student():
    """An untrained student in evaluation mode, and its settings."""
    torch.manual_seed(0)
    model = (
        Student(Recipe().settings, build_backbone(SETTINGS))
        .eval()
        .to(memory_format=torch.channels_last)
    )
    model.norm.running_mean.fill_(0.5)
    return model, SETTINGS


@pytest.fixture(scope="session")
def model_file(student, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_student(student[0], Recipe(model=SETTINGS), path)
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A manifest: three queries with a match, one without, and a gallery of eight."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = [("query", pid, 0) for pid in (1, 2, 3, 4)]
    rows += [("gallery", pid, camera) for pid in (1, 2, 3) for camera in (0, 1)]
    rows += [("gallery", 4, 0), ("gallery", 7, 1)]
    table = pd.DataFrame(rows, columns=["split", "pid", "camid"])
    table.insert(0, "image", [f"{index:02}.png" for index in range(len(rows))])
    for name in table["image"]:
        pixels = rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / name), pixels)
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"
