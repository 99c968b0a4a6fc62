"""Any configuration is either one that works, or refused with lines that name its keys."""

import copy
import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from pgfl.config.experiment import Config
from pgfl.config.load import WORKFLOW, load_config, overridden, read_yaml
from pgfl.config.recipe import Recipe
from pgfl.pose.settings import PoseSettings

PRESETS = sorted(path.stem for path in (WORKFLOW / "experiments").glob("*.yaml"))

WORDS = st.sampled_from(
    [
        *("", " ", "null", "true", "no", "1", "-1", "1e400", "0x10", "nan", "demo", "pgfl_kd"),
        *(
            "../x",
            "a/b",
            "a b",
            "it's",
            '"',
            "$(touch x)",
            "; touch x",
            "{x}",
            "a\nb",
            "\x00",
            "é",
        ),
        *("baseline", "global", "market1501", "partial_reid", "timm:", "timm:x", "9" * 400),
    ]
)
ODD = (
    st.none()
    | st.booleans()
    | st.integers(-3, 100)
    | st.sampled_from([2**31, 2**32, -(2**63), 10**30, 10**400])
    | st.floats()
    | WORDS
    | st.text(max_size=6)
    | st.dates()
    | st.binary(max_size=3)
)
VALUES = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | st.integers(0, 3) | st.none() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=4,
)


def whole(experiment):
    """A valid configuration with every key in it, and some of the user's own."""
    own = {
        "variants": {"mine": {"lambda_cl": 0.5, "training": {"epochs": 9}}},
        "datasets": {"people": {"table": "people.csv", "images": "some folder"}},
        "comparisons": {"c": {"variants": ["mine", "baseline"], "test_sets": ["people"]}},
        "archives": {"urls": {"DukeMTMC-reID.zip": "https://example.org/x"}},
        "experiment": experiment,
        "seeds": [0, 1],
        "training": {"epochs": 9, "milestones": [5, 7]},
    }
    settings = load_config(own).model_dump(mode="json")
    settings["variants"] = own["variants"]
    return settings


WHOLE = {experiment: whole(experiment) for experiment in PRESETS}


def paths(value, path=()):
    """Every place in nested mappings and lists."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield from paths(inner, (*path, key))


@st.composite
def mutated(draw):
    """A valid configuration in which a few things have gone wrong."""
    settings = copy.deepcopy(WHOLE[draw(st.sampled_from(PRESETS))])
    for _ in range(draw(st.integers(1, 4))):
        places = [path for path in paths(settings) if path]
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        section = settings
        for key in way:
            section = section[key]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "rename", "add", "repeat"]))
        value = section[last]
        if kind == "replace":
            section[last] = draw(VALUES)
        elif kind == "remove":
            del section[last]
        elif kind == "rename" and isinstance(section, dict):
            section[draw(WORDS) or str(last)[:-1]] = section.pop(last)
        elif kind == "add" and isinstance(value, dict):
            value[draw(WORDS | st.integers(0, 2))] = draw(VALUES)
        elif kind == "repeat" and isinstance(value, list):
            value.extend(value)
    return settings


def usable(config):
    """What rules do with a configuration."""
    assert isinstance(config, Config)
    for variant in config.variant_names:
        recipe = config.recipe(variant)
        assert Recipe.parse(json.loads(recipe.model_dump_json())) == recipe
        json.dumps(recipe.model_dump(mode="json"), allow_nan=False)
    for section in ("pose", "synthetic"):
        json.dumps(getattr(config, section).model_dump(mode="json"), allow_nan=False)
    for parameter in type(config.sweeps).model_fields:
        assert set(config.sweep(parameter).values()) <= set(config.variant_names)
    assert {config.trained_on(name) for name in config.test_sets} <= config.train_sets
    for comparison in config.comparisons.values():
        assert set(comparison.variants) <= set(config.variant_names)
    assert len(set(config.seeds)) == len(config.seeds) > 0
    for train_set in config.train_sets:
        config.train_identities(train_set)


@given(mutated())
def test_a_configuration_works_or_is_refused_key_by_key(clear, settings):
    config = clear(load_config, settings, named=["setting "])
    if config is not None:
        usable(config)


@given(VALUES)
def test_anything_at_all_is_a_configuration_or_refused(clear, value):
    for model in (Config, Recipe, PoseSettings):
        clear(model.parse, value, named=["setting ", "the settings: "])


@given(st.sampled_from(sorted(Config.model_fields)), VALUES, st.sampled_from(PRESETS))
def test_any_value_of_any_section_is_taken_or_refused(clear, section, value, experiment):
    config = clear(load_config, {"experiment": experiment, section: value}, named=["setting "])
    if config is not None:
        usable(config)


@given(st.lists(st.sampled_from(sorted(Config.model_fields)) | WORDS, max_size=2), st.text())
def test_any_override_of_the_command_line_is_taken_or_refused(clear, keys, value):
    given_values = [f"{key}={value}" for key in keys]
    settings = clear(overridden, {}, given_values, named=["--config "])
    if settings is not None:
        clear(load_config, settings, named=["setting "])


TEXT = yaml.safe_dump(WHOLE["demo"]).encode()


@given(st.data())
def test_a_damaged_file_is_read_or_named(clear, damaged, tmp_path, data):
    path = tmp_path / "config.yaml"
    path.write_bytes(data.draw(damaged(TEXT)))
    settings = clear(read_yaml, path, named=[path])
    if settings is not None:
        config = clear(load_config, settings, named=["setting "])
        if config is not None:
            usable(config)


@given(st.binary(max_size=40) | st.text(alphabet="[]{}&*!:-?|>'\"#%@,\n ax", max_size=40))
def test_any_text_is_yaml_or_named(clear, tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    clear(read_yaml, path, named=[path])
