import csv
import json
import zipfile

import cv2
import numpy as np
import pytest

from pgfl.cli.main import app
from pgfl.config.load import load_config
from pgfl.datasets.registry import SOURCES
from pgfl.errors import UserError
from pgfl.planning.own_files import OwnFiles, sizes

FEW = {"train_identities": 4, "test_identities": 4, "images": 4, "height": 64, "width": 32}
MARKET = SOURCES["market1501"].name


@pytest.fixture
def own(tmp_path, monkeypatch):
    """What a configuration of the paper finds; `archives` is an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "archives").mkdir()
    return lambda **settings: OwnFiles(load_config({"experiment": "paper"} | settings))


@pytest.fixture
def market(tmp_path, own):
    """Market-1501, drawn, in its unpacked folder."""
    packed = tmp_path / "market.zip"
    command = ["archive", "synthesize", "market1501", "--out", packed]
    command += ["--joints", tmp_path / "joints.npz", "--settings", json.dumps(FEW)]
    app([str(word) for word in command], standalone_mode=False)
    zipfile.ZipFile(packed).extractall(tmp_path / "archives")
    packed.unlink()
    return next((tmp_path / "archives").iterdir())


def test_an_archive_is_found_and_unpacked_in_the_workflows_folder(own, tmp_path):
    (tmp_path / "archives" / MARKET).write_text("zip")
    found = own()
    assert found.archive("market1501") == [f"archives/{MARKET}"]
    assert sizes(found.archive("market1501")) == [3]
    assert found.unpacked("market1501") == found.unpacked_stamp("market1501") == ""
    assert found.packed("market1501") == [f"data/paper/archives/{MARKET}"]
    assert found.place("market1501") == f"data/paper/archives/{MARKET}"


def test_nothing_is_found_where_there_is_nothing(own):
    assert own().archive("market1501") == own().weights("resnet50") == []


def test_an_unpacked_folder_is_read_where_it_lies(own, market):
    files = {"files": {"market1501": str(market)}}
    found = own(archives=files)
    assert found.unpacked("market1501") == found.place("market1501") == str(market)
    assert found.packed("market1501") == found.archive("market1501") == []
    image = next(market.rglob("*.jpg"))
    before = found.unpacked_stamp("market1501")
    assert own(archives=files).unpacked_stamp("market1501") == before
    image.unlink()
    assert found.unpacked_stamp("market1501") == before  # looked at once in a run
    assert own(archives=files).unpacked_stamp("market1501") != before


def test_a_folder_that_holds_no_such_data_set_is_named(own, tmp_path):
    (tmp_path / "empty").mkdir()
    found = own(archives={"files": {"market1501": str(tmp_path / "empty")}})
    with pytest.raises(UserError, match=r"^Market-1501: .*empty"):
        found.unpacked_stamp("market1501")


def test_a_drawn_data_set_is_never_unpacked_already(own, market):
    assert own(experiment="demo").unpacked("market1501") == ""


def test_weights_in_the_folder_are_found(own, tmp_path):
    (tmp_path / "archives" / "resnet50-0676ba61.pth").touch()
    assert own().weights("resnet50") == ["archives/resnet50-0676ba61.pth"]


def test_a_photograph_that_is_gone_is_said_of_its_data_set(own, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    rows = [("a.png", "query", 0, 0), ("b.png", "gallery", 0, 1)]
    for number, (name, *_) in enumerate(rows):
        cv2.imwrite(str(photographs / name), np.full((64, 32, 3), 80 * number, np.uint8))
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "split", "pid", "camid"), *rows])
    mine = {"table": "mine.csv", "images": "photographs", "models_of": "market1501"}
    found = own(datasets={"mine": mine})
    assert found.images_folder("mine") == "photographs"
    assert found.photographs_stamp("mine") == ""  # nothing was taken yet
    folder = tmp_path / "data" / "paper" / "mine"
    command = ["take", "mine.csv", "--images", "photographs", "--laid-out", folder / "images"]
    command += ["--manifest", folder / "manifest.csv", "--counts", folder / "counts.json"]
    app([str(word) for word in command], standalone_mode=False)
    assert found.photographs_stamp("mine") == ""  # what was taken is still there
    cv2.imwrite(str(photographs / "a.png"), np.full((64, 32, 3), 200, np.uint8))
    assert found.photographs_stamp("mine") != ""
    (photographs / "b.png").unlink()
    with pytest.raises(UserError, match=r"^setting datasets\.mine: .*b\.png"):
        found.photographs_stamp("mine")
