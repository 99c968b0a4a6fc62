from dataclasses import dataclass

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.datasets.manifest import (
    Counts,
    Entry,
    build_manifest,
    count,
    find_problems,
    read_manifest,
    unmatched_queries,
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
def folder(lay_out):
    return lay_out("a.jpg", "b.jpg", "g.jpg", "q.jpg").parent


def test_rows_are_sorted_by_split_and_name_whatever_the_order(folder):
    first = build_manifest(ENTRIES, folder, None)
    second = build_manifest(ENTRIES[::-1], folder, None)
    assert first.equals(second)
    assert list(first.image) == [f"images/{n}.jpg" for n in "abqg"]
    assert list(first.columns) == ["image", "split", "pid", "camid", "sha256"]


@dataclass(frozen=True)
class Dated(Entry):
    year: int


def test_what_an_entry_adds_is_a_column_too(folder):
    entries = [Dated(*vars(entry).values(), 2000 + entry.pid) for entry in ENTRIES]
    table = build_manifest(entries, folder, None)
    assert list(table.columns) == ["image", "split", "pid", "camid", "year", "sha256"]
    assert list(table.year) == [2002, 2001, 2003, 2003]


def test_no_entries_at_all_are_said(folder):
    with pytest.raises(UserError, match="no images"):
        build_manifest([], folder, None)


def test_the_hash_column_tells_other_pixels(folder):
    before = build_manifest(ENTRIES, folder, None)
    (folder / "images/a.jpg").write_text("other pixels")
    after = build_manifest(ENTRIES, folder, None)
    assert list(before.sha256 != after.sha256) == [True, False, False, False]


def test_a_manifest_survives_writing_and_reading(folder):
    table = build_manifest(ENTRIES, folder, None)
    write_manifest(table, folder / "manifest.csv")
    assert list(read_manifest(folder / "manifest.csv").pid) == [2, 1, 3, 3]
    assert list(read_manifest(folder / "manifest.csv", "query").image) == ["images/q.jpg"]


def test_published_counts_are_insisted_on(folder):
    right = {"train": Counts(2, 2), "query": Counts(1, 1), "gallery": Counts(1, 1)}
    build_manifest(ENTRIES, folder, right)
    with pytest.raises(UserError) as caught:
        build_manifest(ENTRIES, folder, right | {"train": Counts(2, 3), "query": Counts(9, 9)})
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "train: found Counts(identities=2, images=2), published" in lines[0]


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
        "train: a is listed twice",
        "ids in both train and test: 1",
        "queries without a match in the gallery: r",
    ]
    assert find_problems(table()) == ["no images"]


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
    assert count(table(("a", "train", 1, 1), ("b", "train", 1, 2))) == {"train": Counts(1, 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,split,pid\na,train,1\n", "column camid is missing"),
        ("image,split,pid,camid\na,train,,1\n", "row 2: pid is empty"),
        ("image,split,pid,camid\n,train,1,1\n", "row 2: image is empty"),
        ("image,split,pid,camid\na,train,x,1\n", "pid must hold whole numbers"),
        ("image,split,pid,camid\na,train,1.5,1\n", "pid must hold whole numbers"),
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
