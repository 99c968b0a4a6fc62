import csv
import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.datasets.own_table import KNOWN, read_own_table, spellings
from pgfl.errors import UserError

HEADER = ["image", "split", "pid", "camid"]
ROWS = [
    ["Jörg/1.jpg", "train", "Jörg", "entrance"],
    ["a, b; c/1.jpg", "query", 'the "boss"', "car\tpark"],
    ["a, b; c/2.jpg", "gallery", 'the "boss"', "007"],
]
WRITERS = {
    "excel": {"dialect": "excel"},
    "excel-tab": {"dialect": "excel-tab"},
    "unix": {"dialect": "unix"},
    "German Excel": {"dialect": "excel", "delimiter": ";"},
    "bars": {"dialect": "excel", "delimiter": "|"},
}


def written(rows=ROWS, header=HEADER, encoding="utf-8", **options):
    """The bytes that the standard library's writer makes of a table."""
    text = io.StringIO()
    csv.writer(text, **options).writerows([header, *rows])
    return text.getvalue().encode(encoding)


@pytest.fixture
def read(tmp_path):
    """Reads a table of these bytes: its rows as lists, by their number."""

    def read(content):
        path = tmp_path / "mine.csv"
        path.write_bytes(content)
        read.notes.clear()
        table = read_own_table(path)
        read.notes += table.notes
        return {number: [row[c] for c in KNOWN if c in row] for number, row in table.rows.items()}

    read.notes = []
    return read


@pytest.fixture
def refused(read, tmp_path):
    """Reads a table that is refused: the lines of the message without the file's name."""

    def refused(content):
        with pytest.raises(UserError) as caught:
            read(content)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{tmp_path / 'mine.csv'}: ") for line in lines)
        return [line.removeprefix(f"{tmp_path / 'mine.csv'}: ") for line in lines]

    return refused


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS)
def test_what_spreadsheets_and_programs_write_is_read(read, encoding, options):
    assert read(written(encoding=encoding, **options)) == dict(enumerate(ROWS, start=2))
    assert bool(read.notes) == (encoding == "cp1252")


def test_a_guessed_encoding_is_said_with_a_word_to_look_at(read):
    read(written(encoding="cp1252"))
    assert read.notes == [
        "not UTF-8, read as Windows' cp1252: is 'Jörg/1.jpg' right? If not, save it as CSV UTF-8"
    ]


def test_what_pandas_writes_is_read_with_its_index_column(read):
    text = pd.DataFrame(ROWS, columns=HEADER).to_csv(sep=";")
    assert read(text.encode()) == dict(enumerate(ROWS, start=2))


def test_what_pandas_makes_of_numbers_is_undone(read):
    table = pd.DataFrame({"image": list("abc"), "split": "train", "pid": [12.0, 7.0, -1.0]})
    assert [row[2] for row in read(table.to_csv(index=False).encode()).values()] == [
        "12", "7", "-1",
    ]  # fmt: skip
    assert read.notes == ["pid: '12.0' and the like are whole numbers"]


def test_where_not_all_are_decimals_they_are_words(read):
    rows = [["a", "train", "1.0"], ["b", "train", "1"], ["c", "train", "007"]]
    assert [row[2] for row in read(written(rows, HEADER[:3])).values()] == ["1.0", "1", "007"]


def test_excels_line_about_the_separator_is_no_row(read):
    content = b"sep=;\r\n" + written(dialect="excel", delimiter=";")
    assert read(content) == dict(enumerate(ROWS, start=2))


def test_case_and_blanks_of_the_header_and_empty_columns_and_rows_do_not_matter(read):
    lines = (
        " Image ; PID ;Split;;",
        ";;;;",
        "a.jpg;7; Train ;;",
        ";;;;",
        "",
        "b.jpg;8;QUERY",
        ";;;;",
    )
    assert read("\r\n".join(lines).encode()) == {
        3: ["a.jpg", "train", "7"],
        6: ["b.jpg", "query", "8"],
    }


def test_blanks_around_a_person_are_taken_off_and_said(read):
    assert list(read(b"image,split,pid\na,train,Anna \nb,train,Anna\n").values()) == [
        ["a", "train", "Anna"],
        ["b", "train", "Anna"],
    ]
    assert read.notes == ["pid: blanks around values are taken off, as in 'Anna '"]


def test_an_empty_camera_column_is_as_good_as_none(read):
    assert list(read(b"image,split,pid,camid\na,train,1,\nb,train,2,\n").values()) == [
        ["a", "train", "1"],
        ["b", "train", "2"],
    ]
    assert read.notes == ["the column camid is empty: read as if it were left out"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \r\n\r\n", "is empty"),
        ("\n".encode("utf-16"), "is empty"),
        (b"PK\x03\x04" + bytes(20), "a spreadsheet's own file, not a CSV file; save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a spreadsheet's own file, not a CSV file; save"),
        ("image,split,pid\n".encode("utf-16-le"), "not a CSV file (it holds zero bytes); save"),
        (b"image,split,pid\n\x81,train,1\n", "not text in UTF-8, UTF-16 or Windows' cp1252"),
        ("image,split,pid\n".encode("utf-16")[:-1], "not text in UTF-8, UTF-16 or Windows'"),
        (b"name;who\na;b\n", "column image, split, pid is missing; the first line must name the"),
        (b"image;Split;person\n", "column pid is missing"),
        (b"image,split,pid,PID \na,train,1,2\n", "column 'pid' stands twice"),
        (b'image,split,pid\n"a,train,1\nb,train,2\n', "row 2: not a CSV file ("),
        (b"image,split,pid\na,train,1,x\n", "row 2: has more values than there are columns"),
        (b"image,split,pid,camid\n\na,train,1,1\nb,train,1\n", "row 4: camid is empty"),
    ],
)
def test_what_is_no_such_table_is_one_line(refused, content, message):
    (line,) = refused(content)
    assert line.startswith(message)


def test_a_missing_column_is_said_with_what_was_found(refused):
    (line,) = refused(b"Bild;Teil;Person\n1;2;3\n")
    assert line.endswith("(got 'Bild', 'Teil', 'Person')")


def test_of_many_findings_of_a_kind_ten_are_shown(refused):
    rows = [["a", "train", ""]] * 25 + [["", "train", "1"]] * 2
    lines = refused(written(rows, HEADER[:3]))
    assert lines[:2] == ["row 27: image is empty", "row 28: image is empty"]
    assert lines[2:] == [*(f"row {n}: pid is empty" for n in range(2, 12)), "and 15 more"]


def test_the_ways_to_write_an_image_begin_with_the_tables_own():
    assert spellings("a\\b.jpg ")[0] == "a\\b.jpg " and "a/b.jpg" in spellings("a\\b.jpg ")
    assert {"J\u00f6rg.jpg", "Jo\u0308rg.jpg"} <= set(spellings("J\u00f6rg.jpg"))
    assert spellings("a.jpg") == ["a.jpg"]


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: text == text.strip() and not re.fullmatch(r"-?[0-9]+\.0+", text)
)


@given(
    rows=st.lists(st.tuples(TEXTS, st.sampled_from(["train", "query"]), TEXTS), min_size=1),
    options=st.sampled_from(sorted(WRITERS)),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    header=st.permutations(["Image", " split", "PID ", "", "note"]),
)
def test_any_text_comes_back_whatever_wrote_it(tmp_path, rows, options, encoding, header):
    places = [("image", "split", "pid", "", "note").index(name.strip().lower()) for name in header]
    lines = [[(*row, "", "-")[place] for place in places] for row in rows]
    path = tmp_path / "mine.csv"
    path.write_bytes(written(lines, header, encoding, **WRITERS[options]))
    read = read_own_table(path).rows
    assert list(read) == list(range(2, len(rows) + 2))
    found = [(row["image"], row["split"], row["pid"]) for row in read.values()]
    assert found == rows
