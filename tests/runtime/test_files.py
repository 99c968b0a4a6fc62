import errno
import os
import socket
import subprocess
import sys

import pytest

from pgfl.errors import UserError
from pgfl.runtime.files import (
    file_hash,
    link_or_copy,
    read_json,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["table.csv"]


def test_a_written_file_has_the_content_and_makes_its_folder(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "content")
    assert (tmp_path / "new" / "a.txt").read_text() == "content"
    assert names_in(tmp_path / "new") == ["a.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "images"
    with whole_folder(target) as temporary:
        (temporary / "old.jpg").touch()
    with pytest.raises(RuntimeError), whole_folder(target) as temporary:
        (temporary / "new.jpg").touch()
        raise RuntimeError
    assert names_in(target) == ["old.jpg"]
    with whole_folder(target) as temporary:
        (temporary / "new.jpg").touch()
    assert names_in(target) == ["new.jpg"]
    assert names_in(tmp_path) == ["images"]


def test_hashes_are_the_known_ones(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_hash(path, "md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert file_hash(path).startswith("ba7816bf8f01cfea")


def test_json_survives_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"mAP": 12.5})
    assert read_json(path) == {"mAP": 12.5}
    with pytest.raises(ValueError):
        write_json(path, {"mAP": float("nan")})
    assert read_json(path) == {"mAP": 12.5}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00"])
def test_a_broken_json_file_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.json: not a JSON file"):
        read_json(path)
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "none.json")


def test_link_or_copy_replaces_what_is_there(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a"
    assert (tmp_path / "a").samefile(tmp_path / "b")


def test_link_or_copy_copies_where_links_are_impossible(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("a")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a"
    assert not (tmp_path / "a").samefile(tmp_path / "b")


@pytest.fixture
def dead():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_killed_processes_left_of_an_output_is_removed_when_it_is_written(tmp_path, dead):
    host = socket.gethostname()
    (tmp_path / f".table.{dead}@{host}.tmp.csv").touch()
    kept = [
        f".other.{dead}@{host}.tmp.csv",  # another output
        f".table.{dead}@{host}.tmp.md",
        f".table.{os.getppid()}@{host}.tmp.csv",  # a living process
        f".table.{dead}@elsewhere.tmp.csv",  # of which nothing is known here
    ]
    for name in kept:
        (tmp_path / name).touch()
    write_text(tmp_path / "table.csv", "new")
    assert names_in(tmp_path) == sorted([*kept, "table.csv"])


def test_the_same_for_folders_and_odd_names(tmp_path, dead):
    left = tmp_path / f".im[a]ges+.{dead}@{socket.gethostname()}.tmp"
    (left / "deep").mkdir(parents=True)
    with whole_folder(tmp_path / "im[a]ges+"):
        pass
    assert names_in(tmp_path) == ["im[a]ges+"]


def test_a_killed_process_leaves_what_the_next_one_removes(tmp_path):
    code = (
        "import os, sys, pathlib, pgfl.runtime.files\n"
        "with pgfl.runtime.files.whole_file(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    target = tmp_path / "table.csv"
    subprocess.run([sys.executable, "-c", code, str(target)])
    (left,) = names_in(tmp_path)
    assert left.endswith(".tmp.csv")
    write_text(target, "whole")
    assert names_in(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_an_error_of_the_operating_system_names_the_output(tmp_path, whole):
    with pytest.raises(OSError) as caught, whole(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "out")
    with pytest.raises(OSError) as caught, whole(tmp_path / "out") as temporary:
        (temporary / "none" / "file").open("w")
    assert caught.value.filename != str(tmp_path / "out")


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_name_that_is_too_long_is_named_itself(tmp_path, whole):
    target = tmp_path / ("a" * 250)  # possible, but then the temporary name is not
    with pytest.raises(OSError) as caught, whole(target) as temporary:
        temporary.write_text("content")
    assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, str(target))


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(IsADirectoryError) as caught, whole_file(tmp_path):
        pytest.fail("nothing has to be written to find this out")
    assert caught.value.filename == str(tmp_path)
