import pytest

from pgfl.config.recipe import Recipe

WHOLE = {"reid_on": ["global", "enhanced", "fused"], "lambda_cl": 0.25, "lambda_mcl": 0.25}
BASELINE = {"reid_on": ["global"], "lambda_cl": 0, "lambda_mcl": 0}
"""The baseline's losses as PGFL-KD's settings: nothing of the branches counts."""
PARTS_ONLY = {"reid_on": ["global", "fused"], "lambda_cl": 0, "lambda_mcl": 0.25}
BY_CONSISTENCY = WHOLE | {"lambda_cl": 0, "part_distillation": "consistency"}


def recipe(settings, section="settings", key="", value=None):
    values = {"settings": dict(settings), "training": {}}
    if key:
        values[section][key] = value
    return Recipe.parse(values)


CHANGES = [
    ("settings", "part_pooling", "mean"),
    ("settings", "second_layer4", "shared"),
    ("settings", "part_scale", "unit"),
    ("settings", "attention", "uniform"),
    ("settings", "attention", "maps"),
    ("settings", "attention_temperature", 0.4),
    ("settings", "foreground_scale", "matched"),
    ("settings", "consistency", "mean"),
    ("settings", "consistency_scale", 30),
    ("settings", "contrastive", "raw"),
    ("settings", "contrastive_temperature", 0.2),
    ("training", "heatmaps", "shuffled"),
    ("training", "augment", {"erase_maps": False}),
]
EQ_4 = {"consistency", "consistency_scale"}
FOREGROUND = {"attention", "attention_temperature", "foreground_scale"}
READ = {
    "baseline": (BASELINE, set()),
    "whole method": (WHOLE, {key for _, key, _ in CHANGES}),
    "parts only": (PARTS_ONLY, {key for _, key, _ in CHANGES} - FOREGROUND - EQ_4),
    "parts by consistency": (
        BY_CONSISTENCY,
        {key for _, key, _ in CHANGES} - {"contrastive", "contrastive_temperature"},
    ),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[1])
@pytest.mark.parametrize("name", READ)
def test_a_setting_counts_where_training_reads_it(name, change):
    loss, read = READ[name]
    same = recipe(loss, *change).as_trained() == recipe(loss).as_trained()
    assert same == (change[1] not in read)


@pytest.mark.parametrize("name", READ)
def test_nothing_that_is_read_is_lost(name):
    """What counts comes through as it was, and doing it twice changes nothing."""
    loss, _ = READ[name]
    full = Recipe.parse(
        {
            "settings": loss | {"triplet_margin": 0.5, "global_weight": 3},
            "model": {"backbone": "resnet18", "pretrained": False},
            "training": {"epochs": 7, "augment": {"pad": 3}},
        }
    )
    once = full.as_trained()
    assert once == once.as_trained() == full


@pytest.mark.parametrize(
    ("attention", "has_one"),
    [("cosine", True), ("centred", True), ("dot", False), ("maps", False), ("uniform", False)],
)
def test_a_temperature_counts_where_there_is_one(attention, has_one):
    settings = WHOLE | {"attention": attention, "part_pooling": "mean"}
    warmer = recipe(settings | {"attention_temperature": 0.5})
    same = warmer.as_trained() == recipe(settings).as_trained()
    assert same != has_one


def test_maps_are_erased_only_where_images_are():
    never = {"erase": 0}
    with_maps, without = (
        Recipe.parse(
            {"settings": WHOLE, "training": {"augment": never | {"erase_maps": erase_maps}}}
        )
        for erase_maps in (True, False)
    )
    assert with_maps.as_trained() == without.as_trained()


@pytest.mark.parametrize("form", ["mean", "literal"])
def test_only_the_normalized_form_of_eq_4_has_a_scale(form):
    scaled = recipe(WHOLE | {"consistency": form, "consistency_scale": 7})
    assert scaled.as_trained() == recipe(WHOLE | {"consistency": form}).as_trained()


def test_raw_products_have_no_temperature():
    raw = recipe(WHOLE | {"contrastive": "raw", "contrastive_temperature": 0.5})
    assert raw.as_trained() == recipe(WHOLE | {"contrastive": "raw"}).as_trained()
