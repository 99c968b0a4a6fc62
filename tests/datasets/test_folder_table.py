from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pgfl.config.load import load_config
from pgfl.config.own_dataset import config_lines
from pgfl.datasets.folder_table import table_of_folder
from pgfl.datasets.manifest import find_problems
from pgfl.errors import UserError

FOLDER = Path("photos")
PATTERN = "{pid}_c{camid}_{}.jpg"


def names(people=10, cameras=2, images=2):
    return [
        f"p{person:02d}_c{camera}_{number}.jpg"
        for person in range(people)
        for camera in range(cameras)
        for number in range(images)
    ]


def splits(table):
    return {split: set(rows["pid"]) for split, rows in table.groupby("split")}


def test_people_are_divided_and_each_camera_asks_once():
    table = table_of_folder(FOLDER, names(), PATTERN).table
    people = splits(table)
    assert len(people["train"]) == 5 and not people["train"] & people["query"]
    assert people["query"] == people["gallery"]
    queries = table[table["split"] == "query"]
    assert Counter(zip(queries["pid"], queries["camid"], strict=True)) == {
        (pid, camid): 1 for pid in people["query"] for camid in "01"
    }


def test_the_seed_decides_and_nothing_else():
    def made(seed, images):
        return table_of_folder(FOLDER, images, PATTERN, seed=seed).table

    pd.testing.assert_frame_equal(made(1, names()), made(1, names()[::-1]))
    assert splits(made(1, names()))["train"] != splits(made(2, names()))["train"]


@pytest.mark.parametrize(("train", "people"), [(0, 0), (0.01, 1), (0.3, 3), (0.99, 9), (1, 10)])
def test_the_share_in_train_is_of_people(train, people):
    table = table_of_folder(FOLDER, names(), PATTERN, train=train).table
    assert len(splits(table).get("train", ())) == people


def test_without_cameras_each_person_asks_once():
    table = table_of_folder(FOLDER, names(cameras=1), "{pid}_c0_{}.jpg", train=0).table
    assert list(table.columns) == ["image", "split", "pid"]
    assert Counter(table["split"]) == {"query": 10, "gallery": 10}


def test_one_camera_is_none_and_that_is_said():
    made = table_of_folder(FOLDER, names(cameras=1), PATTERN, train=0)
    assert "camid" not in made.table
    assert "note: all images are of camera 0: camid is left out" in made.understood


def test_who_cannot_be_found_again_is_in_the_gallery():
    made = table_of_folder(FOLDER, ["x_c1_1.jpg", "x_c1_2.jpg", *names(2)], PATTERN, train=0)
    assert set(made.table["split"][made.table["pid"] == "x"]) == {"gallery"}
    assert made.understood[-1].endswith("is no query but in the gallery: 1 of the test half")


def test_splits_that_names_tell_are_kept_and_test_is_divided():
    images = [f"{s}/{p}{s[0]}/{n}.jpg" for s in ("train", "test") for p in "ab" for n in (1, 2)]
    people = splits(table_of_folder(FOLDER, images).table)
    assert people["train"] == {"at", "bt"} and people["query"] == {"at", "bt"}


def test_beside_queries_test_is_the_gallery():
    images = [f"{s}/{p}/{n}.jpg" for s in ("query", "test") for p in "ab" for n in (1, 2)]
    table = table_of_folder(FOLDER, images).table
    assert all(
        split == {"query": "query", "test": "gallery"}[image.split("/")[0]]
        for image, split in zip(table["image"], table["split"], strict=True)
    )


def test_a_share_is_not_taken_where_the_names_have_splits():
    images = [f"{s}/{p}/{n}.jpg" for s in ("train", "test") for p in "ab" for n in (1, 2)]
    with pytest.raises(UserError, match="--train: the names have a split already"):
        table_of_folder(FOLDER, images, train=0.5)


def test_what_was_understood_is_said_and_what_was_not():
    odd = [f"odd{number:02d}.jpg" for number in range(12)]
    said = table_of_folder(FOLDER, [*names(), *odd], PATTERN).understood
    assert said[0] == "    'p00_c0_0.jpg': pid 'p00', camid '0'" and len(said) == 3 + 1 + 11
    assert said[3] == "warning: 12 of 52 images do not fit and are left out:"
    assert said[4] == "    'odd00.jpg'" and said[-1] == "    and 2 more"


def test_a_recognised_layout_is_said_as_a_pattern():
    assert table_of_folder(FOLDER, names()).understood[0] == (
        "photos: person, camera, number: --pattern '{pid}_c{camid:d}_{}'"
    )


def test_markets_junk_is_left_out():
    images = [
        f"{pid}_c{c}s1_{n}.jpg" for pid in ("-1", "0001", "0002") for c in "12" for n in "12"
    ]
    made = table_of_folder(FOLDER, images)
    assert "-1" not in set(made.table["pid"])
    assert "note: 4 images of pid -1 are junk by Market-1501's names: left out" in made.understood


def test_cameras_of_one_image_each_are_doubted():
    said = table_of_folder(FOLDER, names(), "{pid}_{camid}.jpg").understood
    assert not any("is {camid} right?" in line for line in said)
    images = [f"p{n % 3}_{n}.jpg" for n in range(12)]
    said = table_of_folder(FOLDER, images, "{pid}_{camid}.jpg").understood
    assert "warning: 12 cameras for 12 images: is {camid} right?" in said


@pytest.mark.parametrize(
    ("images", "pattern", "message"),
    [
        (
            ["a.jpg", "b.jpg"],
            "",
            r"the 2 images are not named in a usual way \('a.jpg', 'b.jpg'\)",
        ),
        (["x/0001_c1_1.jpg"], "", "all images are in photos/x: name that"),
        (["a.jpg"], "{pid}.png", "none of the 1 images fits --pattern '{pid}.png'; they are nam"),
        (["a_1.jpg", "b_1.jpg"], "{pid}_{}.jpg", "there can be no query; try another --seed"),
    ],
)
def test_what_gives_no_table_is_one_line(images, pattern, message):
    with pytest.raises(UserError, match=message) as caught:
        table_of_folder(FOLDER, images, pattern)
    assert "\n" not in str(caught.value)


SIGHTINGS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=25)


@given(SIGHTINGS, st.booleans(), st.sampled_from([0, 0.5, 1]), st.integers(0, 3))
def test_any_table_keeps_every_image_and_every_query_has_a_match(sightings, cameras, train, seed):
    images = [f"{pid}_c{camid}_{n}.jpg" for n, (pid, camid) in enumerate(sightings)]
    pattern = PATTERN if cameras else "{pid}_{}.jpg"
    try:
        table = table_of_folder(FOLDER, images, pattern, train, seed).table
    except UserError as error:
        assert "there can be no query" in str(error)
        return
    assert sorted(table["image"]) == sorted(images)
    camids = table.get("camid", table["split"].map({"query": "0", "gallery": "1"}))
    assert find_problems(table.assign(camid=camids)) == []


@given(SIGHTINGS)
def test_a_query_is_given_up_only_where_one_more_would_lose_a_match(sightings):
    images = [f"{pid}_c{camid}_{n}.jpg" for n, (pid, camid) in enumerate(sightings)]
    try:
        table = table_of_folder(FOLDER, images, PATTERN, train=0).table
    except UserError:
        pairs = {(pid, camid) for pid, camid in sightings}
        people = [pid for pid, _ in pairs]
        one_camera = len({camid for _, camid in pairs}) == 1
        assert one_camera or len(people) == len(set(people))
        return
    if "camid" not in table:
        return
    asked = set(zip(*(table[c][table["split"] == "query"] for c in ("pid", "camid")), strict=True))
    for row in table[table["split"] == "gallery"].itertuples():
        if (row.pid, row.camid) not in asked:
            more = table.assign(split=table["split"].where(table["image"] != row.image, "query"))
            assert find_problems(more)


@pytest.mark.parametrize(
    "path", ["mine.csv", "My photos, 2024/é: 'x'.csv", "query/market1501.csv"]
)
@pytest.mark.parametrize("train", [0, 0.5, 1])
def test_the_lines_to_paste_are_a_configuration(path, train):
    table = table_of_folder(FOLDER, names(), PATTERN, train=train).table
    lines = config_lines(Path(path), Path("my: photos"), table)
    start = lines.index("datasets:")
    config = load_config(yaml.safe_load("\n".join(lines[start : lines.index("", start)])))
    ((name, own),) = config.datasets.items()
    assert own.files == (Path(path), Path("my: photos"))
    assert own.models_of == ("" if train else "market1501")
    assert f"snakemake data/demo/{name}/manifest.csv" in lines
