import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch

from pgfl.config.recipe import Recipe
from pgfl.methods.bot import Student
from pgfl.networks.saved import save_student
from pgfl.nn.backbone import build_backbone
from pgfl.nn.settings import ModelSettings


def pgfl(*arguments, **options):
    command = [sys.executable, "-m", "pgfl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def place(tmp_path):
    """A folder with a model and a folder of thirty pictures."""
    torch.manual_seed(0)
    settings = ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32)
    recipe = Recipe(model=settings)
    student = Student(recipe.settings, build_backbone(settings))
    save_student(student, recipe, tmp_path / "m.safetensors")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        pixels = rng.integers(0, 256, (64, 32, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / "photos" / f"{number:02}.png"), pixels)
    return tmp_path


def test_from_a_folder_to_a_page(place):
    (place / "photos" / "broken.jpg").touch()
    made = pgfl("embed", "photos", "-o", "f.npz", "-m", "m.safetensors", cwd=place)
    assert made.returncode == 0, made.stderr
    assert "f.npz: 30 images, 512 numbers each" in made.stdout
    assert "note: photos/broken.jpg: an empty file; get it again; left out" in made.stdout
    outs = ["-o", "r.html", "-o", "r.png"]
    query = ["--query", "photos/03.png", "--gallery", "f.npz", "--top", "5"]
    found = pgfl("search", *query, *outs, "-m", "m.safetensors", cwd=place)
    assert found.returncode == 0, found.stderr
    assert "r.html: The most alike: 1 query in a gallery of 30 images" in found.stdout
    assert (place / "r.html").read_text().count("<figure") == 6
    assert (place / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("option", ["--query-images", "--gallery-images"])
def test_where_images_have_moved_must_be_a_folder(place, option):
    files = ["--query", "photos", "--gallery", "photos", "-o", "r.csv", "-m", "m.safetensors"]
    found = pgfl("search", *files, option, "none", cwd=place)
    assert found.returncode == 1 and found.stderr == f"error: {option} none: no such folder\n"


def test_a_killed_run_goes_on(place):
    command = ["embed", "photos", "-o", "f.npz", "-m", "m.safetensors", "--batch-size", "1"]
    running = subprocess.Popen([sys.executable, "-m", "pgfl", *command], cwd=place)
    parts = place / ".f.parts"
    for _ in range(6000):
        if list(parts.glob("[!.]*.npz")):
            break
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = len(list(parts.glob("[!.]*.npz")))
    again = pgfl(*command, cwd=place)
    assert again.returncode == 0, again.stderr
    if kept:  # unless it was quicker than the signal
        assert f"{kept} of 4 parts are there already" in again.stdout
    assert sorted(path.name for path in place.iterdir()) == ["f.npz", "m.safetensors", "photos"]


def test_export_says_what_is_in_the_file(place):
    pytest.importorskip("onnxscript")
    made = pgfl("export", "m.safetensors", "-o", "s.onnx", cwd=place)
    assert made.returncode == 0, made.stderr
    first, graph, backbone, distance = made.stdout.splitlines()
    assert first == "s.onnx: no pose branch in it"
    macs = [line.split(":")[1].split(" MACs")[0].strip() for line in (graph, backbone)]
    assert macs[0] == macs[1] and "cosine distance from PyTorch: at most" in distance
    assert (place / "s.onnx").exists()
