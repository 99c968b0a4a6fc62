"""Any manifest, list or table is read as it is, or refused with a line that names it."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgfl.datasets.custom import Laid, take
from pgfl.datasets.manifest import read_manifest
from pgfl.datasets.occluded_duke import read_lists

MANIFEST = """image,split,pid,camid,width,height,sha256
images/a.jpg,train,1,0,64,128,00aa
images/b.jpg,train,2,1,64,128,0123
"images/c, ""d"".jpg",query,3,0,64,128,9999
images/ü.jpg,gallery,3,1,64,128,12e4
"""
FIELD = st.sampled_from(
    [
        *("", "1", "-1", "007", "1.5", "1e3", "NA", "nan", "None", "true", "train", "query"),
        *("images/a.jpg", "../a", "/etc/passwd", "a\nb", 'a"b', "a,b", "ü", "\ufeff", "x" * 300),
        *("9" * 18, "9" * 19, "9" * 5000, "1_000", " 1", "١", "0x1", "image", "pid", "'; touch x"),
    ]
)


rarely = st.integers(0, 5).map(lambda number: number == 0)


@st.composite
def tables(draw):
    """CSV text of some columns, right or wrong, with some values, right or wrong."""
    header = list(draw(st.permutations(["image", "split", "pid", "camid"])))
    if draw(rarely):
        header[draw(st.integers(0, 3))] = draw(FIELD)
    rows = []
    for image in draw(st.permutations("abc"))[: draw(st.integers(0, 3))]:
        right = {"image": f"images/{image}.jpg", "split": "train", "camid": "0"}
        right["pid"] = draw(st.sampled_from(["1", "2", "7", "007"]) | FIELD)
        row = [right.get(name, "1") for name in header]
        if draw(rarely):
            row[draw(st.integers(0, 3))] = draw(FIELD)
        if draw(rarely):
            row = row[: draw(st.integers(1, 3))] + draw(st.lists(FIELD, max_size=3))
        rows.append(row)
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    encoding = draw(st.sampled_from([*["utf-8"] * 5, "utf-8-sig", "utf-16", "latin-1"]))
    return text.getvalue().encode(encoding, errors="replace")


def as_written(content):
    """The rows of a CSV, read by the standard library."""
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    header, *rows = [line for line in lines if line]
    return [dict(zip(header, row, strict=False)) for row in rows]


def check_manifest(clear, path, content):
    path.write_bytes(content)
    table = clear(read_manifest, path, named=[path])
    if table is None:
        return
    rows = as_written(content)
    assert [row["image"] for row in rows] == list(table["image"])
    assert [row["split"] for row in rows] == list(table["split"])
    for column in ("pid", "camid"):
        assert table[column].dtype == "int64"
        assert [int(row[column]) for row in rows] == list(table[column])


@given(tables())
@example(b"image,split,pid,camid\na,train,1,0,5\n")
@example(b"image,split,pid,camid\na,train,1\n")
def test_any_table_is_a_manifest_or_named(clear, tmp_path, content):
    check_manifest(clear, tmp_path / "manifest.csv", content)


@given(st.data())
def test_a_damaged_manifest_says_what_it_says_or_is_named(clear, damaged, tmp_path, data):
    content = data.draw(damaged(MANIFEST.encode()))
    check_manifest(clear, tmp_path / "manifest.csv", content)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of three tiny pictures."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "images").mkdir()
    for name in "abc":
        # The smallest picture that there is: one grey pixel as a bitmap.
        header = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\x18\0"
        pixel = bytes([ord(name)] * 3) + b"\0"
        (folder / "images" / f"{name}.jpg").write_bytes(header + bytes(24) + pixel)
    return folder


def decodes(content, encoding):
    """Whether these bytes are text so encoded; UTF-16 needs its mark."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return encoding != "utf-16" or content[:2] in (b"\xff\xfe", b"\xfe\xff")


@given(tables())
def test_any_table_of_ones_own_is_taken_as_it_is_or_named(clear, photographs, tmp_path, content):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    manifest = clear(take, path, photographs, Laid.in_folder(tmp_path / "out"), named=[path])
    if manifest is None:
        return
    encoding = next(name for name in ("utf-8", "utf-16", "cp1252") if decodes(content, name))
    rows = {
        (f"images/{row['image'].strip()}", row["split"].strip().lower()): row
        for row in as_written(content.decode(encoding).encode())
        if any(map(str.strip, row.values()))
    }
    assert len(rows) == len(manifest)
    places = zip(manifest.image, manifest.split, strict=True)
    people = [rows[place]["pid"].strip() for place in places]
    # Two rows are one person exactly if the table says so.
    assert pd.factorize(pd.Series(people))[0].tolist() == pd.factorize(manifest.pid)[0].tolist()
    pd.testing.assert_frame_equal(
        read_manifest(tmp_path / "out" / "manifest.csv")[["image", "split", "pid", "camid"]],
        manifest[["image", "split", "pid", "camid"]],
        check_dtype=False,
    )


LIST = "".join(f"{pid:04d}_c{1 + pid % 8}_f{pid * 60:07d}.jpg\n" for pid in range(1, 9)).encode()


@given(st.data())
def test_a_damaged_list_of_names_is_read_or_named(clear, damaged, tmp_path, data):
    for split in ("train", "query", "gallery"):
        (tmp_path / f"{split}.list").write_bytes(LIST)
    (tmp_path / "query.list").write_bytes(data.draw(damaged(LIST)))
    names = clear(read_lists, tmp_path, named=[tmp_path / "query.list"])
    if names is not None:
        assert names["train"] == LIST.decode().split()
        assert len(set(names["query"])) == len(names["query"])
