import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from pgfl.errors import UserError
from pgfl.weights import load_strictly, read_state

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
    state = {f"extra{index}": torch.ones(1) for index in range(9)}
    with pytest.raises(UserError, match=r"unexpected: extra0, .*extra4 and 4 more$"):
        load_strictly(build(), build().state_dict() | state, HERE)


def test_files_from_before_step_counters_fit():
    model, state = build(), build().state_dict()
    state["1.running_mean"] += 1
    del state["1.num_batches_tracked"]
    load_strictly(model, state, HERE)
    assert torch.equal(model[1].running_mean, torch.ones(2))
    assert model[1].num_batches_tracked == 0
