import typing

import pytest
import torch

from pgfl.config.recipe import Recipe, nested
from pgfl.errors import UserError
from pgfl.losses.consistency import consistency_loss
from pgfl.losses.identity import identity_loss
from pgfl.losses.multi_part_contrastive import multi_part_contrastive_loss
from pgfl.losses.triplet import batch_hard_triplet_loss
from pgfl.methods import bot
from pgfl.methods.pgfl_kd import method, network
from pgfl.methods.pgfl_kd.method import losses
from pgfl.methods.pgfl_kd.settings import Settings
from pgfl.networks.build import build_network, method_module
from pgfl.nn.batch import Batch, Outputs
from pgfl.runtime.settings import merged
from pgfl.training import data

LABELS = torch.tensor([0, 0, 1, 1])


def terms(**settings):
    torch.manual_seed(0)
    names = ("global", "part", "fused", "foreground", "enhanced")
    features = {name: torch.randn(4, 16) for name in names}
    outputs = Outputs(features, {name: torch.randn(4, 2) for name in names})
    batch = Batch("images", LABELS, LABELS, "heatmaps")
    return outputs, losses(outputs, batch, Settings(**{"second_layer4": "shared"} | settings))


def test_the_paper_has_eight_terms():
    _, found = terms()
    assert set(found) == {
        *("id_global", "triplet_global", "id_enhanced", "triplet_enhanced"),
        *("id_fused", "triplet_fused", "cl", "mcl"),
    }


def test_the_baseline_has_two_terms_and_they_are_those_of_the_global_feature():
    outputs, found = terms(reid_on=("global",), lambda_cl=0, lambda_mcl=0)
    assert list(found) == ["id_global", "triplet_global"]
    batch = Batch("images", LABELS, LABELS, None)
    assert bot.losses(outputs, batch, bot.Settings()) == found


@pytest.mark.parametrize(("weight", "absent"), [("lambda_cl", "cl"), ("lambda_mcl", "mcl")])
def test_a_weight_of_zero_turns_a_term_off(weight, absent):
    _, found = terms(**{weight: 0})
    assert absent not in found and len(found) == 7


def test_each_feature_has_an_identity_and_a_triplet_loss():
    model, found = terms(
        reid_on=("global", "part", "foreground"), label_smoothing=0.3, triplet_margin=1.5
    )
    for name in ("global", "part", "foreground"):
        assert found[f"id_{name}"] == identity_loss(model.logits[name], LABELS, 0.3)
        expected = batch_hard_triplet_loss(model.features[name], LABELS, 1.5)
        assert found[f"triplet_{name}"] == expected


def test_the_global_features_two_terms_have_a_weight_of_their_own():
    (_, plain), (_, weighted) = terms(), terms(global_weight=3.0)
    for name, value in plain.items():
        factor = 3 if name in ("id_global", "triplet_global") else 1
        torch.testing.assert_close(weighted[name], factor * value)


@pytest.mark.parametrize("form", ["normalized", "mean", "literal"])
def test_the_consistency_term_teaches_global_from_enhanced(form):
    model, found = terms(lambda_cl=0.7, consistency=form, consistency_scale=30)
    expected = consistency_loss(model.features["global"], model.features["enhanced"], form)
    scale = 30 if form == "normalized" else 1
    torch.testing.assert_close(found["cl"], 0.7 * scale * expected)


@pytest.mark.parametrize("form", ["normalized", "mean", "literal"])
def test_the_part_branch_can_teach_by_the_consistency_loss_instead(form):
    model, found = terms(
        lambda_mcl=0.6, part_distillation="consistency", consistency=form, consistency_scale=30
    )
    assert len(found) == 8 and "mcl" not in found
    expected = consistency_loss(model.features["global"], model.features["part"], form)
    scale = 30 if form == "normalized" else 1
    torch.testing.assert_close(found["part_cl"], 0.6 * scale * expected)


def test_without_its_weight_the_part_branch_teaches_in_neither_way():
    _, found = terms(lambda_mcl=0, part_distillation="consistency")
    assert "mcl" not in found and "part_cl" not in found


@pytest.mark.parametrize(
    ("settings", "temperature", "normalized"),
    [
        ({}, 0.1, True),
        ({"contrastive_temperature": 0.4}, 0.4, True),
        ({"contrastive": "raw", "contrastive_temperature": 0.4}, 1.0, False),
    ],
)
def test_the_contrastive_term_teaches_global_from_part(settings, temperature, normalized):
    model, found = terms(lambda_mcl=0.6, **settings)
    expected = multi_part_contrastive_loss(
        model.features["global"],
        model.features["part"],
        temperature=temperature,
        normalized=normalized,
    )
    torch.testing.assert_close(found["mcl"], 0.6 * expected)


BOT = {"method": "bot"}
VARIANTS = [
    (BOT, 2),
    ({"reid_on": ["global", "fused"], "lambda_cl": 0, "lambda_mcl": 0}, 4),
    ({"reid_on": ["global", "fused"], "lambda_cl": 0, "lambda_mcl": 1}, 3),
    ({"reid_on": ["global", "enhanced"], "lambda_cl": 0, "lambda_mcl": 0}, 4),
    ({"reid_on": ["global", "enhanced"], "lambda_cl": 1, "lambda_mcl": 0}, 3),
    ({"part_distillation": "consistency"}, 2),
    ({}, 1),
]
"""Variants, and how many modules idle with them; one is what compiles."""
SMALL = {"backbone": "resnet18", "pretrained": False, "height": 64, "width": 32}


def values(recipe):
    """The terms of a network as it starts, of one seed."""
    torch.manual_seed(0)
    network = build_network(recipe, identities=2)
    images = torch.randint(0, 256, (4, 64, 32, 3)).byte()
    maps = torch.rand(4, 8, 4, 2).flatten(2).softmax(2).view(4, 8, 4, 2)
    batch = Batch(images, LABELS, LABELS, maps if recipe.settings.needs_heatmaps else None)
    return method_module(recipe.method).losses(network(batch), batch, recipe.settings)


@pytest.mark.parametrize(("variant", "idle"), VARIANTS)
def test_code_that_counts_as_idle_is_never_run(variant, idle, monkeypatch):
    """Else an edit of it would not train again what it has changed."""
    recipe = Recipe.parse(nested(variant) | {"model": SMALL})
    assert len(recipe.idle_code) == idle
    compiling = Recipe.parse(nested(variant) | {"training": {"compile": True}})
    assert compiling.idle_code == recipe.idle_code - {"pgfl.training.compiled"}

    def run(*_, **__):
        raise AssertionError("idle code was run")

    for consumer in (network, method, data):
        for name, value in list(vars(consumer).items()):
            if getattr(value, "__module__", None) in recipe.idle_code:
                monkeypatch.setattr(consumer, name, run)
    sum(values(recipe).values()).backward()


def other_values(section):
    """Every setting of a section with every other value that it may have."""
    for name, field in type(section).model_fields.items():
        options = typing.get_args(field.annotation)
        if field.annotation is float:
            options = (3 * getattr(section, name) + 1,)
        for value in options:
            if isinstance(value, str | float) and value != getattr(section, name):
                yield name, value


@pytest.mark.parametrize("variant", [variant for variant, _ in VARIANTS if variant != BOT])
def test_settings_that_do_not_count_change_no_loss(variant):
    """Else a change of them would not train again what it has changed."""
    given = nested(variant | {"part_pooling": "mean"}) | {"model": SMALL}
    recipe = Recipe.parse(given)
    expected, tried = values(recipe), 0
    for name, value in other_values(recipe.settings):
        try:
            other = Recipe.parse(merged(given, {"settings": {name: value}}))
        except UserError:
            continue
        if other.as_trained() == recipe.as_trained():
            tried += 1
            assert values(other) == expected, (name, value)
    assert tried or recipe.settings == recipe.settings.as_trained()
