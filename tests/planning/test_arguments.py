import json
import re
import shlex

import pytest

from pgfl.planning.arguments import any_of, as_json, json_option, option
from pgfl.pose.settings import PoseSettings


def test_json_is_the_same_for_the_same_settings():
    assert as_json({"b": 1, "a": [2.0]}) == as_json({"a": [2.0], "b": 1}) == '{"a": [2.0], "b": 1}'
    pose = PoseSettings(height=64, width=32)
    assert PoseSettings(**json.loads(as_json(pose))) == pose


@pytest.mark.parametrize("value", ["plain", "a b", "$(touch pwned)", "it's", "-x", 'a"b', "ü;x"])
def test_an_option_reaches_the_command_as_it_is(value):
    assert shlex.split(option("url", value)) == ["--url", value]
    name, given = shlex.split(json_option("left-out", {value: [value]}))
    assert (name, json.loads(given)) == ("--left-out", {value: [value]})


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_without_a_value_there_is_no_option(nothing):
    assert option("url", nothing) == json_option("left-out", nothing) == ""


def test_a_constraint_matches_its_names_and_no_others():
    pattern = re.compile(any_of({"b.c", "a"}))
    assert pattern.fullmatch("b.c") and pattern.fullmatch("a")
    assert not pattern.fullmatch("bxc") and not pattern.fullmatch("")
    assert not re.fullmatch(any_of([]), "") and not re.match(any_of([]), "a")
