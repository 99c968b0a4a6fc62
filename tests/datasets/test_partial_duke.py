"""Partial-Duke: exact shares, a choice that can be repeated, and crops that lose nothing."""

import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from pgfl.datasets import dukemtmc_reid, partial_duke
from pgfl.datasets.archives import extract
from pgfl.datasets.images import read_image
from pgfl.datasets.manifest import build_manifest, count, read_manifest, write_manifest
from pgfl.datasets.partial_duke import choose_crops, make_crops, share_out, write_crop
from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.errors import UserError
from pgfl.reporting.more.contact_sheet import WIDTH, choose_people, contact_sheet

SHARES = {"whole": 0.5, "upper_half": 0.25, "upper_third": 0.25}
DIVISORS = {"whole": 1, "upper_half": 2, "upper_third": 3}
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


@pytest.fixture(scope="module")
def duke(tmp_path_factory):
    """DukeMTMC-reID as drawn and unpacked, at the real images' usual size."""
    root = tmp_path_factory.mktemp("duke")
    settings = SyntheticSettings(
        train_identities=6, test_identities=6, images=9, cameras=3, height=256, width=108
    )
    synthesize("dukemtmc_reid", root / "duke.zip", settings)
    extract(root / "duke.zip", "dukemtmc_reid", root / "images")
    return root / "images"


@pytest.fixture(scope="module")
def made(duke, tmp_path_factory):
    """Partial-Duke from it, with its manifest."""
    images = tmp_path_factory.mktemp("partial_duke") / "images"
    make_crops(duke, images, seed=0)
    table, junk = build_manifest(partial_duke.read(images), images.parent)
    write_manifest(table, junk, images.parent / "manifest.csv")
    return images


def contents(images):
    return {
        path.relative_to(images).as_posix(): path.read_bytes()
        for path in images.rglob("*")
        if path.is_file()
    }


def original(duke, name):
    return duke / "DukeMTMC-reID" / name


@pytest.fixture
def copied(duke, tmp_path):
    """Makes a small DukeMTMC-reID of one's own: `images` of each folder's, free to be spoilt."""

    def make(images=4):
        for folder in FOLDERS:
            (tmp_path / "duke" / folder).mkdir(parents=True)
            for path in sorted(original(duke, folder).iterdir())[:images]:
                (tmp_path / "duke" / folder / path.name).write_bytes(path.read_bytes())
        return tmp_path / "duke"

    return make


# The choice --------------------------------------------------------------------------------------


@given(st.integers(0, 40))
def test_shares_are_the_nearest_whole_numbers_there_are(images):
    """Largest remainders are what minimises the squared distance to the exact quotas."""

    def distance(numbers):
        quotas = (images * share for share in SHARES.values())
        return sum((number - quota) ** 2 for number, quota in zip(numbers, quotas, strict=True))

    numbers = share_out(images)
    every = itertools.product(range(images + 1), repeat=3)
    best = min(distance(numbers) for numbers in every if sum(numbers) == images)
    assert list(numbers) == list(SHARES) and sum(numbers.values()) == images
    assert distance(numbers.values()) == best


def test_the_published_splits_divide_as_published():
    divided = {
        split: share_out(counts.images) for split, counts in partial_duke.PUBLISHED.counts.items()
    }
    assert {split: tuple(numbers.values()) for split, numbers in divided.items()} == {
        "train": (8261, 4131, 4130),
        "query": (1114, 557, 557),
        "gallery": (8831, 4415, 4415),
    }


NAMES = st.sets(st.from_regex(r"query/[0-9]{4}\.jpg", fullmatch=True), max_size=30)


@given(NAMES, st.integers(0, 2**40), st.randoms())
def test_every_image_gets_one_crop_whatever_the_order_of_listing(names, seed, random):
    shuffled = sorted(names)
    random.shuffle(shuffled)
    crops = choose_crops(shuffled, seed)
    assert crops == choose_crops(sorted(names), seed)
    assert crops.keys() == names
    assert Counter(crops.values()) == +Counter(share_out(len(names)))


def test_the_choice_is_the_same_for_all_time():
    crops = choose_crops([f"query/000{pid}_c1_f0000001.jpg" for pid in range(8)], seed=0)
    initials = {"whole": "w", "upper_half": "h", "upper_third": "t"}
    assert "".join(initials[crop] for crop in crops.values()) == "wwwwhhtt"
    assert "".join(name[9] for name in crops) == "47531602"  # as sha256sum sorts them


def test_seeds_choose_differently_and_each_image_gets_its_share_over_many_seeds():
    names = [f"{index:04d}.jpg" for index in range(20)]
    choices = [choose_crops(names, seed) for seed in range(400)]
    assert len({tuple(sorted(choice.items())) for choice in choices}) == 400
    for name in names:
        numbers = Counter(choice[name] for choice in choices)
        # Five standard deviations of a binomial of 400.
        assert abs(numbers["whole"] - 200) < 50 and abs(numbers["upper_half"] - 100) < 44


# The images --------------------------------------------------------------------------------------


def test_the_layout_and_names_are_dukes(duke, made):
    ours, theirs = dukemtmc_reid.read(made).entries, dukemtmc_reid.read(duke).entries
    rows = [
        [(Path(e.image).name, Path(e.image).parent.name, e.split, e.pid, e.camid) for e in found]
        for found in (ours, theirs)
    ]
    assert rows[0] == rows[1] and len(rows[0]) > 100
    assert sorted(path.name for path in made.iterdir()) == sorted(
        [*FOLDERS, "crops.csv", "origin.json"]
    )


def test_the_manifest_tells_each_images_crop_in_exact_shares_of_every_split(duke, made):
    table = read_manifest(made.parent / "manifest.csv")
    assert list(table.columns)[:5] == ["image", "split", "pid", "camid", "crop"]
    for split, rows in table.groupby("split"):
        assert Counter(rows.crop) == share_out(len(rows)), split
    for row in table.itertuples():
        width, height = Image.open(original(duke, row.image.removeprefix("images/"))).size
        expected = (width, round(height / DIVISORS[row.crop]))
        assert Image.open(made.parent / row.image).size == expected, row
    assert count(table) == count(build_manifest(dukemtmc_reid.read(duke), duke.parent)[0])


def test_whole_images_are_the_very_files_and_crops_are_the_top_rows(duke, made):
    distances = []
    for row in read_manifest(made.parent / "manifest.csv").itertuples():
        path, source = made.parent / row.image, original(duke, row.image.removeprefix("images/"))
        if row.crop == "whole":
            assert path.samefile(source)
            continue
        ours = read_image(path).astype(float)
        error = np.mean((ours - read_image(source)[: len(ours)]) ** 2)
        distances.append(10 * np.log10(255**2 / error))
        with Image.open(path) as crop, Image.open(source) as whole:
            assert crop.quantization == whole.quantization
            assert get_sampling(crop) == get_sampling(whole)
    assert min(distances) > 40 and np.mean(distances) > 48


@pytest.mark.parametrize(("height", "half", "third"), [(1, 1, 1), (2, 1, 1), (5, 2, 2), (8, 4, 3)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_small_images_of_every_mode_keep_a_row(tmp_path, height, half, third, mode):
    Image.new(mode, (3, height)).save(tmp_path / "whole.jpg")
    for crop, expected in {"upper_half": half, "upper_third": third}.items():
        write_crop(tmp_path / "whole.jpg", tmp_path / "crop.jpg", crop)
        with Image.open(tmp_path / "crop.jpg") as image:
            assert (image.size, image.mode) == ((3, expected), mode)


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(copied, tmp_path):
    duke = copied(8)
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        assert make_crops(duke, tmp_path / name, seed) == 24
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert first.keys() == contents(tmp_path / "c").keys()
    assert first["crops.csv"] != contents(tmp_path / "c")["crops.csv"]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", "png", "cut", "cut at its end"])
@pytest.mark.parametrize("place", range(4))
def test_a_damaged_image_is_named_and_nothing_is_left(copied, tmp_path, content, place):
    """Whatever its crop: of four images, two stay whole and two are cropped."""
    duke = copied()
    spoilt = sorted((duke / "query").iterdir())[place]
    if content == "png":
        Image.open(spoilt).save(spoilt, format="PNG")
    else:
        good = spoilt.read_bytes()
        cuts = {"cut": good[: len(good) // 2], "cut at its end": good[:-2]}
        spoilt.write_bytes(cuts.get(content, content))
    with pytest.raises(UserError, match=re.escape(f"{spoilt}: not a JPEG image, or damaged")):
        make_crops(duke, tmp_path / "out" / "images", seed=0)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("target", ["duke", "."])
def test_the_originals_are_never_replaced(copied, tmp_path, target):
    duke = copied()
    before = contents(duke)
    with pytest.raises(UserError, match="holds DukeMTMC-reID itself"):
        make_crops(duke, tmp_path / target, seed=0)
    assert contents(duke) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image,crop\n", "", "must start with image,crop"),
        (",whole\n", ",all\n", r"row \d+: 'all' is none of whole, upper_half, upper_third"),
        (",whole\n", "\n", r"row \d+: '' is none of"),
    ],
)
def test_a_broken_list_of_crops_is_one_clear_line(copied, tmp_path, old, new, message):
    images = tmp_path / "images"
    make_crops(copied(), images, seed=0)
    crops = images / "crops.csv"
    crops.write_text(crops.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        partial_duke.read(images)
    assert str(caught.value).startswith(f"{crops}: ") and "\n" not in str(caught.value)
    crops.unlink()
    with pytest.raises(UserError, match=r"crops\.csv: no such file"):
        partial_duke.read(images)


def test_images_that_only_the_list_or_only_the_folders_have_are_named(copied, tmp_path):
    images = tmp_path / "images"
    make_crops(copied(), images, seed=0)
    crops = images / "crops.csv"
    crops.write_text(crops.read_text().replace("query/", "query/x", 1))
    problems = partial_duke.read(images).problems
    assert len(problems) == 2 and problems[1].startswith("images/query/x")
    assert all("either in crops.csv or in the folders" in line for line in problems)


# The contact sheet -------------------------------------------------------------------------------


def test_the_contact_sheet_shows_every_crop_of_several_people(made, tmp_path):
    out = tmp_path / "results" / "partial_duke.png"
    manifest = made.parent / "manifest.csv"
    drawn = contact_sheet(manifest, out)
    people = choose_people(read_manifest(manifest))
    assert len(people) == len(set(people)) == 8 and drawn > 16
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        ink = np.asarray(sheet.convert("L")) < 250
    # Rows of pictures are the runs of lines that are inked across most of the columns.
    inked = np.concatenate([[0], ink[:, 220:].mean(axis=1) > 0.5, [0]])
    starts, ends = (np.flatnonzero(np.diff(inked) == step) for step in (1, -1))
    heights = ends - starts
    whole = WIDTH * 256 / 108
    assert heights == pytest.approx([whole, whole / 2, whole / 3], abs=3)
    for top in starts:
        assert ink[top : top + 100, :220].any(), "a row without its label"
    assert [path.name for path in out.parent.iterdir()] == ["partial_duke.png"]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from(list(SHARES))), min_size=1, max_size=80)
)
def test_people_who_show_most_crops_are_chosen(rows):
    people = choose_people(pd.DataFrame(rows, columns=["pid", "crop"]))
    kinds = {pid: len({crop for other, crop in rows if other == pid}) for pid, _ in rows}
    best = [pid for pid, number in kinds.items() if number == max(kinds.values())]
    assert len(people) == len(set(people)) == min(8, len(best)) and set(people) <= set(best)


def test_a_manifest_of_another_data_set_has_no_contact_sheet(made, tmp_path):
    table = read_manifest(made.parent / "manifest.csv")
    for wrong in (table.drop(columns="crop"), table.assign(crop="lower_half")):
        write_manifest(wrong, {}, tmp_path / "manifest.csv")
        with pytest.raises(UserError, match="column crop must hold one of whole, upper_half"):
            contact_sheet(tmp_path / "manifest.csv", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
