import json
from pathlib import Path
from typing import get_args

import pytest
import yaml

from pgfl.config import (
    MADE_FROM,
    TRAIN_SET,
    WORKFLOW,
    Archived,
    Config,
    Dataset,
    load_config,
    read_yaml,
)
from pgfl.datasets.archives import SOURCES
from pgfl.errors import UserError
from pgfl.reporting.specs import TABLES
from pgfl.settings import merged

PRESETS = sorted(path.stem for path in (WORKFLOW / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("experiment", PRESETS)
def test_every_preset_is_valid_and_has_the_variants_of_every_table(experiment):
    config = load_config({"experiment": experiment})
    assert config.experiment == experiment
    for spec in TABLES.values():
        for variant in spec.reproduced.values():
            config.recipe(variant)


def test_the_shipped_configuration_is_valid():
    assert load_config(read_yaml(WORKFLOW.parent / "config.yaml")).experiment == "demo"


def test_the_paper_preset_is_the_papers_section_4_2():
    config = load_config({"experiment": "paper"})
    recipe = config.recipe("pgfl_kd")
    assert (recipe.model.height, recipe.model.width) == (384, 128)
    assert recipe.model.backbone == "resnet50" and recipe.model.pretrained
    training = recipe.training
    assert (training.identities, training.images) == (4, 16)
    assert (training.epochs, training.milestones, training.decay) == (120, (30, 70), 0.1)
    assert training.learning_rate == 3.5e-4
    assert (recipe.loss.lambda_cl, recipe.loss.lambda_mcl) == (0.25, 0.25)


def test_the_baseline_needs_no_pose_and_pgfl_kd_does():
    config = load_config({})
    assert not config.recipe("baseline").loss.uses_heatmaps
    assert config.recipe("pgfl_kd").loss.uses_part_branch
    assert config.recipe("pgfl_kd").loss.uses_foreground_branch


def test_user_settings_win_over_the_preset_and_variants_over_both():
    user = {
        "training": {"epochs": 7},
        "variants": {"mine": {"loss": {"lambda_cl": 3.0}, "training": {"epochs": 9}}},
    }
    config = load_config(user)
    assert config.recipe("pgfl_kd").training.epochs == 7
    mine = config.recipe("mine")
    assert (mine.training.epochs, mine.loss.lambda_cl) == (9, 3.0)
    assert mine.training.identities == config.training.identities


def test_the_study_keeps_its_results_apart():
    folders = {name: load_config({"experiment": name}).results for name in PRESETS}
    assert folders == {"demo": "results", "paper": "results", "study": "results/study"}


def test_a_file_of_the_users_replaces_a_drawn_archive():
    config = load_config({"archives": {"files": {"partial_reid": "mine.zip"}}})
    assert not config.is_synthetic("partial_reid")
    assert config.is_synthetic("market1501")


def test_partial_duke_is_as_real_as_the_images_that_it_is_made_from():
    assert load_config({}).is_synthetic("partial_duke")
    config = load_config({"archives": {"files": {"dukemtmc_reid": "mine.zip"}}})
    assert not config.is_synthetic("partial_duke")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"trainin": {}}, "setting trainin: no such setting; did you mean 'training'?"),
        ({"training": {"epoch": 3}}, "setting training.epoch: no such setting; did you mean"),
        ({"training": {"epochs": 0}}, "setting training.epochs: .*greater than or equal to 1"),
        ({"training": {"epochs": "ten"}}, "setting training.epochs: .*got 'ten'"),
        ({"training": 5}, "setting training: "),
        ({"experiment": "dmeo"}, "no experiment 'dmeo'; known: demo, paper, study"),
        ({"experiment": ["demo"]}, "setting experiment"),
        ({"model": {"height": 100}}, "setting model.height: .*multiple of 16"),
        (
            {"variants": {"mine": {"loss": {"lamda_cl": 1}}}},
            "setting variants.mine.loss.lamda_cl: no such setting; did you mean 'lambda_cl'",
        ),
        ({"loss": {"reid_on": ["part"]}}, "must hold 'global'"),
        ({"loss": {"reid_on": ["global", "global"]}}, "names a feature twice"),
        ({"model": {"attention": "dot"}}, "attention: dot needs part_pooling: mean"),
        ({"model": {"backbone": "vgg"}}, "setting model.backbone: .*resnet50.*got 'vgg'"),
        (
            {"model": {"backbone": "timm:vgg", "second_layer4": "separate"}},
            "second_layer4: separate needs a backbone of resnet18, resnet50",
        ),
        ({"training": {"accumulate": 3}}, "accumulate: 3 must divide identities: 16"),
        ({"training": {"accumulate": 16}}, "leave at least 2 in each part"),
        ({"archives": {"files": {"marke1501": "x"}}}, "archives.files.marke1501"),
        ({"archives": {"files": {"partial_duke": "x"}}}, "archives.files.partial_duke"),
        ({"partial_duke": {"seed": -1}}, "setting partial_duke.seed: "),
    ],
)
def test_a_wrong_setting_is_one_clear_line(user, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config(user)
    assert all(line.startswith("setting ") for line in str(caught.value).splitlines())


def test_all_wrong_settings_are_listed_at_once():
    with pytest.raises(UserError) as caught:
        load_config({"training": {"epochs": 0, "images": 1}, "pose": {"batch_size": 0}})
    assert len(str(caught.value).splitlines()) == 3


def test_an_unknown_variant_names_the_known_ones():
    with pytest.raises(UserError, match=r"'model7' is not .*known: baseline, pgfl_kd"):
        load_config({}).recipe("model7")


def test_the_schema_on_disk_is_the_models(tmp_path):
    shipped = json.loads((WORKFLOW / "schemas" / "config.schema.json").read_text())
    assert shipped == Config.model_json_schema(), "run: pgfl config schema --out ..."


def test_every_data_set_has_a_training_set_and_a_source_or_one_that_it_is_made_from():
    assert set(get_args(Dataset)) == set(TRAIN_SET) == set(SOURCES) | set(MADE_FROM)
    assert set(get_args(Archived)) == set(SOURCES)
    assert set(SOURCES).isdisjoint(MADE_FROM) and set(MADE_FROM.values()) <= set(SOURCES)
    assert set(TRAIN_SET.values()) <= set(TRAIN_SET)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- 1", "key: value")])
def test_a_broken_yaml_file_is_named(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        read_yaml(Path("nowhere.yaml"))


def test_merging_goes_key_by_key_and_changes_neither_side():
    base, overlay = {"a": {"b": 1, "c": [1, 2]}, "d": 4}, {"a": {"c": [3]}, "e": {"f": 5}}
    before = yaml.safe_dump([base, overlay])
    assert merged(base, overlay) == {"a": {"b": 1, "c": [3]}, "d": 4, "e": {"f": 5}}
    assert yaml.safe_dump([base, overlay]) == before
