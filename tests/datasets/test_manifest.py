import json
import struct
from dataclasses import dataclass

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.datasets.manifest import (
    Counts,
    Entry,
    Listing,
    Published,
    build_manifest,
    count,
    find_problems,
    names_hash,
    read_manifest,
    unmatched_queries,
    verify_rows,
    write_manifest,
)
from pgfl.errors import UserError

ENTRIES = [
    Entry("images/g.jpg", "gallery", 3, 2),
    Entry("images/q.jpg", "query", 3, 1),
    Entry("images/b.jpg", "train", 1, 1),
    Entry("images/a.jpg", "train", 2, 1),
]


@pytest.fixture
def folder(lay_out_pictures):
    return lay_out_pictures("a.jpg", "b.jpg", "g.jpg", "q.jpg").parent


def build(folder, entries=ENTRIES, **options):
    return build_manifest(Listing(entries), folder, **options)[0]


def test_rows_are_sorted_by_split_and_name_whatever_the_order(folder):
    first, second = build(folder), build(folder, ENTRIES[::-1])
    assert first.equals(second)
    assert list(first.image) == [f"images/{n}.jpg" for n in "abqg"]
    assert list(first.columns)[:4] == ["image", "split", "pid", "camid"]
    assert set(first.width) == {20} and set(first.height) == {40}


@dataclass(frozen=True)
class Dated(Entry):
    year: int


def test_what_an_entry_adds_is_a_column_too(folder):
    entries = [Dated(*vars(entry).values(), 2000 + entry.pid) for entry in ENTRIES]
    table = build(folder, entries)
    assert list(table.columns)[:5] == ["image", "split", "pid", "camid", "year"]
    assert list(table.year) == [2002, 2001, 2003, 2003]


def test_no_entries_at_all_are_said(folder):
    with pytest.raises(UserError, match="no images"):
        build(folder, [])


def test_the_hash_column_tells_other_pixels(folder):
    before = build(folder)
    (folder / "images/a.jpg").write_bytes((folder / "images/b.jpg").read_bytes())
    assert list(before.sha256 != build(folder).sha256) == [True, False, False, False]


def test_a_manifest_survives_writing_and_reading(folder):
    write_manifest(build(folder), {"gallery": 3}, folder / "manifest.csv")
    assert list(read_manifest(folder / "manifest.csv").pid) == [2, 1, 3, 3]
    assert list(read_manifest(folder / "manifest.csv", "query").image) == ["images/q.jpg"]
    counts = json.loads((folder / "counts.json").read_text())
    assert counts["splits"]["train"] == {"identities": 2, "images": 2, "cameras": 1}
    assert counts["junk"] == {"gallery": 3}


def test_junk_is_counted_and_left_out(folder):
    junk = Entry("images/x.jpg", "gallery", -1, 1)
    table, counts = build_manifest(Listing([*ENTRIES, junk]), folder)
    assert counts == {"gallery": 1} and len(table) == 4


RIGHT = {"train": Counts(2, 2, 1), "query": Counts(1, 1, 1), "gallery": Counts(1, 1, 1)}


def test_published_counts_are_insisted_on(folder):
    build(folder, published=Published(RIGHT))
    wrong = RIGHT | {"train": Counts(2, 2, 2), "query": Counts(9, 9, 1)}
    with pytest.raises(UserError) as caught:
        build(folder, published=Published(wrong))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(
        "train: found 2 ids, 2 images, 1 cameras, published 2 ids, 2 images, 2 cameras"
    )


def test_published_names_are_insisted_on(folder):
    right = names_hash(build(folder))
    build(folder, published=Published(RIGHT, right))
    with pytest.raises(UserError, match="file names are not the published ones"):
        build(folder, published=Published(RIGHT, "0" * 64))


def test_the_names_hash_knows_splits_and_not_folders():
    def names(*pairs):
        return names_hash(pd.DataFrame(pairs, columns=["image", "split"]))

    assert names(("x/a", "query"), ("x/b", "train")) == names(("b", "train"), ("y/z/a", "query"))
    assert names(("a", "query")) != names(("a", "gallery"))


def test_everything_that_is_wrong_is_listed_at_once(folder):
    content = (folder / "images/a.jpg").read_bytes()
    (folder / "images/a.jpg").write_bytes(content[: len(content) * 2 // 3])
    (folder / "images/b.jpg").write_text("a text, no picture")
    (folder / "images/g.jpg").unlink()
    listing = Listing(ENTRIES, ["images/readme: the name does not match"])
    with pytest.raises(UserError) as caught:
        build_manifest(listing, folder, Published(RIGHT | {"train": Counts(3, 3, 3)}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 5 and all(line.startswith(f"{folder}: ") for line in lines)
    for finding in (
        "images/readme: the name",
        "train: found",
        "images/a.jpg: not an image, or damaged (image file is truncated",
        "images/b.jpg: not an image, or damaged",
        "images/g.jpg: cannot be read (No such file",
    ):
        assert sum(finding in line for line in lines) == 1


def test_verifying_names_what_has_changed_since(folder):
    expected = build(folder)
    verify_rows(expected, build(folder), folder)
    (folder / "images/a.jpg").write_bytes((folder / "images/b.jpg").read_bytes())
    with pytest.raises(UserError, match=r"images/a\.jpg: its content has changed"):
        verify_rows(expected, build(folder), folder)
    without = build(folder, ENTRIES[:3])
    with pytest.raises(UserError, match=r"images/a\.jpg: is gone from train"):
        verify_rows(expected, without, folder)
    with pytest.raises(UserError, match=r"images/a\.jpg: is new in train"):
        verify_rows(without, build(folder), folder)


def table(*rows):
    return pd.DataFrame(rows, columns=["image", "split", "pid", "camid"])


def test_problems_are_all_found():
    rows = table(
        ("a", "train", 1, 1),
        ("a", "train", 1, 1),
        ("q", "query", 1, 1),
        ("r", "query", 2, 1),
        ("g", "gallery", 2, 1),
        ("h", "gallery", 1, 2),
    )
    problems = find_problems(rows)
    assert problems == [
        "a: listed twice in train",
        "id 1 is in both train and test",
        "r: a query without a match in the gallery: its person is there, but of the same camera "
        "only",
    ]
    assert find_problems(table()) == ["no images"]


def test_one_camera_alone_is_said_once():
    rows = [(f"{i}", "query", i, 5) for i in range(50)] + [("g", "gallery", 1, 5)]
    (line,) = find_problems(table(*rows))
    assert line.startswith("no query has a match: all 51 images of query and gallery are of one")
    assert line.endswith("leave the column camid out if the cameras are not known")
    two = find_problems(table(*rows, ("h", "gallery", 1, 6)))
    assert len(two) == 11 and two[-1] == "and 39 more"


def test_of_many_findings_of_a_kind_ten_are_said():
    rows = [(f"{i}", split, i, 1) for i in range(30) for split in ("train", "gallery")]
    rows += [(f"q{i}", "query", 100 + i, 1) for i in range(12)] + [("x", "gallery", 999, 2)]
    lines = find_problems(table(*rows))
    assert lines[10] == "and 20 more" and lines[21] == "and 2 more" and len(lines) == 22


def test_of_many_changed_images_ten_are_said(tmp_path):
    rows = table(*((f"{i:02d}", "train", i, 1) for i in range(30)))
    before, now = rows.assign(sha256="a"), rows.assign(sha256="b")
    with pytest.raises(UserError) as caught:
        verify_rows(before, now, tmp_path)
    assert str(caught.value).splitlines()[-1] == f"{tmp_path}: and 20 more"
    with pytest.raises(UserError) as caught:
        verify_rows(before, now.iloc[:15], tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[10].endswith("and 5 more") and lines[-1].endswith("and 5 more")


def test_empty_images_are_called_empty_ten_times(folder):
    names = [f"images/e{number:02d}.jpg" for number in range(14)]
    for name in names:
        (folder / name).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        build(folder, [*ENTRIES, *(Entry(name, "train", 9, 1) for name in names)])
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{folder}: images/e00.jpg: an empty file; get it again"
    assert len(lines) == 11 and lines[-1] == f"{folder}: and 4 more"


def test_an_image_of_too_many_pixels_is_said(folder):
    # A bitmap's header alone declares 1.6 thousand million of them.
    size = struct.pack("<IiiHH6I", 40, 40_000, 40_000, 1, 24, *[0] * 6)
    (folder / "images/a.jpg").write_bytes(struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + size)
    with pytest.raises(UserError, match=r"images/a\.jpg: too large \(Image size \(1600000000 "):
        build(folder)


def test_a_query_needs_a_gallery_and_a_gallery_a_query():
    assert find_problems(table(("q", "query", 1, 1))) == ["there is a query but no gallery"]
    assert find_problems(table(("g", "gallery", 1, 1))) == ["there is a gallery but no query"]


def test_a_picture_may_be_query_and_gallery_at_once():
    rows = table(("a", "query", 1, 1), ("a", "gallery", 1, 1), ("b", "gallery", 1, 2))
    assert find_problems(rows) == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["query", "gallery"]), st.integers(0, 3), st.integers(0, 2)),
        max_size=12,
    )
)
def test_unmatched_queries_agree_with_the_definition(rows):
    entries = [(f"{i}.jpg", *row) for i, row in enumerate(rows)]
    expected = [
        name
        for name, split, pid, camid in entries
        if split == "query"
        and not any(s == "gallery" and p == pid and c != camid for _, s, p, c in entries)
    ]
    assert unmatched_queries(table(*entries)) == expected


def test_counts_are_of_identities_and_images():
    assert count(table(("a", "train", 1, 1), ("b", "train", 1, 2))) == {"train": Counts(1, 2, 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,split,pid\na,train,1\n", "column camid is missing"),
        ("image,split,pid,camid\na,train,,1\n", "row 2: pid is empty"),
        ("image,split,pid,camid\n,train,1,1\n", "row 2: image is empty"),
        ("image,split,pid,camid\na,train,x,1\n", "row 2: pid must be a whole number"),
        ("image,split,pid,camid\na,train,1.5,1\n", "row 2: pid must be a whole number"),
        ("image,split,pid,camid\na,val,1,1\n", "split 'val' is none of train, query, gallery"),
        ("image,split,pid,camid\na,train,1,1\n", "no row of split 'query'"),
        ('image,split,pid,camid\n"a,train,1,1\n', "not a CSV file"),
        ("", "not a CSV file"),
    ],
)
def test_a_wrong_manifest_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_manifest(path, "query")
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_or_binary_manifest_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "zip.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00\n\xff")
    with pytest.raises(UserError, match=r"zip\.csv: "):
        read_manifest(tmp_path / "zip.csv")
