import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import pgfl
from pgfl.errors import UserError
from pgfl.runtime import locks
from pgfl.student import folder
from pgfl.student.folder import embed_folder, find_images


def test_images_are_found_by_their_suffix(people):
    (people / "notes.txt").touch()
    (people / ".hidden.jpg").touch()
    (people / ".git").mkdir()
    (people / ".git" / "x.png").touch()
    (people / "folder.png").mkdir()
    names = find_images(people).names
    assert names == sorted(names) and len(names) == 11
    assert "more/09.JPG" in names and "00.png" in names


@pytest.fixture
def awkward(people, monkeypatch):
    """The folder with what cannot be used in it."""
    (people / "link").symlink_to("more")
    (people / "gone.jpg").symlink_to("nowhere.jpg")
    shutil.copy(people / "01.jpg", os.fsencode(people / "b") + b"\xff.jpg")
    (people / "closed").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return people


def test_what_cannot_be_used_is_said_and_listed(student, awkward, tmp_path, capsys):
    found = embed_folder(student, awkward, tmp_path / "out.npz")
    assert len(found.names) == 11
    assert found.unreadable == ("b\\xff.jpg", "closed", "gone.jpg", "link")
    assert sorted(capsys.readouterr().out.splitlines()) == [
        f"note: {awkward}/b\\xff.jpg: its name is not UTF-8; left out",
        f"note: {awkward}/closed: Permission denied; left out",
        f"note: {awkward}/gone.jpg: not a file, or a link to none; left out",
        f"note: {awkward}/link: a link to a folder, which may lead in circles; left out",
    ]


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "b\udcff.jpg"])
def test_names_that_cannot_be_stored_are_refused_before_any_work(student, people, tmp_path, name):
    with pytest.raises(UserError, match=r"people: the name .* (leads out|is not UTF-8).*; rename"):
        embed_folder(student, people, tmp_path / "out.npz", [name])
    assert [path.name for path in tmp_path.iterdir()] == ["people"]


def test_two_at_once_do_not_spoil_each_other(student, people, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0)
    code = (
        "import sys; from pathlib import Path; from pgfl.runtime.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".out.parts")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=rf"in use by process {other.pid} on .*: wait until"):
            embed_folder(student, people, tmp_path / "out.npz")
        embed_folder(student, people, tmp_path / "another.npz")
        other.stdin.close()
    embed_folder(student, people, tmp_path / "out.npz")
    assert not list(tmp_path.glob(".*"))


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find_images(tmp_path / "none")


def test_features_are_those_of_embed(student, people, tmp_path):
    out = tmp_path / "out" / "features.npz"
    found = embed_folder(student, people, out, batch_size=1)
    assert found.names.tolist() == find_images(people).names and found.unreadable == ()
    assert found.model_sha256 == student.sha256 and found.folder == people.resolve()
    expected = student.embed([people / name for name in found.names], batch_size=1)
    assert np.array_equal(found.load().matrix, expected)
    assert [path.name for path in out.parent.iterdir()] == ["features.npz"]


def test_what_cannot_be_read_is_left_out_and_listed(student, people, tmp_path):
    expected = embed_folder(student, people, tmp_path / "all.npz", batch_size=2)
    (people / "00a.jpg").write_bytes(b"no picture")
    (people / "more" / "empty.png").touch()
    found = embed_folder(student, people, tmp_path / "some.npz", batch_size=2)
    assert found.unreadable == ("00a.jpg", "more/empty.png")
    assert found.reasons[0].startswith("not an image, or damaged")
    assert found.reasons[1] == "an empty file; get it again"
    assert found.names.tolist() == expected.names.tolist()
    np.testing.assert_allclose(found.load().matrix, expected.load().matrix, atol=1e-5)


def test_of_many_unreadable_files_ten_are_said(student, people, tmp_path, capsys):
    for index in range(14):
        (people / f"x{index:02}.jpg").touch()
    found = embed_folder(student, people, tmp_path / "out.npz")
    assert len(found.unreadable) == len(found.reasons) == 14
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert len(lines) == 11 and lines[-1] == "note: and 4 more"
    assert lines[0] == f"note: {people}/x00.jpg: an empty file; get it again; left out"


def test_nothing_readable_is_an_error(student, tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UserError, match="none of 1 images can be read"):
        embed_folder(student, tmp_path, tmp_path / "out.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
    with pytest.raises(UserError, match=r"out\.npy: features are written as \.npz"):
        embed_folder(student, tmp_path, tmp_path / "out.npy")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(folder, "BATCHES_A_BLOCK", 1)


@pytest.fixture
def prepared(student, monkeypatch):
    """The names of the files that are prepared, as they come."""
    names = []
    original = type(student).prepare

    def prepare(self, image, name="image"):
        names.append(image.name)
        return original(self, image, name)

    monkeypatch.setattr(type(student), "prepare", prepare)
    return names


def stopped(student, people, out, monkeypatch, after):
    """A run that ends when it has written some blocks."""
    written = []
    original = folder._write

    def write(file, block):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(file)
        original(file, block)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folder, "_write", write)
        embed_folder(student, people, out, batch_size=2)
    assert not out.exists()


def test_it_goes_on_where_it_was_stopped(
    student, people, tmp_path, monkeypatch, small_blocks, prepared, capsys
):
    expected = embed_folder(student, people, tmp_path / "whole.npz", batch_size=2)
    out = tmp_path / "features.npz"
    stopped(student, people, out, monkeypatch, after=3)
    prepared.clear()
    embed_folder(student, people, out, batch_size=2)
    assert len(prepared) == 11 - 6
    assert "3 of 6 parts are there already" in capsys.readouterr().out
    assert out.read_bytes() == expected.path.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_changed_images_and_damaged_parts_are_done_again(
    student, people, tmp_path, monkeypatch, small_blocks, prepared
):
    out = tmp_path / "features.npz"
    stopped(student, people, out, monkeypatch, after=4)
    parts = sorted((tmp_path / ".features.parts").iterdir())
    parts[0].write_bytes(parts[0].read_bytes()[:50])
    os.utime(people / find_images(people).names[0], (1, 1))
    prepared.clear()
    embed_folder(student, people, out, batch_size=2)
    # The rest, the first block, and the damaged one, which may be the first.
    assert len(prepared) in (11 - 8 + 2, 11 - 8 + 4)
    assert "00.png" in prepared


def test_another_model_shares_nothing(
    student, other_model_file, people, tmp_path, monkeypatch, small_blocks, prepared
):
    out = tmp_path / "features.npz"
    stopped(student, people, out, monkeypatch, after=4)
    other = pgfl.load(other_model_file, device="cpu")
    prepared.clear()
    found = embed_folder(other, people, out, batch_size=2)
    assert len(prepared) == 11 and found.model_sha256 == other.sha256
