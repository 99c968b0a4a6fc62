import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pgfl.config.recipe import Recipe
from pgfl.datasets.images import read_image, resized
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.methods import METHODS
from pgfl.networks.build import build_network, matcher_of
from pgfl.networks.saved import (
    load_student,
    load_trained,
    save_branches,
    save_network,
    save_student,
)
from pgfl.pose.store import HeatmapReader, HeatmapWriter
from pgfl.reporting.more.outcomes import read_queries
from pgfl.retrieval import evaluate
from pgfl.retrieval.embed import embed
from pgfl.retrieval.guided import embed_guided, run_guided_evaluation
from pgfl.retrieval.rerank import evaluate_reranked
from pgfl.retrieval.stage import run_evaluation
from pgfl.runtime.files import file_hash

OPTIONS = {"metric": "cosine", "feature": "after_bnneck", "batch_size": 3}


@pytest.fixture(scope="module")
def run(student, tmp_path_factory):
    """The files of an untrained network with both branches."""
    _, settings = student
    torch.manual_seed(0)
    recipe = Recipe(model=settings)
    network = build_network(recipe, identities=5)
    folder = tmp_path_factory.mktemp("run")
    save_student(network.student, recipe, folder / "model.safetensors")
    save_branches(network, recipe, folder / "model.safetensors", folder / "branches.safetensors")
    return folder / "model.safetensors", folder / "branches.safetensors"


@pytest.fixture(scope="module")
def heatmaps(data, tmp_path_factory):
    """Random stores of both splits."""
    folder = tmp_path_factory.mktemp("heatmaps")
    rng = np.random.default_rng(0)
    files = {}
    for split in ("query", "gallery"):
        names = list(read_manifest(data, split)["image"])
        maps = rng.random((len(names), 8, 16, 8)).astype(np.float32) ** 8
        maps /= maps.sum(axis=(2, 3), keepdims=True)
        files[split] = folder / f"{split}.h5"
        with HeatmapWriter(files[split], names, (16, 8), {}) as writer:
            writer.write(0, maps, np.ones((len(names), 17), np.float32))
    return files


def guided(run, data, heatmaps, split, feature, batch_size):
    network, recipe = load_trained(*run)
    names = list(read_manifest(data, split)["image"])
    reader = HeatmapReader(heatmaps[split])
    matcher = matcher_of(network, recipe, feature)
    return embed_guided(matcher, recipe.model, data.parent, names, reader, batch_size).matrix


def test_the_global_feature_is_the_students(run, data, heatmaps):
    network, recipe = load_trained(*run)
    names = list(read_manifest(data, "gallery")["image"])
    expected = embed(network.student, recipe.model, data.parent, names, batch_size=3)
    found = guided(run, data, heatmaps, "gallery", "global", 3)
    assert found.dtype == np.float32 and np.array_equal(found, expected)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_image_meets_its_own_maps(run, data, heatmaps, batch_size):
    found = guided(run, data, heatmaps, "gallery", "fused", batch_size)
    network, recipe = load_trained(*run)
    matcher, settings = matcher_of(network, recipe, "fused"), recipe.model
    names = list(read_manifest(data, "gallery")["image"])
    reader = HeatmapReader(heatmaps["gallery"])
    for row, name in enumerate(names):
        pixels = resized(read_image(data.parent / name), settings.height, settings.width)
        with torch.inference_mode():
            expected = matcher(torch.from_numpy(pixels)[None], torch.from_numpy(reader[row])[None])
        np.testing.assert_allclose(found[row], expected[0].numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("use", "neck"),
    [
        ("global", "after_bnneck"),
        ("part", "no_bnneck"),
        ("fused", "after_bnneck"),
        ("foreground", "no_bnneck"),
        ("enhanced", "after_bnneck"),
    ],
)
def test_the_report_is_of_the_feature(run, data, heatmaps, tmp_path, use, neck):
    out = tmp_path / "eval" / f"set.{use}.json"
    report = run_guided_evaluation(
        run[0], data, out, use=use, branches=run[1], heatmaps=heatmaps, **OPTIONS
    )
    assert json.loads(out.read_text()) == report
    features = [guided(run, data, heatmaps, s, use, 3) for s in ("query", "gallery")]
    splits = [read_manifest(data, split) for split in ("query", "gallery")]
    ids = [table[column].to_numpy() for column in ("pid", "camid") for table in splits]
    expected = evaluate(*features, *ids, metric="cosine")
    assert report["mAP"] == expected.mAP and report["rank1"] == expected.cmc[1]
    assert (report["use"], report["feature"]) == (use, neck)
    assert report["branches_sha256"] == file_hash(run[1])
    assert report["heatmaps_sha256"]["query"] == file_hash(heatmaps["query"])
    plain = run_evaluation(run[0], data, tmp_path / "set.json", **OPTIONS)
    assert plain.keys() <= report.keys()
    assert report["counts"] == plain["counts"] and report["chance"] == plain["chance"]
    if use == "global":
        assert report["mAP"] == plain["mAP"]


def test_before_the_bnneck_is_an_option_where_there_is_one(run, data, heatmaps, tmp_path):
    options = OPTIONS | {"feature": "before_bnneck"}
    found = {
        use: run_guided_evaluation(
            run[0],
            data,
            tmp_path / "out.json",
            use=use,
            branches=run[1],
            heatmaps=heatmaps,
            **options,
        )["feature"]
        for use in ("fused", "part")
    }
    assert found == {"fused": "before_bnneck", "part": "no_bnneck"}


def test_heatmaps_of_other_images_are_refused(run, data, heatmaps, tmp_path):
    swapped = {"query": heatmaps["gallery"], "gallery": heatmaps["query"]}
    with pytest.raises(UserError, match=r"gallery\.h5: holds 8 images, the manifest 4"):
        run_guided_evaluation(
            run[0],
            data,
            tmp_path / "out.json",
            use="part",
            branches=run[1],
            heatmaps=swapped,
            **OPTIONS,
        )
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN or infinity"), (-1.0, "negative"), (2.0, r"more than 0\.001 from one")],
)
def test_maps_with_impossible_values_are_refused(run, data, heatmaps, tmp_path, value, message):
    wrong = tmp_path / "gallery.h5"
    shutil.copy(heatmaps["gallery"], wrong)
    with h5py.File(wrong, "r+") as file:
        file["affine"][1, 2, 0] = value
    with wrong.open("r+b") as file:
        file.write(bytes(512))  # changed on purpose
    files = heatmaps | {"gallery": wrong}
    options = {"use": "part", "branches": run[1], "heatmaps": files, **OPTIONS}
    with pytest.raises(UserError, match=rf"gallery\.h5: .*{message}.*first is row 1: "):
        run_guided_evaluation(run[0], data, tmp_path / "out.json", **options)


@pytest.fixture
def whole(student, tmp_path, monkeypatch):
    """The files of a method that has several vectors, needs the pose, and leaves no student."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    monkeypatch.setitem(METHODS, "visible_stripes", "tests.retrieval.visible_stripes")
    torch.manual_seed(0)
    values = {"method": "visible_stripes", "model": student[1].model_dump()}
    recipe = Recipe.parse(values)
    network = build_network(recipe, identities=5)
    network.norm.running_mean.uniform_()
    files = tmp_path / "model.safetensors", tmp_path / "branches.safetensors"
    save_network(network, recipe, *files)
    return network.eval(), *files


def test_a_whole_network_comes_back_bit_by_bit(whole):
    network, model, branches = whole
    found, recipe = load_trained(model, branches)
    assert recipe.method == "visible_stripes" and not found.training
    expected = network.state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.state_dict().items())
    assert found.shared is found.norm


def test_a_whole_network_is_no_student(whole, data, tmp_path):
    _, model, _ = whole
    with pytest.raises(UserError, match=r"model\.safetensors: holds a whole network of visible_"):
        load_student(model)
    with pytest.raises(UserError, match=r"only `pgfl evaluate --branches` can match with it"):
        run_evaluation(model, data, tmp_path / "out.json", **OPTIONS)


@pytest.mark.parametrize("feature", ["after_bnneck", "before_bnneck"])
@pytest.mark.parametrize("rerank", [False, True])
def test_a_method_without_a_student_is_evaluated_by_all_it_embeds(
    whole, data, heatmaps, tmp_path, feature, rerank
):
    network, model, branches = whole
    options = OPTIONS | {"feature": feature, "rerank": rerank}
    run = {"variant": "stripes", "method": "visible_stripes", "seed": 0}
    report = run_guided_evaluation(
        model,
        data,
        tmp_path / "out.json",
        use="global",
        branches=branches,
        heatmaps=heatmaps,
        queries=tmp_path / "queries.csv",
        run=run,
        **options,
    )
    splits = {split: read_manifest(data, split) for split in ("query", "gallery")}
    features, size = [], (64, 32)
    network.to(memory_format=torch.channels_last)
    for split, table in splits.items():
        pixels = [resized(read_image(data.parent / name), *size) for name in table["image"]]
        maps = torch.from_numpy(HeatmapReader(heatmaps[split]).read(slice(None)))
        with torch.inference_mode():
            found = network.embed(
                torch.from_numpy(np.stack(pixels)), maps, None, feature == "after_bnneck"
            )
        features.append(found.mapped(torch.Tensor.numpy))
    assert features[0].shape == (4, 3, 512) and features[0].visibility.shape == (4, 3)
    ids = [table[column].to_numpy() for column in ("pid", "camid") for table in splits.values()]
    expected = (evaluate_reranked if rerank else evaluate)(*features, *ids)
    assert report["mAP"] == pytest.approx(expected.mAP)
    assert report["rank1"] == expected.cmc[1]
    assert (report["use"], report["feature"]) == ("global", feature)
    assert (
        json.loads((tmp_path / "out.json").read_text()) == report and run.items() <= report.items()
    )
    table = read_queries(tmp_path / "queries.csv")
    assert table["AP"].mean() == pytest.approx(expected.mAP)


def test_a_method_that_needs_the_pose_says_so(whole, data, tmp_path):
    _, model, branches = whole
    options = {"use": "global", "branches": branches, **OPTIONS}
    with pytest.raises(UserError, match=r"visible_stripes needs the heatmaps .*--heatmaps-query"):
        run_guided_evaluation(model, data, tmp_path / "out.json", **options)
    with pytest.raises(UserError, match=r"branches\.safetensors: is of the method visible_stri"):
        run_guided_evaluation(model, data, tmp_path / "o.json", **options, run={"method": "pcb"})


def test_a_method_may_have_a_distance_of_its_own(whole, data, heatmaps, tmp_path, monkeypatch):
    network, model, branches = whole

    def first_part(network, query, gallery):
        return torch.cdist(query.vectors[:, 0], gallery.vectors[:, 0])

    monkeypatch.setattr(type(network), "distance", first_part, raising=False)
    report = run_guided_evaluation(
        model,
        data,
        tmp_path / "out.json",
        use="global",
        branches=branches,
        heatmaps=heatmaps,
        queries=tmp_path / "queries.csv",
        **OPTIONS,
    )
    monkeypatch.delattr(type(network), "distance")
    features, ids = [], []
    for split in ("query", "gallery"):
        table = read_manifest(data, split)
        reader = HeatmapReader(heatmaps[split])
        network, recipe = load_trained(model, branches)
        matcher = matcher_of(network, recipe, "global")
        names = list(table["image"])
        found = embed_guided(matcher, recipe.model, data.parent, names, reader)
        features.append(found.vectors[:, 0])
        ids.append(table)
    columns = [table[column].to_numpy() for column in ("pid", "camid") for table in ids]
    expected = evaluate(*features, *columns, metric="euclidean")
    assert report["distance"] == "own" and report["mAP"] == pytest.approx(expected.mAP)
    table = read_queries(tmp_path / "queries.csv")
    nearest = np.linalg.norm(features[0][0] - features[1], axis=1)
    junk = (ids[1]["pid"] == ids[0]["pid"][0]) & (ids[1]["camid"] == ids[0]["camid"][0])
    assert table["score1"][0] == pytest.approx(-nearest[~junk].min(), abs=1e-3)
