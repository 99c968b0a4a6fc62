import json
import random

import pytest
import safetensors
import safetensors.torch
import torch

from pgfl.config.recipe import Recipe
from pgfl.datasets.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.errors import UserError
from pgfl.methods.bot import Student
from pgfl.networks.build import build_network
from pgfl.networks.saved import FIRST_FORMAT, load_student, save_student, save_tensors
from pgfl.nn.backbone import build_backbone
from pgfl.nn.batch import Batch


@pytest.fixture
def trained(small, images, heatmaps):
    """A student whose normalisations have seen images."""
    torch.manual_seed(0)
    model = build_network(Recipe(model=small), identities=5)
    nobody = torch.zeros(len(images), dtype=torch.int64)
    model(Batch(images, nobody, nobody, heatmaps))
    return model.student.eval()


@pytest.fixture
def saved(trained, small, tmp_path):
    path = tmp_path / "model.safetensors"
    save_student(trained, Recipe(model=small), path)
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
        save_student(trained, Recipe(model=small), path)
        assert path.read_bytes() == saved.read_bytes()


def test_the_file_holds_nothing_of_the_pose_branches(small, saved):
    with safetensors.safe_open(saved, "pt") as file:
        keys = set(file.keys())
    student = Student(Recipe(model=small).settings, build_backbone(small))
    assert keys == student.state_dict().keys()
    assert not any("part" in key or "neck" in key or "classifier" in key for key in keys)


def test_the_metadata_says_how_to_feed_the_student(small, saved):
    with safetensors.safe_open(saved, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["model"]) == small.model_dump()
    assert (metadata["method"], metadata["settings"]) == ("bot", "{}")
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
    other = small.model_copy(update={"backbone": "resnet50"})
    save_student(trained, Recipe(model=other), path)
    with pytest.raises(UserError, match=r"does not fit Student: missing: backbone.layer1"):
        load_student(path)


def test_weights_that_are_no_numbers_are_refused(trained, small, tmp_path):
    trained.norm.running_var[3] = torch.nan
    save_student(trained, Recipe(model=small), tmp_path / "nan.safetensors")
    with pytest.raises(
        UserError, match=r"nan.safetensors: NaN or infinite .* in norm.running_var:"
    ):
        load_student(tmp_path / "nan.safetensors")


def test_unknown_settings_are_refused(trained, saved, tmp_path):
    with safetensors.safe_open(saved, "pt") as file:
        metadata = file.metadata()
    model = json.loads(metadata["model"]) | {"depth": 9}
    save_tensors(trained.state_dict(), saved, metadata | {"model": json.dumps(model)})
    with pytest.raises(UserError, match="depth: no such setting"):
        load_student(saved)


def test_a_student_of_the_first_format_is_still_read(trained, small, saved, images):
    """Its settings held those of the branches, too."""
    with safetensors.safe_open(saved, "pt") as file:
        metadata = file.metadata()
    settings = small.model_dump() | {"second_layer4": "shared", "attention": "centred"}
    old = {"format": FIRST_FORMAT, "settings": json.dumps(settings)}
    save_tensors(trained.state_dict(), saved, old | {"preprocessing": metadata["preprocessing"]})
    student, model = load_student(saved)
    assert model == small
    with torch.inference_mode():
        trained.to(memory_format=torch.channels_last)
        assert torch.equal(student(images), trained(images))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("method", "bott", "no method 'bott'; did you mean 'bot'"), ("settings", "[", "do not say")],
)
def test_a_method_that_is_not_known_is_refused(trained, saved, key, value, words):
    with safetensors.safe_open(saved, "pt") as file:
        metadata = file.metadata()
    save_tensors(trained.state_dict(), saved, metadata | {key: value})
    with pytest.raises(UserError, match=words):
        load_student(saved)
