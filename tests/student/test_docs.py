"""What docs/api.md and README.md tell people to type works as it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(model_file, people, tmp_path, monkeypatch):
    """A folder with all that the examples name, and `pgfl` on the path."""
    (tmp_path / "work" / "bin").mkdir(parents=True)
    work = tmp_path / "work"
    trained = work / "runs" / "demo" / "market1501" / "pgfl_kd" / "seed0"
    trained.mkdir(parents=True)
    for path in (work, trained):
        shutil.copy(model_file, path / "model.safetensors")
    photos = people.rename(work / "photos")
    (photos / "01.jpg").rename(photos / "anna.jpg")
    (photos / "02.jpg").rename(photos / "bert.jpg")
    command = work / "bin" / "pgfl"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pgfl "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return work


def run(command, folder):
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, f"{command}: {result.stderr}"


def typed(name):
    """The commands of the student in a document, continued lines joined."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return re.findall(r"^    (pgfl (?:embed|search|export) .*)$", text, re.M)


def blocks(name):
    """The Python of a document, that for ONNX Runtime last."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S)
    return sorted(found, key=lambda block: "onnxruntime" in block)


def test_the_commands_of_the_api(place):
    *commands, export = typed("docs/api.md")
    assert len(commands) == 4 and "export" in export
    for line in commands:
        run(["sh", "-c", line], place)
    written = {path.name for path in place.iterdir()}
    assert {"result.html", "result.png", "result.csv", "people.npz"} <= written


def test_the_python_of_the_api(place):
    *ours, _ = blocks("docs/api.md")
    assert len(ours) == 3
    run(["sh", "-c", "pgfl embed photos -o people.npz --model model.safetensors"], place)
    run([sys.executable, "-c", "\n".join(ours)], place)


def test_the_export_of_the_api(place):
    pytest.importorskip("onnxscript")
    run(["sh", "-c", typed("docs/api.md")[-1]], place)
    run([sys.executable, "-c", blocks("docs/api.md")[-1]], place)


def test_the_search_of_the_readme(place):
    (line,) = typed("README.md")
    run(["sh", "-c", line], place)
    assert (place / "result.html").exists()
