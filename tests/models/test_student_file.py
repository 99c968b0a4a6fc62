import json
import random

import pytest
import safetensors
import safetensors.torch
import torch

from pgfl.errors import UserError
from pgfl.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.models.pgfl import PGFL, Student
from pgfl.models.student_file import load_student, save_student, save_tensors
from pgfl.recipe import LossSettings


@pytest.fixture
def trained(small, images, heatmaps):
    """A student whose normalisations have seen images."""
    torch.manual_seed(0)
    model = PGFL(small, LossSettings(), identities=5)
    model(images, heatmaps)
    return model.student.eval()


@pytest.fixture
def saved(trained, small, tmp_path):
    path = tmp_path / "model.safetensors"
    save_student(trained, small, path)
    return path


def test_a_student_comes_back_bit_by_bit(trained, small, saved, images):
    student, settings = load_student(saved)
    assert settings == small and not student.training
    original = trained.state_dict()
    assert student.state_dict().keys() == original.keys()
    assert all(torch.equal(value, original[key]) for key, value in student.state_dict().items())
    with torch.inference_mode():
        # Channels-last in memory, as a loaded student is: the order of sums depends on it.
        trained.to(memory_format=torch.channels_last)
        assert torch.equal(student(images), trained(images))
        assert torch.equal(student(images, after_norm=False), trained(images, after_norm=False))


def test_saving_again_gives_the_same_bytes(trained, small, saved, tmp_path):
    for attempt in range(8):  # safetensors alone keeps no order in the metadata
        path = tmp_path / f"again{attempt}.safetensors"
        save_student(trained, small, path)
        assert path.read_bytes() == saved.read_bytes()


def test_the_file_holds_nothing_of_the_pose_branches(small, saved):
    with safetensors.safe_open(saved, "pt") as file:
        keys = set(file.keys())
    assert keys == Student(small).state_dict().keys()
    assert not any("part" in key or "neck" in key or "classifier" in key for key in keys)


def test_the_metadata_says_how_to_feed_the_student(small, saved):
    with safetensors.safe_open(saved, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["settings"]) == small.model_dump()
    assert json.loads(metadata["preprocessing"]) == {
        "height": 64,
        "width": 32,
        "colours": "RGB",
        "range": [0, 255],
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
    }


def test_a_foreign_file_is_refused(trained, tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_tensors(trained.state_dict(), path)
    with pytest.raises(UserError, match=r"foreign.safetensors: not a student written by pgfl"):
        load_student(path)
    torch.save(trained.state_dict(), tmp_path / "foreign.pth")
    with pytest.raises(UserError, match=r"foreign.pth: not a safetensors file"):
        load_student(tmp_path / "foreign.pth")


@pytest.mark.parametrize("length", [0, 4, 100, 20_000, -1])
def test_a_truncated_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(UserError, match=r"damaged|is empty"):
        load_student(saved)


def test_no_flipped_bit_goes_unnoticed(saved):
    """Safetensors itself checks its header, and of the numbers nothing."""
    content, places = saved.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    for place in [places.randrange(header) for _ in range(20)] + [header, header + 9, -1]:
        if b'"sha256' in content[place - 8 : place + 8]:
            continue  # its own name: a file without is taken as it is
        flipped = bytearray(content)
        flipped[place] ^= 1 << places.randrange(8)
        saved.write_bytes(flipped)
        with pytest.raises(UserError, match="damaged"):
            load_student(saved)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such weights file"):
        load_student(tmp_path / "none.safetensors")


def test_tensors_that_do_not_fit_the_settings_are_refused(trained, small, tmp_path):
    path = tmp_path / "model.safetensors"
    save_student(trained, small.model_copy(update={"backbone": "resnet50"}), path)
    with pytest.raises(UserError, match=r"does not fit Student: missing: backbone.layer1"):
        load_student(path)


def test_weights_that_are_no_numbers_are_refused(trained, small, tmp_path):
    trained.norm.running_var[3] = torch.nan
    save_student(trained, small, tmp_path / "nan.safetensors")
    with pytest.raises(
        UserError, match=r"nan.safetensors: NaN or infinite .* in norm.running_var:"
    ):
        load_student(tmp_path / "nan.safetensors")


def test_unknown_settings_are_refused(trained, saved, tmp_path):
    with safetensors.safe_open(saved, "pt") as file:
        metadata = file.metadata()
    settings = json.loads(metadata["settings"]) | {"depth": 9}
    save_tensors(trained.state_dict(), saved, metadata | {"settings": json.dumps(settings)})
    with pytest.raises(UserError, match="depth: no such setting"):
        load_student(saved)
