"""A damaged network file is the network that it was, or refused with a line that names it."""

import json

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgfl.config.recipe import Recipe
from pgfl.methods.bot import Student
from pgfl.networks.saved import FORMAT, load_student, save_student
from pgfl.nn.backbone import build_backbone
from pgfl.nn.settings import ModelSettings
from pgfl.training.checkpoint import Resume, load_checkpoint, save_checkpoint
from pgfl.untrusted.weights import read_state

STATE = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.ones(3)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bytes of good files of weights, by ending."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(STATE, folder / "new.pth")
    torch.save(STATE, folder / "old.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(STATE, folder / "w.safetensors")
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@given(st.data())
def test_damaged_weights_are_tensors_or_refused(clear, damaged, files, tmp_path, data):
    kind = data.draw(st.sampled_from(sorted(files)))
    path = tmp_path / f"weights{kind}"
    path.write_bytes(data.draw(damaged(files[kind])))
    state = clear(read_state, path, named=[path])
    if state is not None:
        assert all(isinstance(value, torch.Tensor) for value in state.values())


@given(st.data())
def test_a_damaged_resume_state_is_taken_up_or_ignored(damaged, files, tmp_path, data):
    save_checkpoint(Resume(tmp_path / "good.pt", {"key": "mine"}), [], {"model": STATE})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data.draw(damaged((tmp_path / "good.pt").read_bytes())))
    found = load_checkpoint(path)
    if found is not None:
        assert found["identity"] in ({"key": "mine"}, {}) and found["history"] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=3,
).map(json.dumps)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A student's file: its tensors, and the words in it."""
    path = tmp_path_factory.mktemp("student") / "model.safetensors"
    settings = ModelSettings(backbone="resnet18", pretrained=False, height=32, width=16)
    recipe = Recipe(model=settings)
    save_student(Student(recipe.settings, build_backbone(settings)), recipe, path)
    with safetensors.safe_open(path, "pt") as file:
        return safetensors.torch.load_file(path), file.metadata()


def test_a_student_with_other_words_in_it_is_a_student_or_refused(clear, student, tmp_path):
    tensors, words = student
    path = tmp_path / "model.safetensors"
    few = {name: tensor for name, tensor in list(tensors.items())[:3]}

    @given(st.sampled_from(["model", "method", "settings", "format"]), JSON | st.text(max_size=5))
    def check(name, text):
        safetensors.torch.save_file(few, path, {**words, name: text})
        assert clear(load_student, path, named=[path]) is None

    check()
    safetensors.torch.save_file(tensors, path, {**words, "format": FORMAT})
    load_student(path)
