"""Looking inside trained networks, against formulas and cases whose answer is known."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pgfl.config.recipe import Recipe, nested
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.networks.build import build_network
from pgfl.networks.saved import load_trained, save_branches, save_student
from pgfl.pose.store import HeatmapReader, HeatmapWriter
from pgfl.reporting.more import diagnosis
from pgfl.reporting.more.diagnosis import Trained, measure, write_diagnosis
from pgfl.training.data import EpochSampler, TrainingImages, make_loader

BASELINE = {"method": "bot"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixteen random images of four people with random, peaked maps: manifest and store."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(16):
        name = f"{index:02}.png"
        assert cv2.imwrite(str(folder / name), rng.integers(0, 256, (40, 20, 3), dtype=np.uint8))
        rows.append({"image": name, "split": "train", "pid": index % 4, "camid": 0})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    maps = rng.random((16, 8, 16, 8)).astype(np.float32) ** 8
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    with HeatmapWriter(folder / "train.h5", [r["image"] for r in rows], (16, 8), {}) as writer:
        writer.write(0, maps, np.ones((16, 17), np.float32))
    return folder / "manifest.csv", folder / "train.h5"


@pytest.fixture
def make_network(data, tmp_path):
    """Saves a network with random weights, as a training run of a recipe would."""

    def make(method=None, **settings) -> Trained:
        size = {"backbone": "resnet18", "pretrained": False, "height": 64, "width": 32}
        training = {"identities": 2, "images": 4}
        given = nested((method or {}) | settings)
        recipe = Recipe.parse(given | {"model": size, "training": training})
        torch.manual_seed(0)
        network = build_network(recipe, identities=4)
        student, branches = tmp_path / "model.safetensors", tmp_path / "branches.safetensors"
        save_student(network.student, recipe, student)
        save_branches(network, recipe, student, branches)
        maps = data[1] if recipe.settings.needs_heatmaps else None
        return Trained(student, branches, maps, recipe)

    return make


def diagnose(network, manifest, seed):
    """The means over the batches, by column."""
    return measure(network, manifest, seed).mean().to_dict()


def features_of(network, manifest):
    """All features of all training batches, from the network itself."""
    model, _ = load_trained(network.model, network.branches)
    model.train()
    table = read_manifest(manifest, "train")
    reader = HeatmapReader(network.heatmaps)
    images = TrainingImages(manifest.parent, table, reader, network.recipe, seed=3)
    for batch in make_loader(images, EpochSampler(images.labels, network.recipe, 3), 0):
        with torch.no_grad():
            yield model(batch).features


def test_lengths_cosines_and_the_pull_of_eq_4_follow_from_the_features(data, make_network):
    network = make_network()
    found = diagnose(network, data[0], seed=3)
    wanted = []
    for features in features_of(network, data[0]):
        f_g, f_e = features["global"].numpy(), features["enhanced"].numpy()
        lengths = np.linalg.norm(f_g, axis=1)
        cosine = (f_g * f_e).sum(axis=1) / lengths / np.linalg.norm(f_e, axis=1)
        # |g/|g| - e/|e||^2 = 2 - 2 cos, whose slope in g is 2 sin / |g|.
        pull = 0.25 * 100 * 2 * np.sqrt(np.clip(1 - cosine**2, 0, None)) / lengths
        wanted.append([lengths.mean(), cosine.mean(), pull.mean()])
    length, cosine, pull = np.mean(wanted, axis=0)
    assert found["length.global"] == pytest.approx(length, rel=1e-5)
    assert found["cos.enhanced"] == pytest.approx(cosine, abs=1e-5)
    assert found["pull.cl"] == pytest.approx(pull, rel=2e-2) and pull > 0


def test_an_attention_that_looks_everywhere_alike_says_so(data, make_network):
    found = diagnose(make_network(attention="uniform"), data[0], seed=0)
    assert found["attention.entropy"] == pytest.approx(1, abs=1e-6)
    assert found["attention.on_parts"] == pytest.approx(found["attention.area"], abs=1e-6)
    assert found["cos.foreground"] == pytest.approx(1, abs=1e-5)
    assert found["pull.cl"] == pytest.approx(0, abs=1e-4)
    assert found["length.foreground"] == pytest.approx(found["length.global"], rel=1e-5)


def test_a_sharper_attention_has_less_entropy(data, make_network):
    flat = diagnose(make_network(), data[0], seed=0)["attention.entropy"]
    sharp = diagnose(make_network(attention_temperature=0.005), data[0], seed=0)
    assert 0 <= sharp["attention.entropy"] < flat < 1


def test_doubling_a_loss_doubles_its_pull_and_no_other(data, make_network):
    once = diagnose(make_network({"lambda_mcl": 0.25}), data[0], seed=0)
    twice = diagnose(make_network({"lambda_mcl": 0.5}), data[0], seed=0)
    assert twice["pull.mcl"] == pytest.approx(2 * once["pull.mcl"], rel=1e-5)
    assert once["pull.mcl"] > 0
    assert twice["pull.id_global"] == pytest.approx(once["pull.id_global"], rel=1e-5)


def test_a_baseline_has_its_own_columns_only(data, make_network):
    found = diagnose(make_network(BASELINE), data[0], seed=0)
    assert set(found) == {"length.global", "pull.id_global", "pull.triplet_global"}


def test_the_table_has_a_row_a_network_and_nothing_where_it_has_no_such_branch(
    data, make_network, tmp_path
):
    out = tmp_path / "results/diagnosis.csv"
    networks = {"baseline": make_network(BASELINE)}
    write_diagnosis(networks, data[0], 0, "demo", out)
    networks["again"] = networks["baseline"]
    write_diagnosis(networks, data[0], 0, "demo", out)
    table = pd.read_csv(out, index_col="variant")
    assert list(table.index) == ["baseline", "again"]
    assert table.loc["baseline"].equals(table.loc["again"])
    assert list(table["batches"]) == [2, 2]  # an epoch of 16 images in batches of 8
    assert "Not the paper's experiment" in out.with_suffix(".md").read_text()


def test_branches_of_another_run_are_refused(data, make_network, tmp_path):
    network = make_network()
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    model = build_network(network.recipe, identities=4)
    save_student(model.student, network.recipe, other)
    with pytest.raises(UserError, match="not of the run"):
        diagnose(replace(network, model=other), data[0], seed=0)


def test_no_more_batches_are_measured_than_asked_for(data, make_network, monkeypatch):
    monkeypatch.setattr(diagnosis, "BATCHES", 1)
    assert len(measure(make_network(BASELINE), data[0], seed=0)) == 1


def test_a_foreground_branch_that_only_eq_4_needs_is_there(data, make_network):
    found = diagnose(make_network({"reid_on": ("global", "fused"), "lambda_mcl": 0}), data[0], 0)
    assert found["pull.cl"] > 0 and "cos.enhanced" in found


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            [f"other{i}.png" for i in range(16)],
            r"other\.h5: row 0 is other0\.png, the manifest has",
        ),
        (["00.png", "01.png"], r"other\.h5: holds 2 images, the manifest 16"),
    ],
)
def test_heatmaps_of_other_images_are_refused(data, make_network, tmp_path, names, message):
    maps = np.full((len(names), 8, 16, 8), 1 / 128, np.float32)
    with HeatmapWriter(tmp_path / "other.h5", names, (16, 8), {}) as writer:
        writer.write(0, maps, np.ones((len(names), 17), np.float32))
    with pytest.raises(UserError, match=message):
        measure(replace(make_network(), heatmaps=tmp_path / "other.h5"), data[0], seed=0)


def test_a_recipe_with_branches_needs_heatmaps(data, make_network):
    with pytest.raises(UserError, match="its recipe needs heatmaps of split train"):
        measure(replace(make_network(), heatmaps=None), data[0], seed=0)


def test_a_manifest_with_other_people_is_refused(data, make_network, tmp_path):
    table = pd.read_csv(data[0]).replace({"pid": {3: 4}})
    table.loc[0, "pid"] = 9
    manifest = data[0].with_name("other.csv")
    table.to_csv(manifest, index=False)
    with pytest.raises(
        UserError, match=r"other\.csv: has 5 identities to train on, but .* knows 4"
    ):
        measure(make_network(), manifest, seed=0)


def test_a_recipe_of_another_network_is_refused(data, make_network):
    whole = make_network().recipe
    with pytest.raises(UserError, match=r"branches\.safetensors: was trained with other settings"):
        measure(replace(make_network(BASELINE), recipe=whole, heatmaps=data[1]), data[0], seed=0)
