"""`model.safetensors`: the student and, in the file's metadata, how to feed it."""

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from pgfl.errors import UserError
from pgfl.files import file_hash, whole_file
from pgfl.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.models.pgfl import PGFL, Student
from pgfl.recipe import ModelSettings
from pgfl.seal import sealed
from pgfl.weights import load_strictly, read_state

FORMAT = "pgfl-student-1"


def save_tensors(
    state: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, whole, with a checksum inside."""
    content = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with whole_file(path) as temporary:
        temporary.write_bytes(sealed(safetensors.torch.save(content, metadata)))


def save_student(student: Student, settings: ModelSettings, path: Path) -> None:
    """Write a student; its metadata holds all that is needed to use it elsewhere."""
    metadata = {
        "format": FORMAT,
        "settings": settings.model_dump_json(),
        "preprocessing": json.dumps(
            {
                "height": settings.height,
                "width": settings.width,
                "colours": "RGB",
                "range": [0, 255],
                "mean": IMAGENET_MEAN,
                "std": IMAGENET_STD,
            }
        ),
    }
    save_tensors(student.state_dict(), path, metadata)


def save_branches(network: PGFL, student: Path, path: Path) -> None:
    """Write what a student's file leaves out; it has the normalisation of f_G's neck.

    Args:
        network: the whole of it.
        student: the file that the network's student has been saved to; the branches name it by
            its hash.
        path: a .safetensors file.
    """
    kept = ("student.", "necks.global.norm.")
    state = network.state_dict()
    rest = {key: value for key, value in state.items() if not key.startswith(kept)}
    save_tensors(rest, path, {"student_sha256": file_hash(student)})


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


def load_student(path: Path) -> tuple[Student, ModelSettings]:
    """A student in evaluation mode, and the settings it was trained with.

    Raises:
        UserError: not such a file, or its tensors do not fit its settings.
    """
    state = read_state(path)
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: not a student written by pgfl (format {FORMAT} expected)")
    try:
        settings = ModelSettings.parse(json.loads(metadata["settings"]), str(path))
    except (KeyError, ValueError, RecursionError):
        raise UserError(f"{path}: its metadata do not say how it was made") from None
    student = Student(settings)
    load_strictly(student, state, path)
    return student.eval().to(memory_format=torch.channels_last), settings
