import json
import os

import pytest

from pgfl.config.load import load_config
from pgfl.datasets.registry import SOURCES, TRAIN_SET
from pgfl.errors import UserError
from pgfl.planning.at_hand import ARCHIVES_OF, LACKING, AtHand, find_at_hand, left_out_lines

NOWHERE = {
    SOURCES[name].name: "file:///nowhere/x.zip"
    for name in ("occluded_duke", "partial_reid", "partial_ilids")
}
"""Addresses that never answer, so that no test asks the network."""
MARKET, DUKE, OCCLUDED_DUKE = (
    SOURCES[name].name for name in ("market1501", "dukemtmc_reid", "occluded_duke")
)


@pytest.fixture
def look(tmp_path, monkeypatch):
    """What is at hand in a folder with some archives, as the first process of a run finds it."""
    monkeypatch.chdir(tmp_path)

    def find(*present, **settings):
        monkeypatch.setenv(LACKING, "")  # so that what is set is undone at the end
        monkeypatch.delenv(LACKING)
        (tmp_path / "archives").mkdir(exist_ok=True)
        for name in present:
            (tmp_path / "archives" / SOURCES[name].name).touch()
        config = {"experiment": "paper", "archives": {"urls": NOWHERE}} | settings
        return find_at_hand(load_config(config))

    return find


def lacking(found):
    return {dataset: sorted(files) for dataset, files in found.lacking.items()}


def test_every_shipped_set_is_made_of_known_archives():
    assert ARCHIVES_OF.keys() == TRAIN_SET.keys()
    assert {name for names in ARCHIVES_OF.values() for name in names} == SOURCES.keys()


def test_nothing_is_lacking_where_all_is_here_or_drawn(look):
    assert look(*SOURCES).lacking == {}
    assert look(experiment="demo").lacking == {}


def test_what_is_made_of_a_missing_archive_is_missing_too(look):
    found = look("market1501", "partial_reid")
    assert lacking(found) == {
        "dukemtmc_reid": [DUKE],
        "occluded_duke": sorted([DUKE, OCCLUDED_DUKE]),
        "partial_duke": [DUKE],
        "occluded_reid": ["Occluded_REID.zip"],
        "partial_ilids": ["Partial_iLIDS.zip"],
    }
    assert "withdrawn by its authors in 2019" in found.lacking["partial_duke"][DUKE]
    line = found.lacking["partial_ilids"]["Partial_iLIDS.zip"]
    assert "Put it at archives/Partial_iLIDS.zip" in line
    assert "file:///nowhere/x.zip cannot be reached (" in line


def test_an_evaluation_needs_the_training_set_as_well(look):
    found = look("dukemtmc_reid", "occluded_reid")
    assert found.of_images("occluded_reid") == {}
    assert list(found.of_evaluation("occluded_reid")) == [MARKET]
    assert found.of_evaluation("partial_duke") == {}


def test_an_own_set_tested_with_missing_models_is_left_out(look, tmp_path):
    datasets = {
        "mine": {"table": "mine.csv"},
        "yours": {"table": "yours.csv", "models_of": "dukemtmc_reid"},
    }
    found = look("market1501", datasets=datasets)
    assert found.of_evaluation("mine") == {}
    assert list(found.of_evaluation("yours")) == [DUKE]


def test_where_nothing_can_be_tested_nothing_is_left_out(look):
    # The start of a run then says all that is missing, as it does for a single target.
    assert look("partial_reid", "occluded_reid", "occluded_duke").lacking == {}


def test_a_file_that_the_configuration_names_is_never_left_out(look):
    archives = {"urls": NOWHERE, "files": {"dukemtmc_reid": "/nowhere/duke.zip"}}
    found = look("market1501", archives=archives)
    assert "dukemtmc_reid" not in found.lacking and "partial_duke" not in found.lacking


def test_an_address_that_answers_is_as_good_as_a_file(look, tmp_path):
    (tmp_path / "mirror.zip").touch()
    urls = NOWHERE | {"Occluded_REID.zip": (tmp_path / "mirror.zip").as_uri()}
    found = look("market1501", archives={"urls": urls})
    assert "occluded_reid" not in found.lacking and "partial_ilids" in found.lacking


@pytest.mark.parametrize(
    ("made", "at_hand"),
    [
        (f"archives/{DUKE}", {"dukemtmc_reid", "partial_duke"}),
        ("dukemtmc_reid/images/x", {"dukemtmc_reid", "partial_duke"}),
        ("partial_duke/manifest.csv", {"partial_duke"}),
        ("occluded_duke/manifest.csv", {"occluded_duke"}),
    ],
)
def test_what_has_been_made_is_at_hand_without_its_archive(look, tmp_path, made, at_hand):
    path = tmp_path / "data/paper" / made
    path.parent.mkdir(parents=True)
    path.touch()
    found = look("market1501")
    duke = {"dukemtmc_reid", "occluded_duke", "partial_duke"}
    assert duke - found.lacking.keys() == at_hand


def test_the_processes_that_a_run_starts_are_told(look, tmp_path):
    found = look("market1501")
    assert json.loads(os.environ[LACKING]) == found.lacking
    (tmp_path / "archives" / DUKE).touch()
    assert find_at_hand(found.config).lacking == found.lacking


@pytest.fixture
def some():
    config = load_config({"experiment": "paper"})
    return AtHand(config, {"dukemtmc_reid": {"d.zip": "d is gone."}})


def test_a_table_goes_without_some_sets_but_never_without_all(some):
    assert some.left_out(["market1501", "dukemtmc_reid"]) == {"dukemtmc_reid": ["d.zip"]}
    assert some.cannot(["market1501", "dukemtmc_reid"]) == {}
    assert some.left_out(["dukemtmc_reid"]) == {}
    assert some.cannot(["dukemtmc_reid"]) == {"d.zip": "d is gone."}
    assert some.left_out(["market1501"]) == some.cannot(["market1501"]) == {}


def test_the_list_says_each_file_once_and_what_follows():
    left_out = {"b": {"d.zip": "d is gone."}, "a": {"d.zip": "d is gone."}, "c": {}}
    assert list(left_out_lines(left_out, ["table6", "figure3"], {"table2": {"a": ["d.zip"]}})) == [
        "Left out, since files are missing:",
        "  a, b: d is gone.",
        "  Not made: table6, figure3.",
        "  Empty cells in table2: a.",
        "  With these files the same command makes the rest.",
    ]
    assert list(left_out_lines({"c": {}}, [], {})) == []


def test_an_assembled_occluded_duke_needs_no_dukemtmc(look, tmp_path):
    folder = tmp_path / "archives" / "Occluded_Duke"
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0001_c1_f0000001.jpg").touch()
    found = look("market1501")
    assert "occluded_duke" not in found.lacking and "dukemtmc_reid" in found.lacking


def test_two_folders_that_could_be_one_set_are_asked_about(look, tmp_path):
    for name in ("Market-1501", "market1501"):
        for split in ("bounding_box_train", "query", "bounding_box_test"):
            (tmp_path / "archives" / name / split).mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"Market-1501 may be any of .*name one in archives\.files"
    ):
        look()
