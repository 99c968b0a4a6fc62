import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pgfl.config.recipe import Recipe
from pgfl.datasets.registry import TRAIN_SET
from pgfl.networks.build import build_network
from pgfl.networks.saved import save_branches, save_student
from pgfl.nn.settings import ModelSettings
from pgfl.pose.store import HeatmapWriter
from pgfl.reporting.paper.specs import TABLES
from pgfl.retrieval.queries import rank_queries, write_queries
from pgfl.runtime.files import file_hash


class Ranked(NamedTuple):
    """A test set whose gallery has been ranked."""

    manifest: Path
    heatmaps: Path
    files: dict[str, list[Path]]
    confidence: np.ndarray


VALUES = {"mAP": 3, "rank1": 5, "rank3": 7, "rank5": 8, "rank10": 9}
"""Made-up measures of the first variant and seed."""

SETTINGS = ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder that is the working folder, as a project's is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make_run(project):
    """Makes up one seed's run, with model, provenance and the evaluation of one test set."""

    def make(
        variant: str, test_set: str, seed: int, values: dict[str, float], feature: str = ""
    ) -> Path:
        run = Path("runs/demo", TRAIN_SET[test_set], variant, f"seed{seed}")
        (run / "eval").mkdir(parents=True, exist_ok=True)
        model = run / "model.safetensors"
        model.write_text(f"{run}")
        provenance = {
            "seed": seed,
            "git_commit": "c0ffee",
            "device": "cpu",
            "model_sha256": file_hash(model),
        }
        (run / "provenance.json").write_text(json.dumps(provenance))
        counts = {"query": 330, "gallery": 660, "query_identities": 30, "gallery_identities": 31}
        report = values | {
            "train_set": TRAIN_SET[test_set],
            "dataset": test_set,
            "variant": variant,
            "seed": seed,
            "counts": counts,
            "chance": {"rank1": 1.0, "mAP": 2.04},
            "metric": "cosine",
            "feature": "after_bnneck",
            "protocol": "multi_shot",
            "rerank": False,
            "manifest_sha256": f"of {test_set}",
            "model_sha256": file_hash(model),
        }
        if feature:
            report["use"] = feature
        file = run / "eval" / f"{test_set}{'.' if feature else ''}{feature}.json"
        file.write_text(json.dumps(report))
        return file

    return make


@pytest.fixture
def make_evaluations(make_run):
    """Makes up what a table needs.

    The value of each measure is 10 for each variant's place in the table, plus 1 for each test
    set's, plus 0.5 for each seed's, plus `VALUES`.
    """

    def make(number: int, seeds: int = 2, peers=()) -> dict[tuple[str, str], list[Path]]:
        spec = TABLES[number].with_peers(peers)
        return {
            (variant, test_set): [
                make_run(
                    variant,
                    test_set,
                    seed,
                    {metric: 10 * v + t + 0.5 * seed + value for metric, value in VALUES.items()},
                )
                for seed in range(seeds)
            ]
            for v, variant in enumerate(spec.reproduced.values())
            for t, test_set in enumerate(spec.test_sets)
        }

    return make


@pytest.fixture(scope="session")
def model_settings():
    """Of all the models here."""
    return SETTINGS


@pytest.fixture(scope="session")
def save_run(tmp_path_factory):
    """Save an untrained network with both branches: its model and its branches."""

    def save(seed: int) -> tuple[Path, Path]:
        torch.manual_seed(seed)
        recipe = Recipe(model=SETTINGS)
        network = build_network(recipe, identities=5)
        folder = tmp_path_factory.mktemp("run")
        save_student(network.student, recipe, folder / "model.safetensors")
        save_branches(
            network, recipe, folder / "model.safetensors", folder / "branches.safetensors"
        )
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


@pytest.fixture(scope="session")
def ranked(tmp_path_factory):
    """A test set with heatmaps, and what evaluations noted of its queries: two seeds a method.

    15 queries of 7 people, the last of whom has no match; 21 gallery images.
    """
    folder = tmp_path_factory.mktemp("ranked")
    rng = np.random.default_rng(5)
    rows = [("query", 1 + place % 6, 0) for place in range(14)] + [("query", 99, 0)]
    rows += [("gallery", 1 + place % 7, 1 + place % 2) for place in range(21)]
    table = pd.DataFrame(rows, columns=["split", "pid", "camid"])
    table.insert(0, "image", [f"{split}/{place}.png" for place, (split, _, _) in enumerate(rows)])
    for name in table["image"]:
        (folder / name).parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (24, 12, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / name), pixels)
    table.to_csv(folder / "manifest.csv", index=False)
    splits = {name: table[table["split"] == name].reset_index() for name in ("query", "gallery")}
    files = {"Baseline": [], "PGFL-KD": []}
    for method, some in files.items():
        for seed in range(2):
            features = {
                name: rng.standard_normal((len(rows), 6)).astype(np.float32)
                for name, rows in splits.items()
            }
            some.append(folder / f"{method}{seed}.queries.csv")
            write_queries(rank_queries(features, splits), some[-1])
    names = list(splits["query"]["image"])
    confidence = rng.random((15, 17)).astype(np.float32) ** rng.uniform(0.2, 3, (15, 1))
    maps = np.full((15, 8, 4, 2), 1 / 8, np.float32)
    with HeatmapWriter(folder / "query.h5", names, (4, 2), {}) as writer:
        writer.write(0, maps, confidence.astype(np.float32))
    return Ranked(folder / "manifest.csv", folder / "query.h5", files, confidence)
