"""The files of a trained network: `model.safetensors`, the student, and `branches.safetensors`.

The student's metadata say how to build and how to feed it. Of a method without a student
`model.safetensors` holds the whole network, and `branches.safetensors` no more than the recipe.
"""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from pgfl.config.recipe import Recipe
from pgfl.datasets.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.errors import UserError
from pgfl.methods.settings import method_settings
from pgfl.networks.build import build_network, method_module, student_of
from pgfl.nn.backbone import build_backbone
from pgfl.nn.settings import ModelSettings
from pgfl.runtime.files import file_hash, whole_file
from pgfl.untrusted.seal import sealed
from pgfl.untrusted.weights import load_strictly, read_state

FORMAT = "pgfl-student-2"
WHOLE_FORMAT = "pgfl-network-1"
"""Of a whole network, where the method leaves no student."""
FIRST_FORMAT = "pgfl-student-1"
"""Its students are all BoT's, and its settings hold some that are not the student's."""


def save_tensors(
    state: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, whole, with a checksum inside."""
    content = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with whole_file(path) as temporary:
        temporary.write_bytes(sealed(safetensors.torch.save(content, metadata)))


def save_network(network: nn.Module, recipe: Recipe, model: Path, branches: Path) -> None:
    """Write both files of a trained network.

    Args:
        network: the whole of it.
        recipe: its recipe.
        model: the student's file; the whole network's where there is no student.
        branches: the file of all the rest.
    """
    student = student_of(network, recipe)
    if student is None:
        metadata = {"format": WHOLE_FORMAT, "method": recipe.method}
        # Copies, since safetensors refuses tensors under two names (a BNNeck's normalisation).
        state = {key: value.detach().clone() for key, value in network.state_dict().items()}
        save_tensors(state, model, metadata)
    else:
        save_student(student, recipe, model)
    save_branches(network, recipe, model, branches)


def save_student(student: nn.Module, recipe: Recipe, path: Path) -> None:
    """Write a student; its metadata holds all that is needed to use it elsewhere."""
    method, model = recipe.student_method, recipe.model
    settings = recipe.settings.model_dump_json() if method == recipe.method else "{}"
    metadata = {
        "format": FORMAT,
        "method": method,
        "settings": settings,
        "model": model.model_dump_json(),
        "preprocessing": json.dumps(
            {
                "height": model.height,
                "width": model.width,
                "colours": "RGB",
                "range": [0, 255],
                "mean": IMAGENET_MEAN,
                "std": IMAGENET_STD,
            }
        ),
    }
    save_tensors(student.state_dict(), path, metadata)


def save_branches(network: nn.Module, recipe: Recipe, student: Path, path: Path) -> None:
    """Write what a student's file leaves out.

    Args:
        network: the whole of it.
        recipe: its recipe.
        student: the file that the network's student (or the whole network, where there is none)
            has been saved to; the branches name it by its hash.
        path: a .safetensors file.
    """
    saved = student_of(network, recipe) or network
    kept = {tensor.data_ptr() for tensor in saved.state_dict().values()}
    state = network.state_dict()
    rest = {key: value for key, value in state.items() if value.data_ptr() not in kept}
    metadata = {
        "student_sha256": file_hash(student),
        "recipe": recipe.model_dump_json(include={"method", "model", "settings"}),
    }
    save_tensors(rest, path, metadata)


def read_metadata(path: Path) -> dict[str, str]:
    """The words in a safetensors file.

    Raises:
        UserError: not such a file.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from None


def load_student(path: Path) -> tuple[nn.Module, ModelSettings]:
    """A student in evaluation mode, and the settings of its backbone and its input.

    Raises:
        UserError: not such a file, or its tensors do not fit its settings.
    """
    state = read_state(path)
    method, settings, model = _stated(path, read_metadata(path))
    student = method_module(method).Student(settings, build_backbone(model))
    load_strictly(student, state, path)
    return student.eval().to(memory_format=torch.channels_last), model


def _stated(path: Path, metadata: dict[str, str]) -> tuple[str, Any, ModelSettings]:
    """What a student's file says of itself: its method, that one's settings, the backbone."""
    kind = metadata.get("format")
    if kind == WHOLE_FORMAT:
        raise UserError(
            f"{path}: holds a whole network of {metadata.get('method')}, which leaves no student "
            "of one vector per image; only `pgfl evaluate --branches` can match with it"
        )
    if kind not in (FORMAT, FIRST_FORMAT):
        raise UserError(f"{path}: not a student written by pgfl (format {FORMAT} expected)")
    try:
        if kind == FIRST_FORMAT:
            method, own, model = "bot", {}, json.loads(metadata["settings"])
            model = {k: v for k, v in model.items() if k in ModelSettings.model_fields}
        else:
            method = metadata["method"]
            own, model = json.loads(metadata["settings"]), json.loads(metadata["model"])
        settings = method_settings(method, own, str(path))
        return method, settings, ModelSettings.parse(model, str(path))
    except (KeyError, ValueError, RecursionError, AttributeError, TypeError):
        raise UserError(f"{path}: its metadata do not say how it was made") from None


def load_trained(model: Path, branches: Path) -> tuple[nn.Module, Recipe]:
    """The whole network of a training run, in evaluation mode, and its recipe.

    Args:
        model: `model.safetensors`, the student (or the whole network, where there is none).
        branches: `branches.safetensors` of the same run, all the rest.

    Returns:
        The network, and its recipe with `training` at its defaults.

    Raises:
        UserError: a file is missing or damaged, or they are not of one run.
    """
    whole = _is_whole(model)
    saved = read_state(model) if whole else load_student(model)[0].state_dict()
    if branches.suffix != ".safetensors":
        raise UserError(f"{branches}: must be the branches.safetensors of a training run")
    state, metadata = read_state(branches), read_metadata(branches)
    if "student_sha256" not in metadata or "recipe" not in metadata:
        raise UserError(f"{branches}: not the branches of a training run of this version")
    if metadata["student_sha256"] != file_hash(model):
        raise UserError(f"{branches}: not of the run that made {model}; give the files of one run")
    try:
        recipe = Recipe.parse(json.loads(metadata["recipe"]), str(branches))
    except (ValueError, RecursionError):
        raise UserError(f"{branches}: its metadata do not say how it was made") from None
    network = build_network(recipe, identities_of(saved | state if whole else state, branches))
    kept = student_of(network, recipe) or network
    load_strictly(kept, saved, model)
    # What the two share is loaded already, under whatever name the network has for it.
    shared = {tensor.data_ptr() for tensor in kept.state_dict().values()}
    there = {
        key: value for key, value in network.state_dict().items() if value.data_ptr() in shared
    }
    load_strictly(network, there | state, branches)
    return network.eval().to(memory_format=torch.channels_last), recipe


def _is_whole(model: Path) -> bool:
    """Whether a model's file holds a whole network."""
    is_there = model.is_file() and model.suffix == ".safetensors"
    return is_there and read_metadata(model).get("format") == WHOLE_FORMAT


def identities_of(state: dict[str, torch.Tensor], path: Path) -> int:
    """How many identities the classifiers among some branches know.

    Raises:
        UserError: there is no classifier, or they know different numbers.
    """
    found = {len(value) for key, value in state.items() if key.endswith("classifier.weight")}
    if len(found) != 1:
        raise UserError(f"{path}: not the branches of a training run")
    return found.pop()
