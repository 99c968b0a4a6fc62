"""The workflow with data sets as they lie about: unpacked, or packed again."""

import json
import shutil
import zipfile

import pytest

from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.settings import SyntheticSettings

SMALL = SyntheticSettings(train_identities=4, test_identities=4, images=4, height=32, width=16)
IMAGES = "data/paper/market1501/images"
LISTED = "data/paper/market1501/manifest.csv"


@pytest.fixture
def mine(project):
    """Market-1501 as torchreid keeps it, found by itself in `archives/`."""
    synthesize("market1501", project.root / "set.zip", SMALL)
    with zipfile.ZipFile(project.root / "set.zip") as packed:
        packed.extractall(project.root / "archives" / "market1501")
    project.write_config({"experiment": "paper"})
    return project.root / "archives" / "market1501" / "Market-1501-v15.09.15"


def test_an_unpacked_set_is_laid_out_and_a_change_in_it_noticed(project, mine):
    _, output = project.snakemake("-n", LISTED)
    assert "  of Market-1501 (from folder archives/market1501)" in output
    assert "get_archive" not in output
    project.snakemake("--cores", "1", IMAGES)
    origin = json.loads((project.root / IMAGES / "origin.json").read_text())
    assert origin == {"origin": "folder"}
    assert project.planned(IMAGES) == []
    gone = next((mine / "query").glob("*.jpg"))
    gone.unlink()
    assert project.planned(IMAGES) == [IMAGES]
    # It is not what was published, which is said by what differs.
    code, output = project.snakemake("--cores", "1", LISTED, check=False)
    assert code != 0 and "published 750 ids, 3368 images, 6 cameras; 33" in output
    assert "images too few" in output and not (project.root / LISTED).exists()


def test_what_is_wrong_with_an_own_folder_is_one_line_of_a_dry_run(project, mine):
    shutil.rmtree(mine / "query")
    project.write_config(
        {"experiment": "paper", "archives": {"files": {"market1501": "archives/market1501"}}}
    )
    code, output = project.snakemake("-n", LISTED, check=False)
    assert code != 0 and "Traceback" not in output
    assert output.splitlines()[-1].endswith("Market-1501-v15.09.15 lacks query)")
    shutil.rmtree(mine.parent)
    _, output = project.snakemake("-n", LISTED, check=False)
    assert "archives/market1501 is missing, but archives.files names it" in output


def test_an_assembled_occluded_duke_needs_no_duke(project):
    name = "0001_c1_f0000001.jpg"
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        path = project.root / "archives" / "Occluded_Duke" / folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    project.write_config({"experiment": "paper"})
    images = "data/paper/occluded_duke/images"
    assert project.planned(images) == [images]
    project.snakemake("--cores", "1", images)
    assert (project.root / images / "query" / name).is_file()
