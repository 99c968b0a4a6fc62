"""Whose an evaluation is: by its content, and by its folder where an older file does not say."""

import json
import shutil
from pathlib import Path

import pytest

from pgfl.errors import UserError
from pgfl.reporting.evaluations import read_evaluation, read_evaluations


@pytest.fixture
def evaluation(make_run):
    return make_run("baseline", "occluded_duke", 1, {"mAP": 3.0})


def edit(file, **changes):
    report = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in report.items() if value is not None}))


def test_the_content_says_what_it_is_of(evaluation):
    found = read_evaluation(evaluation)
    assert (found.train, found.variant, found.seed) == ("occluded_duke", "baseline", 1)
    assert found.value("mAP") == 3.0


def test_of_older_files_the_folder_tells(evaluation):
    expected = read_evaluation(evaluation)
    edit(evaluation, train_set=None, dataset=None, variant=None, seed=None)
    found = read_evaluation(evaluation)
    assert (found.train, found.variant, found.seed) == (
        expected.train,
        expected.variant,
        expected.seed,
    )
    (one,) = read_evaluations([evaluation], "baseline", "occluded_duke")
    assert one.report.keys().isdisjoint({"train_set", "dataset", "variant", "seed"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "pgfl_kd"}, r"of variant 'pgfl_kd' by its content, .* of 'baseline'"),
        ({"train_set": "market1501"}, r"of train_set 'market1501' .* of 'occluded_duke'"),
        ({"seed": 0}, r"of seed 0 by its content, .* of 1; put it back"),
        ({"seed": True}, r"of seed True by its content"),
        ({"seed": "1"}, r"of seed '1' by its content"),
        ({"seed": 1.0}, r"of seed 1\.0 by its content"),
        ({"variant": ["baseline"]}, r"of variant .* by its content"),
        ({"dataset": "occluded_reid"}, r"of dataset 'occluded_reid' .* after 'occluded_duke'"),
    ],
)
def test_a_contradiction_is_refused_by_name(evaluation, changes, message):
    edit(evaluation, **changes)
    with pytest.raises(UserError, match=rf"occluded_duke\.json: is {message}"):
        read_evaluations([evaluation], "baseline", "occluded_duke")


def test_a_folder_that_was_copied_to_another_variants_name_is_refused(evaluation):
    run = evaluation.parents[1]
    copy = run.parents[1] / "pgfl_kd" / run.name
    shutil.copytree(run, copy)
    with pytest.raises(UserError, match=r"pgfl_kd/seed1/.*json: is of variant 'baseline'"):
        read_evaluation(Path(copy, "eval", evaluation.name))
