"""The commands for data sets of one's own, as a user types them."""

import shutil

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from pgfl.cli.data import app
from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.errors import UserError

TINY = SyntheticSettings(
    train_identities=4, test_identities=4, images=4, height=32, width=16, cameras=2
)


@pytest.fixture
def pgfl(tmp_path, monkeypatch):
    """Runs a command in a folder of its own; returns what it prints, or its refusal's lines."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if isinstance(result.exception, UserError):
            return str(result.exception).splitlines()
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout.splitlines()

    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawn people, a folder for each, with the camera in the files' names."""
    place = tmp_path_factory.mktemp("drawn")
    synthesize("dukemtmc_reid", place / "duke.zip", TINY)
    shutil.unpack_archive(place / "duke.zip", place / "duke")
    folder = place / "crops"
    for number, path in enumerate(sorted((place / "duke").rglob("*.jpg"))):
        pid, camera = path.stem.split("_")[:2]
        (folder / f"p{pid}").mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"p{pid}" / f"{camera}_{number:03d}.jpg")
    return folder


@pytest.fixture
def crops(drawn, tmp_path):
    """The same in the folder where commands run."""
    return shutil.copytree(drawn, tmp_path / "crops")


def pasted(lines):
    """The configuration that a command says to paste."""
    start = lines.index("datasets:")
    return yaml.safe_load("\n".join(lines[start : lines.index("", start)]))


def test_a_folder_becomes_a_data_set_that_is_in_order(pgfl, crops, tmp_path):
    said = pgfl("own-table", "crops", "--out", "mine.csv", "--train", 0.5)
    assert "crops: a folder for each person, names begin with the camera" in said[0]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(pasted(said)))
    assert pgfl("verify", "mine") == [
        "data/demo/mine: holds no data set yet; make it: snakemake data/demo/mine/manifest.csv"
    ]
    counts = pgfl("take", "mine.csv", "--images", "crops", "--out", "data/demo/mine")
    images = {line.split(": ")[1]: int(line.split()[-4]) for line in counts}
    assert sum(images.values()) == len(list(crops.rglob("*.jpg")))
    assert all("as it should be" in line for line in pgfl("verify", "mine"))
    table = pd.read_csv("mine.csv")
    assert [f"mine.csv: {s}" for s in ("gallery", "query", "train")] == [
        ": ".join(line.split(": ")[:2]) for line in said if line.startswith("mine.csv: ")
    ]
    assert dict(table["split"].value_counts()) == images


def test_a_table_is_replaced_by_force_only(pgfl, crops, tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    assert pgfl("own-table", "crops", "--out", "mine.csv") == [
        "mine.csv: is there already; --force replaces it"
    ]
    assert (tmp_path / "mine.csv").read_text() == "mine"
    pgfl("own-table", "crops", "--out", "mine.csv", "--force")
    assert (tmp_path / "mine.csv").read_text().startswith("image,split,pid,camid\n")


def test_what_gives_no_table_writes_none(pgfl, crops, tmp_path):
    (line,) = pgfl("own-table", "crops", "--out", "mine.csv", "--pattern", "{pid}.png")
    assert line.startswith("crops: none of the ") and not (tmp_path / "mine.csv").exists()


@pytest.fixture
def taken(pgfl, crops, tmp_path):
    """The same taken into the folder of the demo."""
    said = pgfl("own-table", "crops", "--out", "mine.csv")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(pasted(said)))
    pgfl("take", "mine.csv", "--images", "crops", "--out", "data/demo/mine")
    return pd.read_csv(tmp_path / "mine.csv")["image"]


def test_a_name_that_is_none_is_said_with_those_that_are(pgfl, taken):
    (line,) = pgfl("verify", "mien")
    assert line.startswith("no 'mien'; known: dukemtmc_reid, market1501, mine, ")


def test_without_a_configuration_what_was_taken_is_verified_too(pgfl, taken, tmp_path):
    (tmp_path / "config.yaml").write_text("experiment: demo\n")
    assert "as it should be" in pgfl("verify", "mine", "--data", "data/demo")[0]


def test_photographs_and_tables_that_are_other_ones_are_said(pgfl, taken, crops, tmp_path):
    first, second = (crops / name for name in taken[:2])
    content = second.read_bytes()
    first.unlink()  # the copy that was taken is the same file
    first.write_bytes(content)
    lines = pgfl("verify", "mine")
    assert lines == [
        f"crops/{taken[0]}: has changed since it was taken",
        "what was taken is in order; take it again: snakemake data/demo/mine/manifest.csv",
    ]


def test_images_that_were_changed_where_they_lie_are_said(pgfl, taken, tmp_path):
    copy = tmp_path / "data/demo/mine/images" / taken[0]
    content = bytearray(copy.read_bytes())
    content[-3] ^= 1
    copy.write_bytes(content)
    assert pgfl("verify", "mine") == [
        f"data/demo/mine: images/{taken[0]}: its content has changed"
    ]


def test_images_that_are_gone_are_said_once(pgfl, taken, tmp_path):
    (tmp_path / "data/demo/mine/images").rename(tmp_path / "elsewhere")
    assert pgfl("verify", "mine") == [
        "data/demo/mine/images: is gone; make it again: snakemake data/demo/mine/images"
    ]


def test_each_file_of_a_taken_data_set_can_be_named(pgfl, crops, tmp_path):
    pgfl("own-table", crops, "--out", "mine.csv")
    named = ["--laid-out", "set/people", "--manifest", "set/list.csv", "--counts", "set/n.json"]
    assert pgfl("take", "mine.csv", "--images", crops, *named)[0].startswith("set: ")
    found = {path.name for path in (tmp_path / "set").iterdir()}
    assert {"people", "list.csv", "n.json"} <= found
    listed = pd.read_csv(tmp_path / "set/list.csv")["image"]
    assert all((tmp_path / "set" / image).is_file() for image in listed)
    pgfl("take", "mine.csv", "--images", crops, "--out", "short")
    assert (tmp_path / "short/counts.json").read_text() == (tmp_path / "set/n.json").read_text()


def test_files_of_a_data_set_without_a_place_are_named(pgfl, crops):
    pgfl("own-table", crops, "--out", "mine.csv")
    assert pgfl("take", "mine.csv", "--images", crops, "--manifest", "m.csv") == [
        "--out: needed, since nothing says where these go: images, counts"
    ]
    elsewhere = ["--out", "set", "--counts", "other/counts.json"]
    assert pgfl("take", "mine.csv", "--images", crops, *elsewhere) == [
        "set/manifest.csv: images, manifest and counts must lie in one folder"
    ]
