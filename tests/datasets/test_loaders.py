"""Each data set's own layout, with the traps that the real archive has."""

import pytest

from pgfl.datasets import (
    dukemtmc_reid,
    market1501,
    occluded_duke,
    occluded_reid,
    partial_ilids,
    partial_reid,
)
from pgfl.errors import UserError


def rows(listing):
    assert listing.problems == []
    return [(entry.split, entry.pid, entry.camid) for entry in listing.entries]


def test_market_lists_junk_and_distractors(lay_out):
    images = lay_out(
        "Market-1501-v15.09.15/Thumbs.db",
        "Market-1501-v15.09.15/readme.txt",
        "Market-1501-v15.09.15/bounding_box_train/0002_c1s1_000451_03.jpg",
        "Market-1501-v15.09.15/bounding_box_train/Thumbs.db",
        "Market-1501-v15.09.15/query/0001_c2s1_001976_00.jpg",
        "Market-1501-v15.09.15/bounding_box_test/0001_c6s1_001976_01.jpg",
        "Market-1501-v15.09.15/bounding_box_test/0000_c1s1_000151_01.jpg",
        "Market-1501-v15.09.15/bounding_box_test/-1_c1s1_000401_03.jpg",
        "__MACOSX/Market-1501-v15.09.15/query/x",
    )
    listing = market1501.read(images)
    assert rows(listing) == [
        ("train", 2, 1),
        ("query", 1, 2),
        ("gallery", -1, 1),
        ("gallery", 0, 1),
        ("gallery", 1, 6),
    ]
    assert listing.entries[0].image == (
        "images/Market-1501-v15.09.15/bounding_box_train/0002_c1s1_000451_03.jpg"
    )


def test_duke_names(lay_out):
    images = lay_out(
        "DukeMTMC-reID/.DS_Store",
        "DukeMTMC-reID/bounding_box_train/0005_c2_f0046985.jpg",
        "DukeMTMC-reID/query/0007_c8_f0000001.jpg",
        "DukeMTMC-reID/bounding_box_test/0007_c1_f0000002.jpg",
    )
    assert rows(dukemtmc_reid.read(images)) == [
        ("train", 5, 2),
        ("query", 7, 8),
        ("gallery", 7, 1),
    ]


@pytest.mark.parametrize(
    "stray", ["notes.txt", "0002_c7s1_000451_03.jpg", "0002_c1s1_000451_03.jpg.part", "2.jpg"]
)
def test_a_file_that_does_not_belong_is_named(lay_out, stray):
    images = lay_out(
        f"m/bounding_box_train/{stray}", "m/query/Thumbs.db", "m/bounding_box_test/Thumbs.db"
    )
    listing = market1501.read(images)
    assert listing.entries == []
    (problem,) = listing.problems
    assert problem.startswith(f"images/m/bounding_box_train/{stray}: the name does not match")


def test_a_folder_that_is_missing_or_there_twice_is_named(lay_out):
    images = lay_out("m/bounding_box_train/Thumbs.db", "m/query/a", "n/query/a")
    with pytest.raises(UserError, match=r"/m lacks bounding_box_test\)"):
        market1501.read(images)
    lay_out("m/bounding_box_test/a", "n/bounding_box_train/a", "n/bounding_box_test/a")
    with pytest.raises(UserError, match=r"2 folders hold .*/m, .*/n; name one"):
        market1501.read(images)
    with pytest.raises(UserError, match=r"images lacks whole_body_images\)"):
        partial_reid.read(lay_out("partial_body_images/001_001.jpg"))


def test_occluded_reid_is_tiff_in_a_folder_a_person_without_cameras(lay_out):
    images = lay_out(
        "Occluded_REID/occluded_body_images/001/001_01.tif",
        "Occluded_REID/whole_body_images/001/001_05.tif",
    )
    assert rows(occluded_reid.read(images)) == [("query", 1, 0), ("gallery", 1, 1)]
    wrong = lay_out("Occluded_REID/whole_body_images/001/002_01.tif")
    assert "002_01.tif: the name does not match" in occluded_reid.read(wrong).problems[0]


def test_partial_reid_asks_with_partial_images_and_leaves_occluded_ones_out(lay_out):
    images = lay_out(
        "Partial-REID_Dataset/Readme.txt",
        "Partial-REID_Dataset/occluded_body_images/001_001.jpg",
        "Partial-REID_Dataset/occluded_body_images/.DS_Store",
        "Partial-REID_Dataset/partial_body_images/060_005.jpg",
        "Partial-REID_Dataset/whole_body_images/060_001.jpg",
    )
    assert rows(partial_reid.read(images)) == [("query", 60, 0), ("gallery", 60, 1)]


def test_partial_ilids_ignores_the_uncropped_probes(lay_out):
    images = lay_out(
        "Partial_iLIDS/Probe.txt",
        "Partial_iLIDS/Probe/119.jpg",
        "Partial_iLIDS/Probe/.DS_Store",
        "Partial_iLIDS/partial_iLIDS_Probe_nocrop/119.jpg",
        "Partial_iLIDS/Gallery/119.jpg",
    )
    assert rows(partial_ilids.read(images)) == [("query", 119, 0), ("gallery", 119, 1)]


NAMES = {
    "bounding_box_train": "0001_c1_f0000001.jpg",
    "query": "0002_c1_f0000002.jpg",
    "bounding_box_test": "0002_c2_f0000003.jpg",
}


@pytest.fixture
def duke(lay_out):
    return lay_out(*(f"DukeMTMC-reID/{folder}/{name}" for folder, name in NAMES.items()))


def write_lists(folder, **lists):
    folder.mkdir(exist_ok=True)
    for split, names in lists.items():
        (folder / f"{split}.list").write_text("\n".join(names) + "\n")
    return folder


def test_occluded_duke_is_laid_out_from_lists_over_all_folders(tmp_path, duke):
    lists = write_lists(
        tmp_path / "lists",
        train=[NAMES["bounding_box_train"]],
        # A query may lie in DukeMTMC-reID's gallery, and is then query and gallery at once.
        query=[NAMES["query"], NAMES["bounding_box_test"]],
        gallery=[NAMES["bounding_box_test"]],
    )
    target = tmp_path / "occluded_duke" / "images"
    assert occluded_duke.assemble(lists, duke, target) == 4
    assert rows(occluded_duke.read(target)) == [
        ("train", 1, 1),
        ("query", 2, 1),
        ("query", 2, 2),
        ("gallery", 2, 2),
    ]
    laid_out = target / "query" / NAMES["bounding_box_test"]
    assert laid_out.read_text() == f"DukeMTMC-reID/bounding_box_test/{NAMES['bounding_box_test']}"


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": [], "query": []}, r"0 files named gallery\.list"),
        ({"train": ["x.jpg"], "query": [], "gallery": []}, r"train\.list: row 1: 'x\.jpg'"),
        (
            {"train": ["0009_c1_f0000001.jpg"], "query": [], "gallery": []},
            r"1 images .* DukeMTMC-reID: 0009_c1_f0000001\.jpg",
        ),
    ],
)
def test_wrong_lists_are_named(tmp_path, duke, lists, message):
    folder = write_lists(tmp_path / "lists", **lists)
    with pytest.raises(UserError, match=message):
        occluded_duke.assemble(folder, duke, tmp_path / "out" / "images")
    assert not (tmp_path / "out").exists()
