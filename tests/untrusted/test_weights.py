import argparse
import datetime
import gzip
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pgfl.errors import UserError
from pgfl.untrusted.weights import Layout, load_foreign, load_strictly, read_state

HERE = Path("weights.pth")


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "code was run")


def build():
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state}])
def test_torch_files_are_read_with_or_without_a_wrapping(tmp_path, wrap):
    state = build().state_dict()
    torch.save(wrap(state), tmp_path / "weights.pth")
    found = read_state(tmp_path / "weights.pth")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_old_torch_files_are_read(tmp_path):
    state = OrderedDict(a=torch.arange(4.0))
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(tmp_path / "old.pth")["a"], state["a"])


def test_safetensors_are_read(tmp_path):
    state = {"a": torch.arange(4.0), "b": torch.ones(2, 3)}
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    found = read_state(tmp_path / "weights.safetensors")
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"none.pth: no such weights file"):
        read_state(tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x00" * 100])
def test_a_file_that_holds_no_weights_is_an_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_state(tmp_path / name)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_truncated_file_is_an_error(tmp_path, name):
    path = tmp_path / name
    save = safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save
    save({"a": torch.arange(1000.0)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="not a weights file, or damaged"):
        read_state(path)


@pytest.mark.parametrize("protocol", ["torch", "old torch", "pickle"])
def test_code_in_a_file_is_refused_and_never_run(tmp_path, protocol):
    marker, path = tmp_path / "marker", tmp_path / "bomb.pth"
    content = {"conv1.weight": torch.ones(1), "epoch": Trap(marker)}
    if protocol == "pickle":
        path.write_bytes(pickle.dumps({"epoch": Trap(marker)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=protocol == "torch")
    with pytest.raises(UserError, match=r"bomb.pth: "):
        read_state(path)
    assert not marker.exists()
    if protocol == "torch":
        with pytest.raises(UserError, match=r"no state dict: epoch is .*getattr, not a tensor"):
            read_state(path)
        torch.load(path, weights_only=False)
        assert marker.exists()  # the trap would have worked


def test_a_whole_model_is_refused(tmp_path):
    torch.save(build(), tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"an object of torch.*Sequential \(give the state_dict"):
        read_state(tmp_path / "model.pth")


@pytest.mark.parametrize(
    "content",
    [[torch.ones(1)], torch.ones(1), {"epoch": 3}, {"state_dict": 1}, {1: torch.ones(1)}],
)
def test_anything_but_names_and_tensors_is_an_error(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        read_state(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; download or copy it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 254",
            "is a Git LFS pointer, not the file itself; run `git lfs pull`",
        ),
        (b"\n<!DOCTYPE html><html><title>Sign in</title>", "is a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
        (gzip.compress(b"weights", mtime=0), "is a compressed file; unpack it first"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
        (b'{"message": "Not Found"}', "not a weights file, or damaged"),
    ],
)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_another_kind_of_file_is_called_by_its_name(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_state(path)
    assert str(caught.value).startswith(str(path)) and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_archives_are_called_by_their_names(tmp_path):
    torch.save(build().state_dict(), tmp_path / "a.pth")
    with tarfile.open(tmp_path / "a.pth.tar", "w") as archive:
        archive.add(tmp_path / "a.pth", "a.pth")
    with pytest.raises(UserError, match=r"a.pth.tar is a tar archive; unpack it first"):
        read_state(tmp_path / "a.pth.tar")
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        archive.write(tmp_path / "a.pth", "a.pth")
    with pytest.raises(
        UserError, match=r"a zip archive that torch.save did not write, with 'a.pth"
    ):
        read_state(tmp_path / "b.pth")


def test_the_content_decides_not_the_name(tmp_path):
    state = {"a": torch.arange(4.0)}
    safetensors.torch.save_file(state, tmp_path / "a.pth")
    torch.save(state, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert torch.equal(read_state(tmp_path / name)["a"], state["a"])


class Settings:
    """An object of a program that is not installed here, as checkpoints hold them."""

    def __init__(self, marker):
        self.lr, self.trap = 0.1, Trap(marker)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_what_lies_beside_the_weights_is_never_built(tmp_path, new):
    """Lightning's, fast-reid's and torchreid's files hold such objects; traps could be there."""
    marker, path = tmp_path / "marker", tmp_path / "a.ckpt"
    state = build().state_dict()
    content = {
        "state_dict": state,
        "hyper_parameters": argparse.Namespace(lr=0.1, out=Path("runs")),
        "config": Settings(marker),
        "trap": Trap(marker),
        "rank1": np.float64(0.9),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
        "when": datetime.datetime(2021, 8, 1),
    }
    torch.save(content, path, _use_new_zipfile_serialization=new)
    found = read_state(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the trap would have worked


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"generator": {"a": torch.ones(1)}, "epoch": 3}, "but a dict of epoch, generator"),
        (
            {"model": build()},
            "but a dict of model; model is an object of torch.nn.modules.container.Seq",
        ),
        ({"state_dict": {"a": torch.ones(1), "b": [1]}}, "b is a list, not a tensor"),
        ({"a\nb": torch.ones(1), "c\x1b": 1}, r"c\x1b is a int, not a tensor"),
        (
            {"a": torch.ones(2).to_sparse()},
            "a: a tensor made by torch._utils._rebuild_sparse_tens",
        ),
        (argparse.Namespace(a=1), "an object of argparse.Namespace"),
    ],
)
def test_what_is_there_instead_of_weights_is_named(tmp_path, content, said):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError) as caught:
        read_state(tmp_path / "weights.pth")
    assert said in str(caught.value) and str(caught.value).isprintable()


def test_a_fitting_state_is_copied():
    model, other = build(), build()
    load_strictly(model, other.state_dict(), HERE)
    assert torch.equal(model[0].weight, other[0].weight)
    assert model[0].weight is not other[0].weight


def test_missing_unexpected_and_misshapen_keys_are_named():
    model, state = build(), build().state_dict()
    before = model[0].weight.clone()
    del state["0.bias"], state["1.running_var"]
    state |= {"2.weight": torch.ones(1), "1.weight": torch.ones(5)}
    with pytest.raises(UserError) as caught:
        load_strictly(model, state, HERE)
    assert str(caught.value) == (
        "weights.pth: does not fit Sequential: missing: 0.bias, 1.running_var; "
        "unexpected: 2.weight; of another shape: 1.weight"
    )
    assert torch.equal(model[0].weight, before)


def test_a_long_list_of_keys_is_cut():
    state = {f"extra{index}": torch.ones(1) for index in range(14)}
    with pytest.raises(UserError, match=r"unexpected: extra0, .*extra5, and 4 more$"):
        load_strictly(build(), build().state_dict() | state, HERE)


def test_files_from_before_step_counters_fit():
    model, state = build(), build().state_dict()
    state["1.running_mean"] += 1
    del state["1.num_batches_tracked"]
    load_strictly(model, state, HERE)
    assert torch.equal(model[1].running_mean, torch.ones(2))
    assert model[1].num_batches_tracked == 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_no_numbers_are_named_and_not_copied(value):
    model, state = build(), build().state_dict()
    before = model[0].weight.clone()
    state["0.weight"][1, 1] = value
    with pytest.raises(UserError, match=r"weights.pth: NaN or infinite values in 0.weight: "):
        load_strictly(model, state, HERE)
    assert torch.equal(model[0].weight, before)


# Backbones of others ----------------------------------------------------------------------------

LAYOUT = Layout("net", (1, 2, 3), (4, 5, 6), heads=("fc",))


def others(model, **wrapping):
    return {wrapping.get("prefix", "") + key: value for key, value in model.state_dict().items()}


def test_a_classifier_of_the_known_names_is_left_out(capsys):
    model, other = build(), build()
    load_foreign(model, others(other) | {"fc.weight": torch.ones(9)}, HERE, LAYOUT)
    assert torch.equal(model[0].weight, other[0].weight) and capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"unexpected: attention.weight"):
        load_foreign(model, others(other) | {"attention.weight": torch.ones(9)}, HERE, LAYOUT)
    with pytest.raises(UserError, match=r"unexpected: 0.fc.weight"):
        load_foreign(model, others(other) | {"0.fc.weight": torch.ones(9)}, HERE, LAYOUT)


def test_a_backbone_is_taken_out_of_a_reid_network(capsys):
    model, other = build(), build()
    state = others(other, prefix="module.backbone.") | {
        "module.heads.weight": torch.ones(9),
        "module.pixel_mean": torch.tensor([1.0, 2, 3]),
    }
    load_foreign(model, state, HERE, LAYOUT)
    assert torch.equal(model[0].weight, other[0].weight)
    said = "note: weights.pth: used is what lies under backbone.; not heads\n"
    assert capsys.readouterr().out == said


def test_of_two_networks_the_one_of_the_right_shape_is_taken():
    model, other = build(), build()
    large = nn.Sequential(nn.Linear(30, 20), nn.BatchNorm1d(20))
    state = others(large, prefix="teacher.") | others(other, prefix="student.")
    load_foreign(model, state, HERE, LAYOUT)
    assert torch.equal(model[0].weight, other[0].weight)


def test_names_that_would_become_one_are_left_as_they_are():
    state = others(build()) | others(build(), prefix="module.")
    with pytest.raises(UserError, match=r"2 networks that fit net, under module\., no prefix"):
        load_foreign(build(), state, HERE, LAYOUT)
