import json
from pathlib import Path

import pytest
import yaml

from pgfl.config.experiment import Config
from pgfl.config.load import (
    WORKFLOW,
    check_files,
    check_tables,
    label,
    load_config,
    overridden,
    read_yaml,
)
from pgfl.errors import UserError
from pgfl.reporting.paper.specs import TABLES
from pgfl.runtime.settings import merged

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
    assert (recipe.settings.lambda_cl, recipe.settings.lambda_mcl) == (0.25, 0.25)


def test_the_six_models_of_table_6_switch_on_one_thing_after_another():
    config = load_config({})
    found = {}
    for number, variant in enumerate(TABLES[6].reproduced.values(), 1):
        recipe = config.recipe(variant)
        assert recipe.method == ("bot" if number == 1 else "pgfl_kd")
        settings = recipe.settings
        weights = {name for name in ("lambda_cl", "lambda_mcl") if getattr(settings, name, 0)}
        found[number] = {*getattr(settings, "reid_on", ())} - {"global"} | weights
    assert found == {
        1: set(),
        2: {"part"},
        3: {"fused"},
        4: {"fused", "lambda_mcl"},
        5: {"fused", "lambda_mcl", "enhanced"},
        6: {"fused", "lambda_mcl", "enhanced", "lambda_cl"},
    }


def test_the_rows_of_the_tables_are_these_variants():
    both = {"Baseline": "baseline", "PGFL-KD": "pgfl_kd"}
    assert [TABLES[number].reproduced for number in (2, 3, 4, 5)] == [both] * 4
    assert TABLES[7].reproduced == {
        "MB + FEB + SAB w L_CL": "pgfl_kd_part_cl",
        "MB + FEB + SAB w L_MCL": "pgfl_kd",
    }


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({}, "demo"),
        ({"experiment": "study", "training": {"epochs": 90}}, "study"),
        ({"experiment": "paper"}, "paper"),
        (
            {
                "experiment": "paper",
                "seeds": [3, 4],
                "training": {"precision": "bf16", "accumulate": 2},
                "pose": {"batch_size": 4},
                "variants": {"mine": {"lambda_cl": 1}},
            },
            "paper",
        ),
        (
            {
                "experiment": "paper",
                "training": {"epochs": 90},
                "model": {"height": 256},
                "pose": {"estimator": "hrnet_small"},
                "evaluation": {"rerank": True},
            },
            "paper with other model.height, training.epochs, pose.estimator, evaluation.rerank",
        ),
        (
            {"experiment": "paper", "variants": {"pgfl_kd": {"lambda_cl": 1}}},
            "paper with other variants.pgfl_kd",
        ),
        (
            {"experiment": "paper", "methods": {"pgfl_kd": {"lambda_cl": 1}, "bot": {}}},
            "paper with other methods.pgfl_kd.lambda_cl",
        ),
    ],
)
def test_only_the_papers_own_settings_are_called_paper(user, said):
    assert label(load_config(user)) == said


def test_the_study_has_table_6_with_part_features_of_one_length():
    config = load_config({"experiment": "study"})
    baseline, *ours = config.comparisons["part_scale"].variants
    assert baseline == "baseline"
    assert ours == [f"{variant}_unit" for variant in list(TABLES[6].reproduced.values())[1:]]
    for name in ours:
        recipe = config.recipe(name.removesuffix("_unit"))
        settings = recipe.settings.model_copy(update={"part_scale": "unit"})
        assert config.recipe(name) == recipe.model_copy(update={"settings": settings})


def test_table_7_changes_nothing_but_how_parts_are_distilled():
    config = load_config({})
    other, ours = (config.recipe(variant) for variant in TABLES[7].reproduced.values())
    assert ours == config.recipe("pgfl_kd")
    assert other.settings.part_distillation == "consistency"
    changed = other.settings.model_copy(update={"part_distillation": "contrastive"})
    assert other.model_copy(update={"settings": changed}) == ours


def test_the_equations_as_printed_are_one_variant():
    settings = load_config({}).recipe("pgfl_kd_literal").settings
    assert (settings.part_pooling, settings.attention) == ("mean", "dot")
    assert (settings.consistency, settings.contrastive) == ("literal", "raw")
    assert "drowns the other losses" in settings.warning
    assert not load_config({}).recipe("pgfl_kd").settings.warning


def test_a_loss_that_is_changed_for_all_is_changed_in_every_model_that_has_it():
    weights = {"lambda_cl": 0.5, "lambda_mcl": 0.1}
    plain, changed = load_config({}), load_config({"methods": {"pgfl_kd": weights}})
    for variant in plain.variants:
        before, after = plain.recipe(variant), changed.recipe(variant)
        if before.method != "pgfl_kd":
            assert before == after
            continue
        for weight, value in weights.items():
            expected = value if getattr(before.settings, weight) else 0
            assert getattr(after.settings, weight) == expected, variant


def test_every_value_of_a_sweep_is_a_variant_and_the_methods_own_is_the_method():
    config = load_config({"sweeps": {"lambda_mcl": [1, 0.25, 0.5, 0], "lambda_cl": [1e-05]}})
    assert config.sweep("lambda_mcl") == {
        0: "pgfl_kd-lambda_mcl-0",
        0.25: "pgfl_kd",
        0.5: "pgfl_kd-lambda_mcl-0.5",
        1: "pgfl_kd-lambda_mcl-1",
    }
    assert config.sweep("lambda_cl") == {1e-05: "pgfl_kd-lambda_cl-1e-05"}
    ours = config.recipe("pgfl_kd")
    for parameter in ("lambda_mcl", "lambda_cl"):
        for value, name in config.sweep(parameter).items():
            settings = ours.settings.model_copy(update={parameter: value})
            assert config.recipe(name) == ours.model_copy(update={"settings": settings})
    assert {*config.sweep("lambda_mcl").values()} < {*config.variant_names}


def test_a_point_of_a_sweep_that_a_variant_is_already_is_that_variant():
    config = load_config({"sweeps": {"lambda_cl": [0, 0.25]}})
    assert config.sweep("lambda_cl") == {0: "sab_im_feb", 0.25: "pgfl_kd"}
    assert "pgfl_kd-lambda_cl-0" not in config.variant_names


def test_a_sweep_follows_the_users_own_method():
    user = {
        "variants": {"pgfl_kd": {"lambda_mcl": 0.5, "training": {"epochs": 3, "milestones": []}}}
    }
    config = load_config(user | {"sweeps": {"lambda_mcl": [0.25, 0.5]}})
    assert config.sweep("lambda_mcl") == {0.25: "pgfl_kd-lambda_mcl-0.25", 0.5: "pgfl_kd"}
    assert config.recipe("pgfl_kd-lambda_mcl-0.25").training.epochs == 3


def test_the_baseline_needs_no_pose_and_pgfl_kd_does():
    config = load_config({})
    assert not config.recipe("baseline").settings.needs_heatmaps
    assert config.recipe("pgfl_kd").settings.uses_part_branch
    assert config.recipe("pgfl_kd").settings.uses_foreground_branch


def test_user_settings_win_over_the_preset_and_variants_over_both():
    user = {
        "training": {"epochs": 8},
        "variants": {"mine": {"lambda_cl": 3.0, "training": {"epochs": 9}}},
    }
    config = load_config(user)
    assert config.recipe("pgfl_kd").training.epochs == 8
    mine = config.recipe("mine")
    assert (mine.training.epochs, mine.settings.lambda_cl) == (9, 3.0)
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
        (
            {"training": {"epochs": 0}},
            r"setting training.epochs: must be a whole number, at least 1 \(got 0\)$",
        ),
        (
            {"training": {"epochs": "ten"}},
            r"training.epochs: must be a whole number, at least 1 \(got 'ten'\)",
        ),
        ({"training": 5}, "setting training: "),
        (
            {"experiment": "dmeo"},
            "no experiment 'dmeo'; did you mean 'demo'\\? known: demo, paper, study",
        ),
        ({"experiment": ["demo"]}, "setting experiment"),
        ({"model": {"height": 100}}, "setting model.height: .*multiple of 16"),
        (
            {"variants": {"mine": {"lamda_cl": 1}}},
            "setting variants.mine.lamda_cl: no such setting; did you mean 'lambda_cl'",
        ),
        (
            {"methods": {"pgfl_kd": {"reid_on": ["part"]}}},
            "setting methods.pgfl_kd.reid_on: must hold 'global'",
        ),
        (
            {"variants": {"mine": {"reid_on": ["global", "enhanced"]}}},
            "setting variants.mine.lambda_mcl: needs 'part' or 'fused' in reid_on",
        ),
        (
            {"methods": {"pgfl_kd": {"reid_on": ["global", "global"]}}},
            "setting methods.pgfl_kd.reid_on: names a feature twice",
        ),
        (
            {"methods": {"pgfl_kd": {"attention": "dot"}}},
            "attention: dot needs part_pooling: mean",
        ),
        ({"peers": ["pcbb"]}, "setting peers: no 'pcbb'; did you mean 'pcb'"),
        ({"peers": ["pcb", "pcb"]}, "setting peers: holds a name twice"),
        ({"methods": {"pcbb": {}}}, "no method 'pcbb'; did you mean 'pcb'"),
        ({"methods": {"pcb": {"parts": 6}}}, "setting methods.pcb.parts: no such setting"),
        ({"variants": {"x": {"method": "mine"}}}, "no method 'mine'; known: bot, .*pcb"),
        ({"variants": {"x": {"method": 3}}}, "variants.x.method: must be text"),
        ({"variants": {"x": {"losses": {"centre": 1}}}}, "'centre': no such loss; did you mean"),
        ({"variants": {"x": {"losses": {"center": -1}}}}, "losses.center: must be a number, at l"),
        ({"variants": {"x": {"losses": 3}}}, "variants.x.losses: must be a section"),
        (
            {"variants": {"x": {"method": "bot", "lambda_cl": 1}}},
            "setting variants.x.lambda_cl: no such setting; known: label_smoothing, trip",
        ),
        ({"model": {"backbone": "vgg"}}, "setting model.backbone: .*resnet50.*got 'vgg'"),
        (
            {"model": {"backbone": "timm:vgg"}},
            r"second_layer4: separate needs a backbone of resnet18, resnet50 .* set it to shared",
        ),
        (
            {
                "variants": {
                    "mine": {
                        "second_layer4": "separate",
                        "reid_on": ["global"],
                        "lambda_mcl": 0,
                    }
                }
            },
            "variants.mine.*second_layer4: separate needs a feature besides 'global' in reid_on",
        ),
        (
            {"training": {"accumulate": 3}},
            r"training.accumulate: must divide identities: 8 .* in each part \(got 3\)",
        ),
        ({"training": {"accumulate": 16}}, "leave at least 2 in each part"),
        (
            {"archives": {"files": {"marke1501": "x"}}},
            "archives.files.marke1501: no such setting; did you mean 'market1501'",
        ),
        ({"datasets": {"mine": {"tabel": "x", "table": "y"}}}, "mine.tabel: .* mean 'table'"),
        ({"datasets": {"mine": {}}}, "datasets.mine.table: is missing; it must be a path"),
        ({"datasets": {"archives": {"table": "x"}}}, "datasets.archives: the name is taken by"),
        ({"datasets": {"market1501": {"table": "x"}}}, "datasets.market1501: the name is taken"),
        (
            {"datasets": {"mine": {"table": "x", "models_of": "partial_reid"}}},
            r"models_of: nothing is trained on 'partial_reid' \(a test-only set\); known: duke",
        ),
        ({"training": None}, r"setting training: must be a section: .* \(got nothing\)"),
        ({"training": {"epochs": True}}, r"epochs: must be a whole number, .* \(got True\)"),
        ({"training": {"epochs": 2.5}}, r"epochs: must be a whole number, .* \(got 2\.5\)"),
        (
            {"training": {"learning_rate": float("nan")}},
            r"must be a number, more than 0 \(got nan",
        ),
        (
            {"training": {"learning_rate": float("inf")}},
            r"must be a number, more than 0 \(got inf",
        ),
        ({"sweeps": {"lambda_cl": [0.1, True]}}, r"lambda_cl: must be a list .* \(got \[0\.1, T"),
        ({"model": {"last_stride": 3}}, r"last_stride: must be one of 1, 2 \(got 3\)"),
        ({"model": {"pretrained": "perhaps"}}, r"must be true or false \(got 'perhaps'\)"),
        (
            {"evaluation": {"metric": "euclidian"}},
            r"must be one of cosine, euclidean \(got 'euclidian'\); did you mean 'euclidean'\?",
        ),
        ({"archives": {"folder": 5}}, r"archives.folder: must be a path .* \(got 5\)"),
        ({"archives": {"folder": "a{b}"}}, "archives.folder: must be a path without braces"),
        ({"pose": {"checkpoint": "a\nb"}}, r"checkpoint: must be a path .* \(got 'a\\nb'\)"),
        ({"archives": {"urls": {"x.zip": "https://a/x.zip"}}}, "archives.urls.x.zip: no such"),
        (
            {"archives": {"urls": {"DukeMTMC-reID.zip": "http://a/x"}}},
            r"must start with https:// or file:// \(got 'http://a/x'\)",
        ),
        ({"seeds": []}, "setting seeds: must be a list of at least 1, each a whole number"),
        ({"seeds": 3}, r"setting seeds: must be a list .* \(got 3\)"),
        ({"seeds": ["x"]}, r"setting seeds.0: must be a whole number, at least 0 .* \(got 'x'\)"),
        ({"seeds": [-1]}, r"setting seeds.0: must be a whole number, at least 0"),
        ({"seeds": [2**32]}, r"setting seeds.0: .* and at most 4294967295 \(got 4294967296\)"),
        (
            {"experiment": "paper", "archives": {"source": "synthetic"}},
            "setting archives.source: must be real, since experiment: paper .* choose experiment",
        ),
        ({"seeds": [0, 1, 0]}, r"setting seeds: each seed must stand there once \(got 0 twice\)"),
        ({"training": {"epochs": 5}}, r"setting training.milestones: 5 is never reached in 5 epo"),
        (
            {"variants": {"mine": {"training": {"epochs": 5}}}},
            "setting variants.mine.training.milestones: 5 is never reached in 5 epochs",
        ),
        ({"training": {"warmup": 6}}, r"training.warmup: must be less than .* 6 \(got 6\)"),
        (
            {"training": {"identities": 49}},
            r"there are to train on: dukemtmc_reid has 48,.*got 49",
        ),
        (
            {"experiment": "paper", "training": {"identities": 752}},
            r"training.identities: .*market1501 has 751, .* \(got 752\)",
        ),
        (
            {"variants": {"x": {"training": {"identities": 64}}}},
            "variants.x.training.identities: ",
        ),
        (
            {"resources": {"devices": 3}},
            "resources.devices: 3 devices cannot share a batch of tra",
        ),
        ({"model": {"backbone": "timm:a/../b"}}, "setting model.backbone: must be one of resnet1"),
        ({1: 2}, "setting 1: no such setting; known: archives"),
        ({"training": {1: 2}}, "setting training.1: no such setting; known: accumulate"),
        (
            {"variants": {"x": {"seeds": [1]}}},
            "variants.x.seeds: no such setting; known: attention",
        ),
        ({"variants": {"x": 3}}, "setting variants.x: must be a section"),
        ({"archives": {"files": {"partial_duke": "x"}}}, "archives.files.partial_duke"),
        ({"partial_duke": {"seed": -1}}, "setting partial_duke.seed: "),
        (
            {"variants": {"a/b": {}}},
            "setting variants: 'a/b' cannot be a name here: letters, digits",
        ),
        ({"variants": {"..": {}}}, r"setting variants: '\.\.' cannot be a name here"),
        ({"variants": {"two words": {}}}, "setting variants: 'two words' cannot be a name here"),
        (
            {"sweeps": {"lambda_cl": []}},
            "setting sweeps.lambda_cl: must be a list of at least 1, each",
        ),
        (
            {"sweeps": {"lambda_cl": [0.5, -1]}},
            r"sweeps.lambda_cl.1: must be a number, at least 0 \(got -1\)",
        ),
        (
            {"sweeps": {"lambda_cl": [float("inf")]}},
            r"sweeps.lambda_cl.0: must be a number, at least 0 \(got inf\)",
        ),
        (
            {"sweeps": {"lambda_cl": [1]}, "variants": {"pgfl_kd-lambda_cl-1": {}}},
            "setting variants.pgfl_kd-lambda_cl-1: sweeps.lambda_cl makes a variant of that name",
        ),
    ],
)
def test_a_wrong_setting_is_one_clear_line(user, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config(user)
    assert all(line.startswith("setting ") for line in str(caught.value).splitlines())


def findings(user):
    """The path of each line of an error."""
    with pytest.raises(UserError) as caught:
        load_config(user)
    return [
        line.split(": ")[0].removeprefix("setting ") for line in str(caught.value).splitlines()
    ]


def test_all_wrong_settings_are_listed_at_once():
    wrong = {"training": {"epochs": 0, "images": 1}, "pose": {"batch_size": 0}}
    assert findings(wrong) == ["training.epochs", "training.images", "pose.batch_size"]


def test_impossible_combinations_are_listed_with_wrong_values():
    wrong = {
        "pose": {"batch_size": 0},
        "seeds": [1, 1],
        "variants": {"a": {"lambda_cl": -1}, "b": {"training": {"warmup": 9}}},
        "comparisons": {"c": {"variants": ["baseline", "a", "sba"]}},
    }
    assert findings(wrong) == [
        *("pose.batch_size", "seeds", "variants.a.lambda_cl", "variants.b.training.warmup"),
        "comparisons.c.variants",
    ]


def test_what_follows_from_a_wrong_value_is_not_said():
    # The variant's schedule cannot be judged while the common one is not known.
    wrong = {"training": {"epochs": "x"}, "variants": {"a": {"training": {"milestones": [900]}}}}
    assert findings(wrong) == ["training.epochs"]


def test_a_lone_wrong_item_does_not_make_a_list_too_short():
    assert findings({"seeds": [[1]]}) == ["seeds.0"]


def test_a_long_value_is_cut_and_stays_one_line():
    with pytest.raises(UserError) as caught:
        load_config({"training": {"epochs": "\n\u2028x" * 1000, "images": [16**5000]}})
    lines = str(caught.value).split("\n")
    assert len(lines) == 2 and all(len(line) < 200 for line in lines)
    assert lines[1].endswith("(got a huge number)")


def test_values_from_the_command_line_are_text_and_mean_the_same():
    base = {"experiment": "demo"}
    given = [
        *("experiment=study", "seeds=[0, 1]", "model={last_stride: 2, pretrained: false}"),
        *("training={heatmaps: true, learning_rate: 1e-3}", "sweeps={lambda_cl: [0, .5]}"),
    ]
    config = load_config(overridden(base, given))
    assert config.experiment == "study" and config.seeds == (0, 1)
    assert (config.model.last_stride, config.model.pretrained) == (2, False)
    assert (config.training.heatmaps, config.training.learning_rate) == ("true", 1e-3)
    assert config.sweeps.lambda_cl == (0, 0.5)
    assert base == {"experiment": "demo"}


@pytest.mark.parametrize("given", ["config.yaml", "=3", "training={", ""])
def test_an_override_that_is_none_is_named(given):
    with pytest.raises(UserError, match="--config"):
        overridden({}, [given])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["query,1", "gallery,1"], r"mine.models_of: .*mine.csv has no rows of split train; name"),
        (["train,1", "train,2", "train,2"], r"must be at most 2, the identities that mine has"),
    ],
)
def test_a_table_of_ones_own_must_fill_a_batch(tmp_path, rows, message):
    table = tmp_path / "mine.csv"
    lines = [f"{number}.jpg;{row.replace(',', ';')}" for number, row in enumerate(rows)]
    table.write_text("\n".join(["Image;Split;PID", *lines]))
    config = load_config({"datasets": {"mine": {"table": str(table)}}})
    with pytest.raises(UserError, match=message):
        config.check_batches("pgfl_kd", "mine")


def test_a_training_set_that_is_too_small_is_named_and_others_are_not(tmp_path):
    config = load_config({"experiment": "paper", "training": {"identities": 720}})
    config.check_batches("pgfl_kd", "market1501")
    with pytest.raises(UserError, match="at most 702, the identities that partial_duke has"):
        config.check_batches("pgfl_kd", "partial_duke")
    own = {"files": {"dukemtmc_reid": "mine.zip"}}
    brought = load_config({"archives": own, "training": {"identities": 720}})
    brought.check_batches("pgfl_kd", "partial_duke")
    table = tmp_path / "broken.csv"
    table.write_bytes(b"\xff\xfe")
    config = load_config({"datasets": {"mine": {"table": str(table)}}})
    config.check_batches("pgfl_kd", "mine")  # its own stage says what is wrong


def test_a_table_that_is_gone_is_named():
    own = {"a": {"table": "nowhere/a.csv"}, "b": {"table": "nowhere/b.csv"}}
    with pytest.raises(UserError) as caught:
        check_tables(load_config({"datasets": own}))
    assert str(caught.value).splitlines() == [
        f"setting datasets.{name}.table: no such file (got 'nowhere/{name}.csv')" for name in own
    ]


def test_an_unknown_variant_names_the_known_ones():
    with pytest.raises(UserError, match=r"'model7' is not .*known: baseline, .*pcb, .*pgfl_kd"):
        load_config({}).recipe("model7")


def test_the_schema_on_disk_is_the_models(tmp_path):
    shipped = json.loads((WORKFLOW / "schemas" / "config.schema.json").read_text())
    assert shipped == Config.model_json_schema(), "run: pgfl config schema --out ..."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "key: value"),
        ("a: 1\nb: {c: 1, d: 2, c: 3}\n", "the key 'c' stands twice, in lines 2 and 2"),
        ("a: 1\n\na: 1\n", "the key 'a' stands twice, in lines 1 and 3"),
        ("a: 2001-13-99", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("a: !!python/object/apply:os.system ['touch x']", "not valid YAML"),
    ],
)
def test_a_broken_yaml_file_is_named(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        read_yaml(Path("nowhere.yaml"))
    path.write_bytes(b"a: \xff")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_yaml(path)


def test_keys_of_a_merge_may_be_replaced(tmp_path):
    path = tmp_path / "merge.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert read_yaml(path)["b"] == {"x": 3, "y": 2}


def test_all_broken_files_are_named_at_once(tmp_path):
    texts = {"a.yaml": "a: [", "b.yaml": "", "c.yaml": "experiment: demo", "d.yaml": "a: 1\na: 2"}
    texts["e.yaml"] = "__use_yte__: true\n?print('run'): 1\n"
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        check_files(tmp_path / name for name in texts)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        str(tmp_path / name) for name in ("a.yaml", "b.yaml", "d.yaml", "e.yaml")
    ]


def test_merging_goes_key_by_key_and_changes_neither_side():
    base, overlay = {"a": {"b": 1, "c": [1, 2]}, "d": 4}, {"a": {"c": [3]}, "e": {"f": 5}}
    before = yaml.safe_dump([base, overlay])
    assert merged(base, overlay) == {"a": {"b": 1, "c": [3]}, "d": 4, "e": {"f": 5}}
    assert yaml.safe_dump([base, overlay]) == before


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        (
            {"variants": ["baseline", "pgflkd"]},
            "comparisons.mine.variants: no 'pgflkd'; did you mean 'pgfl_kd",
        ),
        ({"variants": ["baseline", "baseline"]}, "comparisons.mine.variants: holds a name twice"),
        (
            {"variants": ["baseline", "sab"], "against": "pgfl_kd"},
            "comparisons.mine.against: no 'pgfl_kd'; known: baseline, sab",
        ),
        (
            {"variants": ["baseline", "sab"], "test_sets": ["duke"]},
            "comparisons.mine.test_sets: no 'duke'",
        ),
        ({"variants": ["baseline"]}, "comparisons.mine.variants"),
    ],
)
def test_a_comparison_must_name_what_there_is(comparison, message):
    with pytest.raises(UserError, match=message):
        load_config({"comparisons": {"mine": comparison}})


def test_test_sets_know_what_their_models_are_trained_on():
    own = {"mine": {"table": "a.csv"}, "theirs": {"table": "b.csv", "models_of": "market1501"}}
    loaded = load_config({"datasets": own})
    trained_on = {name: loaded.trained_on(name) for name in ("partial_reid", "mine", "theirs")}
    assert trained_on == {"partial_reid": "market1501", "mine": "mine", "theirs": "market1501"}


@pytest.mark.parametrize(
    ("stress", "message"),
    [
        ({"test_sets": ["market"]}, "stress.test_sets: no 'market'; did you mean 'market1501'"),
        ({"shares": [0.5, 1.5]}, "setting stress.shares"),
        ({"shares": []}, "setting stress.shares"),
    ],
)
def test_a_stress_test_that_cannot_be_is_said(stress, message):
    with pytest.raises(UserError, match=message):
        load_config({"stress": stress})


def test_a_stress_test_may_be_of_the_users_own_people():
    own = {"datasets": {"mine": {"table": "mine.csv"}}, "stress": {"test_sets": ["mine"]}}
    assert load_config(own).stress.test_sets == ("mine",)


def test_a_named_pose_is_an_overlay_over_the_experiments_own():
    config = load_config({"poses": {"up": {"view": "topdown"}}, "pose": {"softmax_scale": 5}})
    assert config.pose_readings["up"] == config.pose.model_copy(update={"view": "topdown"})
    assert config.pose_readings[config.recipe("pgfl_kd").training.pose] == config.pose
    paper = load_config({"experiment": "paper"})
    other = paper.pose_readings[paper.recipe("pgfl_kd_pose_256x192").training.pose]
    assert (other.estimator, other.view) == ("hrnet_w48_256x192", "topdown")
    assert (other.height, other.width) == (paper.pose.height, paper.pose.width)


def test_the_variant_of_the_other_reading_is_the_method_but_for_its_maps():
    paper = load_config({"experiment": "paper"})
    ours, other = paper.recipe("pgfl_kd"), paper.recipe("pgfl_kd_pose_256x192")
    training = other.training.model_copy(update={"pose": ""})
    assert other.model_copy(update={"training": training}) == ours != other


def test_a_baseline_trains_the_same_whatever_the_pose():
    base = {"method": "bot"}
    config = load_config(
        {"poses": {"up": {}}, "variants": {"b_up": base | {"training": {"pose": "up"}}}}
    )
    assert config.recipe("b_up").as_trained() == config.recipe("baseline").as_trained()


@pytest.mark.parametrize(
    ("user", "line"),
    [
        ({"poses": {"a": {"veiw": "crop"}}}, "setting poses.a.veiw: no such setting; did you mea"),
        ({"poses": {"a/b": {}}}, "setting poses: 'a/b' cannot be a name here"),
        ({"training": {"pose": "a"}}, "setting training.pose: no 'a' in poses; poses has none"),
        (
            {"poses": {"up": {}}, "variants": {"v": {"training": {"pose": "upp"}}}},
            "setting variants.v.training.pose: no 'upp' in poses; did you mean 'up'? known: up",
        ),
        (
            {"poses": {"up": {}}, "training": {"pose": "up", "heatmaps": "true"}},
            "setting training.pose: up is no pose of training.heatmaps: true",
        ),
    ],
)
def test_a_wrong_pose_is_one_line(user, line):
    with pytest.raises(UserError) as caught:
        load_config(user)
    (only,) = str(caught.value).splitlines()
    assert only.startswith(line)


def test_another_pose_below_a_name_of_the_papers_is_not_the_paper():
    user = {"experiment": "paper", "poses": {"256x192": {"flip_test": True}}}
    assert label(load_config(user)) == "paper with other poses.256x192"


def test_images_are_photographs_where_any_of_them_is():
    drawn = load_config({})
    assert not any(map(drawn.has_photographs, drawn.shipped))
    mine = load_config({"datasets": {"mine": {"table": "mine.csv"}}})
    assert mine.has_photographs("mine") and not mine.has_photographs("market1501")
    duke = load_config({"archives": {"files": {"dukemtmc_reid": "d.zip"}}})
    real = {name for name in duke.shipped if duke.has_photographs(name)}
    assert real == {"dukemtmc_reid", "occluded_duke", "partial_duke"}
    lists = load_config({"experiment": "paper"})
    assert all(map(lists.has_photographs, lists.shipped))


def test_an_extra_loss_is_code_of_its_own_variant_only():
    losses = {"x": {"losses": {"center": 0.1}}, "y": {"losses": {"center": 0}}}
    config = load_config({"variants": losses})
    code = "pgfl.methods.pgfl_kd.method"
    assert config.recipe("x").code == (code, "pgfl.losses.center")
    assert config.recipe("y").code == config.recipe("pgfl_kd").code == (code,)
    assert config.recipe("y").as_trained() == config.recipe("pgfl_kd").as_trained()
    assert config.recipe("x").as_trained() != config.recipe("pgfl_kd").as_trained()
