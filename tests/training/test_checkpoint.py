import errno
import hashlib
import io
import pickle
import random

import pytest
import torch

from pgfl.training.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint


def bare_pickle(content, path):
    """A pickle with the checksum that a checkpoint has."""
    text = pickle.dumps(content, protocol=2)
    path.write_bytes(text + hashlib.sha256(text).digest())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "state" / "checkpoint.pt"
    save_checkpoint(path, {"key": "mine", "weights": torch.arange(5.0), "history": [{"a": 0.1}]})
    return path


def test_what_was_saved_is_loaded(path):
    content = load_checkpoint(path, "mine")
    assert torch.equal(content["weights"], torch.arange(5.0))
    assert content["history"] == [{"a": 0.1}]


def names(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_the_new_checkpoint_leaves_the_one_before_and_nothing_else(path):
    for epoch in (1, 2):
        save_checkpoint(path, {"key": "mine", "epoch": epoch})
    assert load_checkpoint(path, "mine")["epoch"] == 2
    assert names(path) == ["checkpoint.previous.pt", "checkpoint.pt"]
    remove_checkpoint(path)
    assert names(path) == []


def test_a_damaged_checkpoint_gives_way_to_the_one_before(path, capsys):
    save_checkpoint(path, {"key": "mine", "epoch": 2})
    path.write_bytes(path.read_bytes()[:-50])
    assert load_checkpoint(path, "mine")["history"] == [{"a": 0.1}]
    assert "checkpoint.pt is damaged (its checksum is wrong): trying the one before" in (
        capsys.readouterr().out
    )
    (path.parent / "checkpoint.previous.pt").write_bytes(b"")
    assert load_checkpoint(path, "mine") is None
    assert "checkpoint.previous.pt is damaged (its checksum is wrong): starting afresh" in (
        capsys.readouterr().out
    )


def test_a_kill_between_the_two_leaves_the_one_before(path):
    path.rename(path.parent / "checkpoint.previous.pt")
    assert load_checkpoint(path, "mine")["history"] == [{"a": 0.1}]


def test_no_flipped_bit_goes_unnoticed(path):
    """torch.load takes half of these files for good ones."""
    content = path.read_bytes()
    places = random.Random(0)
    for _ in range(300):
        flipped = bytearray(content)
        flipped[places.randrange(len(content))] ^= 1 << places.randrange(8)
        path.write_bytes(flipped)
        assert load_checkpoint(path, "mine") is None


def test_a_full_disk_is_an_error_of_the_system_and_leaves_the_last_one(path, monkeypatch):
    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr("pathlib.Path.open", full)
        save_checkpoint(path, {"key": "mine"})
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before and names(path) == ["checkpoint.pt"]


def test_a_failure_while_saving_leaves_the_last_one(path):
    before = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        save_checkpoint(path, {"key": "mine", "weights": lambda: None})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_no_checkpoint_is_no_state(tmp_path):
    assert load_checkpoint(tmp_path / "none.pt", "mine") is None


def test_another_runs_checkpoint_is_ignored(path, capsys):
    assert load_checkpoint(path, "other") is None
    assert "of other settings, code or data" in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_ignored(path, share, capsys):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert load_checkpoint(path, "mine") is None
    assert "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], {"weights": torch.ones(3)}])
def test_a_file_of_something_else_is_ignored(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    assert load_checkpoint(tmp_path / "other.pt", "mine") is None
    save_checkpoint(tmp_path / "other.pt", content)
    assert load_checkpoint(tmp_path / "other.pt", "mine") is None


def as_checkpoint(content, path):
    save_checkpoint(path, content)


@pytest.mark.parametrize("write", [as_checkpoint, bare_pickle])
def test_code_in_a_checkpoint_is_never_run(tmp_path, trap, write):
    bomb, marker = trap
    path = tmp_path / "bomb.pt"
    write({"key": "mine", "weights": bomb}, path)
    assert load_checkpoint(path, "mine") is None
    assert not marker.exists()
    if write is as_checkpoint:
        torch.load(io.BytesIO(path.read_bytes()[:-32]), weights_only=False)
    else:
        pickle.load(path.open("rb"))
    assert marker.exists()  # the trap would have worked
