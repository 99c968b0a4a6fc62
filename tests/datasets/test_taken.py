import os
import shutil

import pytest

from pgfl.datasets import taken
from pgfl.datasets.custom import Laid, take
from pgfl.datasets.taken import since, stamp_of
from pgfl.errors import UserError


@pytest.fixture
def mine(tmp_path, lay_out_pictures):
    """A user's table, photographs and the data set that was taken from them."""
    images = lay_out_pictures("anna/1.jpg", "anna/2.jpg", "eve/1.jpg")
    table = tmp_path / "mine.csv"
    table.write_text(
        "image,split,pid\nanna/1.jpg,query,1\nanna/2.jpg,gallery,1\neve/1.jpg,train,2\n"
    )
    folder = tmp_path / "out"
    assert stamp_of(table, images, folder) == ""
    take(table, images, Laid.in_folder(folder))
    return table, images, folder


def change(path):
    """Another photograph of the same size and time."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.unlink()  # the copy that was taken is the same file
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def test_what_is_as_it_was_taken_keeps_its_word(mine):
    assert stamp_of(*mine) == ""


def test_touched_and_copied_photographs_are_the_same(mine, tmp_path):
    table, images, folder = mine
    (images / "anna/1.jpg").touch()
    assert stamp_of(*mine) == ""
    shutil.copytree(images, tmp_path / "copy", copy_function=shutil.copyfile)
    assert stamp_of(table, tmp_path / "copy", folder) == ""


def test_a_changed_photograph_changes_the_word_until_it_is_taken(mine):
    table, images, folder = mine
    change(images / "anna/2.jpg")
    word = stamp_of(*mine)
    assert word and stamp_of(*mine) == word
    take(table, images, Laid.in_folder(folder), word)
    assert stamp_of(*mine) == word
    change(images / "anna/2.jpg")
    assert stamp_of(*mine) not in ("", word)


def test_a_photograph_changed_back_is_the_same(mine):
    _, images, _ = mine
    original = (images / "eve/1.jpg").read_bytes()
    change(images / "eve/1.jpg")
    assert stamp_of(*mine)
    (images / "eve/1.jpg").write_bytes(original)
    assert stamp_of(*mine) == ""


def test_unchanged_photographs_are_not_read(mine, monkeypatch):
    monkeypatch.setattr(taken, "file_hash", lambda path: pytest.fail(f"{path} was read"))
    assert stamp_of(*mine) == ""


def test_photographs_that_no_row_names_do_not_count(mine):
    _, images, _ = mine
    (images / "new.jpg").write_bytes(b"new")
    assert stamp_of(*mine) == ""


def test_a_photograph_that_is_gone_is_said(mine):
    table, images, _ = mine
    (images / "eve/1.jpg").unlink()
    with pytest.raises(UserError, match=rf"eve/1.jpg is gone, but {table} lists it"):
        stamp_of(*mine)


def test_rows_that_are_new_are_the_tables_own_change(mine):
    table, _, _ = mine
    table.write_text(table.read_text() + "bob/1.jpg,train,3\n")
    assert stamp_of(*mine) == ""


def test_since_says_what_is_no_longer_as_it_was_taken(mine):
    table, images, _ = mine
    assert since(*mine) == []
    change(images / "anna/2.jpg")
    (images / "anna/1.jpg").unlink()
    table.write_text(table.read_text().replace("eve/1.jpg", "eve/2.jpg"))
    assert since(*mine) == [
        f"{images / 'anna/2.jpg'}: has changed since it was taken",
        f"{images / 'anna/1.jpg'}: is gone since it was taken",
        f"{table}: 'eve/2.jpg' is new",
        f"{table}: 'eve/1.jpg' is no longer in it",
    ]


def test_another_separator_of_the_same_table_changes_nothing(mine):
    table, _, _ = mine
    table.write_text(table.read_text().replace(",", ";"), encoding="utf-16")
    assert stamp_of(*mine) == "" and since(*mine) == []
