import os

import pytest

from pgfl.training.finished import archive_run, restore_run

IDENTITY = {"seed": 0, "settings": {"epochs": 3}}


@pytest.fixture
def outputs(tmp_path):
    """A run's two files."""
    files = [tmp_path / "run" / name for name in ("model.safetensors", "history.csv")]
    files[0].parent.mkdir()
    for file in files:
        file.write_text(f"content of {file.name}")
    return files


@pytest.fixture
def archived(outputs, tmp_path):
    """The folder in which the run was archived before its own files were deleted."""
    folder = tmp_path / "state" / "finished"
    archive_run(outputs, IDENTITY, folder)
    for output in outputs:
        os.utime(output, (1, 1))
        output.unlink()
    return folder


def test_a_run_comes_back_whole_and_newer_than_its_inputs(outputs, archived):
    assert restore_run(outputs, IDENTITY, archived)
    assert [file.read_text() for file in outputs] == [f"content of {f.name}" for f in outputs]
    assert all(file.stat().st_mtime > 1e9 for file in outputs)


def test_another_run_does_not(outputs, archived):
    assert not restore_run(outputs, IDENTITY | {"seed": 1}, archived)
    assert not any(file.exists() for file in outputs)


@pytest.mark.parametrize("name", ["model.safetensors", "history.csv"])
def test_harmed_or_missing_files_bring_nothing_back(outputs, archived, name):
    (archived / name).write_text("content of model.safetensorz")
    assert not restore_run(outputs, IDENTITY, archived)
    (archived / name).unlink()
    assert not restore_run(outputs, IDENTITY, archived)
    assert not any(file.exists() for file in outputs)


@pytest.mark.parametrize("content", ["", "{", None])
def test_without_a_record_there_is_no_run(outputs, archived, content):
    record = archived / "run.json"
    record.unlink() if content is None else record.write_text(content)
    assert not restore_run(outputs, IDENTITY, archived)


def test_what_is_archived_shares_its_space(outputs, tmp_path):
    archive_run(outputs, IDENTITY, tmp_path / "finished")
    assert all(file.samefile(tmp_path / "finished" / file.name) for file in outputs)
