import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pgfl.config.recipe import Recipe
from pgfl.errors import UserError
from pgfl.methods.pgfl_kd.matching import FEATURES
from pgfl.methods.pgfl_kd.settings import Settings
from pgfl.networks.build import build_network, matcher_of
from pgfl.networks.saved import (
    load_trained,
    read_metadata,
    save_branches,
    save_student,
    save_tensors,
)
from pgfl.nn.batch import Batch

BASELINE = {"reid_on": ("global",), "lambda_cl": 0, "lambda_mcl": 0}


def recipe_of(small, **settings):
    return Recipe(model=small, settings=Settings(**{"second_layer4": "shared"} | settings))


def batch_of(images, heatmaps):
    nobody = torch.zeros(len(images), dtype=torch.int64)
    return Batch(images, nobody, nobody, heatmaps)


def save_run(folder, small, **settings):
    """The two files of a training run, with statistics that tell normalisations apart."""
    torch.manual_seed(0)
    recipe = recipe_of(small, **settings)
    network = build_network(recipe, identities=5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    write_run(network, recipe, folder)
    return network.eval()


def write_run(network, recipe, folder):
    save_student(network.student, recipe, folder / "model.safetensors")
    save_branches(network, recipe, folder / "model.safetensors", folder / "branches.safetensors")


@pytest.fixture
def run(tmp_path, small):
    """A run of the whole method: its network and its two files."""
    network = save_run(tmp_path, small)
    return network, tmp_path / "model.safetensors", tmp_path / "branches.safetensors"


def match(run, feature, images, heatmaps, **options):
    matcher = matcher_of(*load_trained(*run[1:]), feature, **options)
    with torch.inference_mode():
        return matcher(images, heatmaps)


def normalised(feature, norm):
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (feature - norm.running_mean) * scale + norm.bias


@pytest.mark.parametrize("feature", FEATURES)
def test_a_saved_run_gives_the_features_of_the_network_in_memory(run, images, heatmaps, feature):
    network = run[0]
    with torch.no_grad():
        features, _ = network(batch_of(images, heatmaps))
        expected = features[feature]
        if feature in network.necks:
            expected = network.necks[feature].norm(expected)
    found = match(run, feature, images, heatmaps)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    raw = match(run, feature, images, heatmaps, after_norm=False)
    torch.testing.assert_close(raw, features[feature], rtol=1e-4, atol=1e-4)
    assert torch.equal(raw, found) == (feature in ("part", "foreground"))


@pytest.mark.parametrize("after_norm", [True, False])
def test_the_global_feature_is_the_students_to_the_last_bit(run, images, heatmaps, after_norm):
    student = load_trained(*run[1:])[0].student
    with torch.inference_mode():
        expected = student(images, after_norm)
    for maps in (heatmaps, None):
        found = match(run, "global", images, maps, after_norm=after_norm)
        assert torch.equal(found, expected)


def test_the_enhanced_feature_follows_from_the_equations(run, images, heatmaps):
    network = run[0]
    with torch.no_grad():
        feature_map = network.student.feature_map(images).double().numpy()
    norm = network.necks["enhanced"].norm
    found = match(run, "enhanced", images, heatmaps)
    for image, own in enumerate(feature_map):
        channels, h, w = own.shape
        parts = []
        for part in heatmaps[image].double().numpy():
            # Maps are twice the feature map's size here: a place is the mean of four.
            place = part.reshape(h, 2, w, 2).mean(axis=(1, 3))
            place /= place.sum()
            parts.append(sum(place[i, j] * own[:, i, j] for i in range(h) for j in range(w)))
        mean = own.mean(axis=(1, 2))
        f_l = np.mean(parts, axis=0) - mean
        scores = np.zeros((h, w))
        for i in range(h):
            for j in range(w):
                special = own[:, i, j] - mean
                cosine = special @ f_l / np.linalg.norm(special) / np.linalg.norm(f_l)
                scores[i, j] = np.exp(cosine / network.settings.attention_temperature)
        attention = scores / scores.sum()
        f_f = sum(attention[i, j] * own[:, i, j] for i in range(h) for j in range(w))
        f_e = torch.from_numpy(f_f + mean).float()
        expected = normalised(f_e, norm)
        torch.testing.assert_close(found[image], expected, rtol=1e-3, atol=1e-3)


def test_the_fused_feature_follows_from_the_equations(run, images, heatmaps):
    network = run[0]
    f_g, f_p = (
        match(run, name, images, heatmaps, after_norm=False) for name in ("global", "part")
    )
    expected = normalised(f_g + f_p, network.necks["fused"].norm)
    found = match(run, "fused", images, heatmaps)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("feature", "kept"),
    [
        ("part", {"student", "part_branch"}),
        ("fused", {"student", "part_branch"}),
        ("foreground", {"student"}),
        ("enhanced", {"student"}),
    ],
)
def test_only_what_the_feature_needs_is_kept(run, feature, kept):
    matcher = matcher_of(*load_trained(*run[1:]), feature)
    names = [name for name, _ in matcher.network.named_parameters()]
    assert {name.split(".")[0] for name in names} == kept


@pytest.mark.parametrize(
    ("feature", "stages"), [("part", 1), ("foreground", 1), ("fused", 2), ("enhanced", 2)]
)
def test_with_a_last_stage_of_the_branches_a_feature_takes_only_the_stages_it_needs(
    tmp_path, small, images, heatmaps, feature, stages
):
    network = save_run(tmp_path, small, second_layer4="separate")
    with torch.no_grad():  # no longer a copy of the student's
        network.branch_layer4[0].conv1.weight.mul_(-1)
    write_run(network, recipe_of(small, second_layer4="separate"), tmp_path)
    files = tmp_path / "model.safetensors", tmp_path / "branches.safetensors"
    with torch.inference_mode():
        expected = network(batch_of(images, heatmaps)).features[feature]
    found = match((None, *files), feature, images, heatmaps, after_norm=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    names = dict(matcher_of(*load_trained(*files), feature).named_parameters())
    assert sum("layer4.0.conv1" in name for name in names) == stages


def test_a_baseline_has_no_part_feature_but_a_foreground(tmp_path, small, images, heatmaps):
    save_run(tmp_path, small, **BASELINE)
    files = tmp_path / "model.safetensors", tmp_path / "branches.safetensors"
    with pytest.raises(UserError, match="feature part: this model was trained without"):
        matcher_of(*load_trained(*files), "part")
    found = match((None, *files), "foreground", images, heatmaps)
    assert found.shape == (4, 512)


def test_files_of_two_runs_are_refused(run, tmp_path, small):
    """Also where every shape fits: features of two trainings would be mixed without a word."""
    _, model, branches = run
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "model.safetensors"
    recipe = recipe_of(small)
    save_student(build_network(recipe, 5).student, recipe, other)
    with pytest.raises(
        UserError, match=r"branches\.safetensors: not of the run that made .*other"
    ):
        load_trained(other, branches)
    with pytest.raises(UserError, match="not the branches of a training run"):
        load_trained(model, model)


def test_a_missing_or_an_unknown_key_is_named(run, small):
    network, model, branches = run
    state, key = load_file(branches), "part_branch.reductions.3.0.weight"
    mark = read_metadata(branches)
    save_tensors({name: value for name, value in state.items() if name != key}, branches, mark)
    with pytest.raises(UserError, match=r"missing: part_branch\.reductions\.3\.0\.weight"):
        load_trained(model, branches)
    save_tensors(state | {"extra": torch.zeros(1)}, branches, mark)
    with pytest.raises(UserError, match="unexpected: extra"):
        load_trained(model, branches)


def test_only_safetensors_are_read(run, tmp_path):
    _, model, branches = run
    torch.save(load_file(branches), tmp_path / "branches.pt")
    with pytest.raises(UserError, match=r"branches\.pt: must be the branches\.safetensors"):
        load_trained(model, tmp_path / "branches.pt")
