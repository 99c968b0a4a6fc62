import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pgfl.config.recipe import Recipe
from pgfl.pose.store import HeatmapWriter
from pgfl.training.stage import Inputs


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "code was run")


@pytest.fixture(autouse=True, scope="package")
def switches():
    """The global switches of a training run are put back afterwards."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def trap(tmp_path):
    """An object that writes `marker` when it is unpickled, and the marker's path."""
    marker = tmp_path / "marker"
    return Trap(marker), marker


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Sixteen random images of four identities, with a manifest and a heatmap store."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(16):
        name = f"images/{index:02}.png"
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), rng.integers(0, 256, (40, 20, 3), dtype=np.uint8))
        # Identities are neither sorted nor without gaps.
        rows.append({"image": name, "split": "train", "pid": (9, 3, 50, 7)[index % 4], "camid": 0})
    manifest = folder / "manifest.csv"
    pd.DataFrame(rows).to_csv(manifest, index=False)
    maps = rng.random((16, 8, 16, 8)).astype(np.float32) ** 8
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    with HeatmapWriter(folder / "train.h5", [r["image"] for r in rows], (16, 8), {}) as writer:
        writer.write(0, maps, np.ones((16, 17), np.float32))
    return Inputs(manifest, folder / "train.h5", None)


@pytest.fixture(scope="session")
def command_line():
    """The command that the workflow would run."""

    def make(inputs, recipe, out, state, workers=0):
        command = [sys.executable, "-m", "pgfl", "train", inputs.manifest, "--out", out]
        command += ["--state", state, "--heatmaps", inputs.heatmaps, "--threads", "1"]
        command += ["--workers", workers, "--settings", recipe.model_dump_json()]
        return [str(part) for part in command]

    return make


@pytest.fixture(scope="session")
def make_recipe():
    """A recipe small enough for a test, with some settings changed."""

    def make(baseline: bool = False, **training):
        return Recipe.parse(
            {
                "model": {
                    "backbone": "resnet18",
                    "pretrained": False,
                    "height": 64,
                    "width": 32,
                },
                "method": "bot" if baseline else "pgfl_kd",
                "training": {
                    "epochs": 3,
                    "identities": 2,
                    "images": 2,
                    "milestones": (2,),
                    "precision": "fp32",
                    "augment": {"pad": 3},
                }
                | training,
            }
        )

    return make
