import pickle

import pytest
import torch

from pgfl.training.checkpoint import load_checkpoint, save_checkpoint


def bare_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "state" / "checkpoint.pt"
    save_checkpoint(path, {"key": "mine", "weights": torch.arange(5.0), "history": [{"a": 0.1}]})
    return path


def test_what_was_saved_is_loaded(path):
    content = load_checkpoint(path, "mine")
    assert torch.equal(content["weights"], torch.arange(5.0))
    assert content["history"] == [{"a": 0.1}]


def test_the_new_checkpoint_replaces_the_old_and_leaves_nothing_beside_it(path):
    save_checkpoint(path, {"key": "mine", "weights": torch.ones(1)})
    assert torch.equal(load_checkpoint(path, "mine")["weights"], torch.ones(1))
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


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


@pytest.mark.parametrize("write", [torch.save, bare_pickle])
def test_code_in_a_checkpoint_is_never_run(tmp_path, trap, write):
    bomb, marker = trap
    path = tmp_path / "bomb.pt"
    write({"key": "mine", "weights": bomb}, path)
    assert load_checkpoint(path, "mine") is None
    assert not marker.exists()
    torch.load(path, weights_only=False) if write is torch.save else pickle.load(path.open("rb"))
    assert marker.exists()  # the trap would have worked
