import json

import cv2
import numpy as np
import pytest
import safetensors
import torch

import pgfl
from pgfl.config.recipe import Recipe
from pgfl.datasets.synthetic.crops import render
from pgfl.datasets.synthetic.identity import sample_identity
from pgfl.networks.build import build_network
from pgfl.networks.saved import save_student, save_tensors
from pgfl.nn.batch import Batch
from pgfl.nn.settings import ModelSettings

SETTINGS = ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32)
SIZES = [(64, 32), (80, 40), (50, 60), (33, 17), (128, 64)]


def trained_student(seed):
    """A student whose normalisations have seen images."""
    torch.manual_seed(seed)
    network = build_network(Recipe(model=SETTINGS), identities=3)
    nobody = torch.zeros(4, dtype=torch.int64)
    maps = torch.rand(4, 8, 8, 4).flatten(2).softmax(dim=2).view(4, 8, 8, 4)
    for _ in range(3):
        images = torch.randint(256, (4, 64, 32, 3)).byte()
        network(Batch(images, nobody, nobody, maps))
    for vector in (network.student.norm.weight, network.student.backbone.bn1.bias):
        torch.nn.init.normal_(vector, 1, 0.1)
    return network.student.eval()


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_student(trained_student(0), Recipe(model=SETTINGS), path)
    return path


@pytest.fixture(scope="session")
def other_model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "model.safetensors"
    save_student(trained_student(1), Recipe(model=SETTINGS), path)
    return path


@pytest.fixture(scope="session")
def student(model_file):
    return pgfl.load(model_file, device="cpu")


@pytest.fixture
def people(tmp_path):
    """A folder of drawn people of several sizes, in JPEG and PNG, with a folder in it."""
    folder = tmp_path / "people"
    names = [f"{index:02}.{'jpg' if index % 3 else 'png'}" for index in range(9)]
    names += ["more/09.JPG", "more/a & <b>.jpeg"]
    (folder / "more").mkdir(parents=True)
    for index, name in enumerate(names):
        crop = render(
            sample_identity(1, index),
            rng=np.random.default_rng(index),
            camera=index % 8,
            camera_seed=1,
            size=SIZES[index % len(SIZES)],
        )
        assert cv2.imwrite(str(folder / name), crop.image[..., ::-1])
    return folder


@pytest.fixture(scope="session")
def changed():
    """Writes the same student with other words about its input."""

    def write(model_file, path, **preprocessing):
        with safetensors.safe_open(model_file, "pt") as file:
            metadata = file.metadata()
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        stated = json.loads(metadata["preprocessing"]) | preprocessing
        save_tensors(state, path, metadata | {"preprocessing": json.dumps(stated)})
        return path

    return write
