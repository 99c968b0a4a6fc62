import errno
import hashlib
import io
import pickle
import random

import pytest
import torch

from pgfl.training.checkpoint import (
    Resume,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
    take_up,
)

MINE = {"seed": 0, "settings": {"training": {"epochs": 3}}, "code": "a", "data": {"manifest": "b"}}


def saved(path, content, identity=MINE, epochs=1):
    """Save a checkpoint after some epochs."""
    save_checkpoint(Resume(path, identity), [{"a": 0.1}] * epochs, content)


def bare_pickle(content, path):
    """A pickle with the checksum that a checkpoint has."""
    text = pickle.dumps(content, protocol=2)
    path.write_bytes(text + hashlib.sha256(text).digest())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "state" / "checkpoint.pt"
    saved(path, {"weights": torch.arange(5.0)})
    return path


def test_what_was_saved_is_loaded(path):
    content = load_checkpoint(path)
    assert torch.equal(content["weights"], torch.arange(5.0))
    assert content["history"] == [{"a": 0.1}]


def names(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_the_new_checkpoint_leaves_the_one_before_and_nothing_else(path):
    for epoch in (1, 2):
        saved(path, {"epoch": epoch})
    assert load_checkpoint(path)["epoch"] == 2
    assert names(path) == ["checkpoint.previous.pt", "checkpoint.pt"]
    remove_checkpoint(path)
    assert names(path) == []


def test_a_damaged_checkpoint_gives_way_to_the_one_before(path, capsys):
    saved(path, {"epoch": 2})
    path.write_bytes(path.read_bytes()[:-50])
    assert load_checkpoint(path)["history"] == [{"a": 0.1}]
    assert "checkpoint.pt is damaged (its checksum is wrong): trying the one before" in (
        capsys.readouterr().out
    )
    (path.parent / "checkpoint.previous.pt").write_bytes(b"")
    assert load_checkpoint(path) is None
    said = capsys.readouterr().out
    assert "checkpoint.previous.pt is damaged (its checksum is wrong): starting again" in said


def test_a_kill_between_the_two_leaves_the_one_before(path):
    path.rename(path.parent / "checkpoint.previous.pt")
    assert load_checkpoint(path)["history"] == [{"a": 0.1}]


def test_no_flipped_bit_goes_unnoticed(path):
    """torch.load takes half of these files for good ones."""
    content = path.read_bytes()
    places = random.Random(0)
    for _ in range(300):
        flipped = bytearray(content)
        flipped[places.randrange(len(content))] ^= 1 << places.randrange(8)
        path.write_bytes(flipped)
        assert load_checkpoint(path) is None


def test_a_full_disk_is_an_error_of_the_system_and_leaves_the_last_one(path, monkeypatch):
    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr("pathlib.Path.open", full)
        saved(path, {})
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before and names(path) == ["checkpoint.pt"]


def test_a_failure_while_saving_leaves_the_last_one(path):
    before = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        saved(path, {"weights": lambda: None})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_no_checkpoint_is_no_state(tmp_path):
    assert load_checkpoint(tmp_path / "none.pt") is None


def changed(**parts):
    return MINE | parts


@pytest.mark.parametrize(
    ("identity", "named"),
    [
        (changed(seed=1), "seed was 0 and is 1"),
        (changed(settings={"training": {"epochs": 5}}), "training.epochs was 3 and is 5"),
        (changed(settings={}), "training.epochs was 3 and is not set"),
        (changed(code="c"), "the code has changed"),
        (changed(data={"manifest": "c"}), "the file of its manifest has another content"),
    ],
)
def test_another_runs_state_is_named_and_kept_and_found_again(path, capsys, identity, named):
    before = path.read_bytes()
    other = Resume(path, identity)
    assert take_up(other) is None
    said = capsys.readouterr().out
    (kept,) = path.parent.iterdir()
    assert f"checkpoint.pt is of another run: {named}. It is kept as {kept.name}" in said
    assert kept.read_bytes() == before
    assert take_up(other) is None and capsys.readouterr().out == ""
    assert torch.equal(take_up(Resume(path, MINE))["weights"], torch.arange(5.0))
    assert names(path) == ["checkpoint.pt"] and path.read_bytes() == before


def test_the_old_state_goes_when_the_new_run_has_passed_it(path):
    saved(path, {}, epochs=2)
    other = changed(seed=1)
    take_up(Resume(path, other))
    saved(path, {}, other, epochs=1)
    assert len(names(path)) == 2
    saved(path, {}, other, epochs=2)
    assert names(path) == ["checkpoint.previous.pt", "checkpoint.pt"]


def test_of_two_states_each_goes_on_where_it_was(path):
    saved(path, {}, epochs=2)
    other = Resume(path, changed(seed=1))
    take_up(other)
    saved(path, {}, other.identity, epochs=1)
    assert len(take_up(Resume(path, MINE))["history"]) == 2
    assert len(take_up(other)["history"]) == 1
    remove_checkpoint(path)
    assert names(path) == []


def test_only_the_latest_states_are_kept(path, capsys):
    saved(path, {}, epochs=9)
    for seed in range(1, 6):
        identity = changed(seed=seed)
        assert take_up(Resume(path, identity)) is None
        saved(path, {}, identity, epochs=9 - seed)
    assert len(names(path)) == 1 + 3
    assert "is removed: 3 states of other runs are kept" in capsys.readouterr().out


def test_at_most_ten_differences_are_named(path, capsys):
    many = {name: 0 for name in "abcdefghijklmno"}
    saved(path, {}, changed(settings=many))
    take_up(Resume(path, changed(settings=dict.fromkeys(many, 1))))
    said = capsys.readouterr().out
    assert said.count(" was 0 and is 1") == 10 and "; and 5 more. " in said


def test_a_checkpoint_of_an_older_version_is_kept_too(path, capsys):
    content = torch.load(io.BytesIO(path.read_bytes()[:-32]))
    stream = io.BytesIO()
    torch.save({"key": "0ab1", "history": content["history"]}, stream)
    path.write_bytes(stream.getvalue() + hashlib.sha256(stream.getvalue()).digest())
    assert take_up(Resume(path, MINE)) is None
    assert "of another run: another version of this program wrote it" in capsys.readouterr().out
    assert len(names(path)) == 1


def test_what_a_run_is_computed_on_is_noted_part_by_part(path, capsys):
    for epoch, devices in ((1, 1), (2, 1), (3, 2)):
        resume = Resume(path, MINE, {"devices": devices, "torch": "2.13"})
        take_up(resume)
        resume.begin_part(epoch)
        save_checkpoint(resume, [{}] * epoch, {})
    assert resume.parts == [
        {"from_epoch": 1, "devices": 1, "torch": "2.13"},
        {"from_epoch": 3, "devices": 2, "torch": "2.13"},
    ]
    said = capsys.readouterr().out
    assert said == "note: devices was 1 and is 2: from here on numbers differ by rounding\n"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_ignored(path, share, capsys):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert load_checkpoint(path) is None
    assert "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], {"weights": torch.ones(3)}])
def test_a_file_of_something_else_is_ignored(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    assert load_checkpoint(tmp_path / "other.pt") is None
    stream = (tmp_path / "other.pt").read_bytes()
    (tmp_path / "other.pt").write_bytes(stream + hashlib.sha256(stream).digest())
    assert load_checkpoint(tmp_path / "other.pt") is None


def as_checkpoint(content, path):
    saved(path, content)


@pytest.mark.parametrize("write", [as_checkpoint, bare_pickle])
def test_code_in_a_checkpoint_is_never_run(tmp_path, trap, write):
    bomb, marker = trap
    path = tmp_path / "bomb.pt"
    write({"key": "mine", "weights": bomb}, path)
    assert load_checkpoint(path) is None
    assert not marker.exists()
    if write is as_checkpoint:
        torch.load(io.BytesIO(path.read_bytes()[:-32]), weights_only=False)
    else:
        pickle.load(path.open("rb"))
    assert marker.exists()  # the trap would have worked
