import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.datasets.name_patterns import LAYOUTS, Named, read_names, recognised
from pgfl.errors import UserError


def said(name, pattern):
    (one,), others = read_names([name], pattern)
    assert others == [] and one.image == name
    return tuple(value for value in one[1:] if value is not None)


@pytest.mark.parametrize(
    ("name", "pattern", "values"),
    [
        ("anna_c1_7.jpg", "{pid}_c{camid}_{}.jpg", ("anna", "1")),
        ("anna_c1_7.JPG", "{pid}_c{camid}_{*}.jpg", ("anna", "1")),
        ("anna_b_c12_7.jpg", "{pid}_c{camid:d}_{}.jpg", ("anna_b", "12")),
        ("0002_c1s1_000451_03.jpg", "{pid:d}_c{camid:d}{}", ("0002", "1")),
        ("-1_c3s2_000451_03.jpg", "{pid:d}_c{camid:d}{}", ("-1", "3")),
        ("anna/x y (1).png", "{pid}/{}.png", ("anna",)),
        ("anna/anna_c2_1.png", "{pid}/{pid}_c{camid}_{}", ("anna", "2")),
        ("cam_a/007/1.png", "cam_{camid}/{pid}/{}", ("007", "a")),
        ("Probe/7/1.png", "{split}/{pid}/{}", ("7", "query")),
        ("bounding_box_test/7_c1.png", "{split}/{pid}_c{camid}.png", ("7", "1", "gallery")),
        ("person+(7).png", "person+({pid}).png", ("7",)),
    ],
)
def test_names_are_read_by_patterns(name, pattern, values):
    assert said(name, pattern) == values


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("a/b/1.jpg", "{pid}/{}.jpg"),
        ("anna/bert_c1.jpg", "{pid}/{pid}_c{camid}.jpg"),
        ("12_c1x.jpg", "{pid:d}_c{camid:d}.jpg"),
        ("anna.png", "{pid}.jpg"),
    ],
)
def test_names_that_do_not_fit_are_left(name, pattern):
    assert read_names([name], pattern) == ([], [name])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{person}_{}.jpg", r"no placeholder '\{person\}'; known: \{\}, \{\*\}"),
        ("{}.jpg", r"must say where the person stands: \{pid\}"),
        ("{pid}{camid}.jpg", r"nothing between \{pid\} and \{camid\} tells where the first ends"),
        ("{pid}_{camid.jpg", "a brace without its partner"),
        ("{split}/{pid}.jpg", "the split of 'val/7.jpg' is 'val'; known: train"),
    ],
)
def test_a_wrong_pattern_is_one_line(pattern, message):
    with pytest.raises(UserError, match=message) as caught:
        read_names(["val/7.jpg"], pattern)
    assert "\n" not in str(caught.value)


USUAL = {
    "{split}/{pid:d}_c{camid:d}{}": [
        f"{split}/{pid:04d}_c{camid}s1_000{n}51_01.jpg"
        for n, (split, pid) in enumerate(
            [("bounding_box_train", 2), ("query", 5), ("bounding_box_test", 5)] * 2
        )
        for camid in (1, 2)
    ],
    "{split}/{pid}/{}": [
        f"{s}/{p}/{n}.jpg" for s in ("train", "test") for p in "ab" for n in "12"
    ],
    "{pid:d}_c{camid:d}{}": [
        f"{p:04d}_c{c}_f00{n}.jpg" for p in (1, 2) for c in (1, 2) for n in "12"
    ],
    "{pid}_c{camid:d}_{}": [
        f"{p}_c{c}_{n}.jpg" for p in ("ann", "bob") for c in "12" for n in "12"
    ],
    "{pid}_cam{camid:d}_{}": [f"{p}_cam{c}_{n}.jpg" for p in "ab" for c in "12" for n in "12"],
    "cam{camid}/{pid}/{}": [f"cam_{c}/{p}/{n}.jpg" for p in "xy" for c in "ab" for n in "12"],
    "{pid}/{camid}/{}": [f"{p}/{c}/{n}.jpg" for p in "xy" for c in ("in", "out") for n in "12"],
    "{pid}/c{camid:d}{}": [f"{p}/c{c}_{n}.jpg" for p in "xy" for c in "12" for n in "12"],
    "{pid}/cam{camid:d}{}": [f"{p}/cam{c}-{n}.jpg" for p in "xy" for c in "12" for n in "12"],
    "{pid}/{pid}_c{camid:d}{}": [f"{p}/{p}_c{c}_{n}.jpg" for p in "xy" for c in "12" for n in "1"],
    "{pid}/{}": [f"{p:03d}/{p:03d}_{n}.tif" for p in (1, 2) for n in "12"],
    "{pid}_{:d}.{}": [f"person_{p:03d}_{n:03d}.jpg" for p in (1, 2) for n in (1, 2)],
}


@pytest.mark.parametrize("pattern", [layout.pattern for layout in LAYOUTS])
def test_usual_layouts_are_recognised(pattern):
    assert recognised(sorted(USUAL[pattern])).pattern == pattern


def test_a_few_other_images_do_not_matter_and_many_do():
    names = [f"{p}/{n}.jpg" for p in "ab" for n in range(10)]
    assert recognised([*names, "readme.png"]).pattern == "{pid}/{}"
    assert recognised([*names, *(f"{n}.png" for n in range(10))]) is None


@pytest.mark.parametrize(
    "names",
    [
        ["IMG_001.jpg", "IMG_002.jpg", "IMG_003.jpg"],  # nobody but IMG
        [f"all/{n}.jpg" for n in range(9)],
        [f"000{n}_000_01_0303morning_00{n}_0.jpg" for n in range(9)],  # each number a person
    ],
)
def test_names_that_tell_no_people_apart_are_not_recognised(names):
    assert recognised(names) is None


WORD = st.text("aB0_ü ", min_size=1, max_size=6)


@given(st.lists(st.tuples(WORD, st.integers(0, 99), WORD), min_size=1))
def test_what_a_pattern_writes_it_reads(rows):
    names = [f"{pid}/x_c{camid}_{rest}.jpg" for pid, camid, rest in rows]
    found, others = read_names(names, "{pid}/x_c{camid:d}_{}.jpg")
    assert others == []
    expected = [
        Named(name, pid, str(camid)) for name, (pid, camid, _) in zip(names, rows, strict=True)
    ]
    assert found == expected


@given(st.text(alphabet="{}*:dpicams/_.a", max_size=14))
def test_any_pattern_is_used_or_named(pattern):
    try:
        read_names(["a/b_c1.jpg"], pattern)
    except UserError as error:
        assert str(error).startswith("--pattern ")
    else:
        assert re.search(r"\{pid(:d)?\}", pattern)
