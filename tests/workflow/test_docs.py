"""Every command in the README and in docs/ is one that works.

Commands are the indented lines that begin with a program's name. `snakemake` is asked what it
would do, with the settings of the `# config.yaml` above it; `pgfl` really runs, in a finished
project. What is left (make, pip, git) is checked to name something that exists.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
STUDENT = "runs/demo/market1501/pgfl_kd/seed0/model.safetensors"
PROGRAM = re.compile(
    r"(?:\.venv/bin/)?(snakemake|pgfl|python|pip|make|git|source|torchrun)(?: |$)"
)


@dataclass(frozen=True)
class Command:
    """A command as the reader types it."""

    page: str
    line: int
    text: str
    config: str
    """The last `# config.yaml` that stands above it, or nothing."""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.text}"


def commands_of(page: Path) -> list[Command]:
    """All indented commands of a page."""
    lines = page.read_text().splitlines()
    found, config, in_config = [], "", False
    place = 0
    while place < len(lines):
        line, number = lines[place], place + 1
        place += 1
        if not line.startswith("    "):
            in_config = in_config and not line.strip()
            continue
        text = line[4:]
        if text.strip() == "# config.yaml":
            config, in_config = "", True
        elif PROGRAM.match(text):
            in_config = False
            while text.endswith("\\"):
                text = text[:-1] + lines[place].strip()
                place += 1
            found.append(Command(page.name, number, text, config))
        elif in_config:
            config += text + "\n"
    return found


COMMANDS = [command for page in PAGES for command in commands_of(page)]


def of(*programs):
    chosen = [c for c in COMMANDS if PROGRAM.match(c.text)[1] in programs]
    return pytest.mark.parametrize("command", chosen, ids=str)


def test_a_command_takes_the_settings_above_it_and_its_next_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\n    make a\n\n    # config.yaml\n    seeds: [1]\n\n    # a remark\n"
        "    pgfl a \\\n        --b\n\n    no command\n\n## Two\n\n    # config.yaml\n    x: 1\n"
        "\n    snakemake -n  # shows\n"
    )
    none, first, second = commands_of(page)
    assert none == Command("page.md", 3, "make a", "")
    assert first == Command("page.md", 9, "pgfl a --b", "seeds: [1]\n# a remark\n")
    assert (second.text, second.config) == ("snakemake -n  # shows", "x: 1\n")
    assert second.words == ["snakemake", "-n"]


def test_the_pages_have_commands_of_each_kind():
    programs = {PROGRAM.match(command.text)[1] for command in COMMANDS}
    assert {"snakemake", "pgfl", "make", "pip"} <= programs
    assert len(COMMANDS) > 40


@of("make")
def test_make_has_the_target(command):
    targets = [word for word in command.words[1:] if "=" not in word]
    result = subprocess.run(
        ["make", "-n", *targets], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@of("pip", "git", "source")
def test_an_installation_names_what_there_is(command):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    for word in command.words:
        for wanted in re.findall(r"\[([a-z0-9_,-]+)\]", word):
            assert set(wanted.split(",")) <= extras, word
    if command.words[0] == "source":
        assert command.words[1:] == [".venv/bin/activate"]
    pins = (REPOSITORY / "envs/requirements.txt").read_text().splitlines()
    assert {word for word in command.words if "==" in word} <= set(pins)


@of("python", "torchrun")
def test_a_script_is_there(command):
    words = [word for word in command.words if not word.startswith("-")]
    if "-m" in command.words:
        module = command.words[command.words.index("-m") + 1]
        if module == "pytest":
            assert all((REPOSITORY / word).exists() for word in words[2:] if "/" in word)
            return
        found = REPOSITORY / module.replace(".", "/")
        assert found.is_dir() or found.with_suffix(".py").is_file()
    else:
        assert (REPOSITORY / words[1]).is_file()


@pytest.fixture(scope="module")
def readers(finished, tmp_path_factory):
    """A copy of a finished project, with the things in it that the pages speak of."""
    project = finished.copy(tmp_path_factory.mktemp("readers") / "project")
    root = project.root
    shop = root / "data/demo/market1501"
    images = pd.read_csv(shop / "manifest.csv")
    for name in images["image"]:
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shop / name, root / "photos" / name)
    for person, name in zip(("anna", "bert"), images["image"], strict=False):
        shutil.copy(shop / name, root / f"photos/{person}.jpg")
    images[["image", "split", "pid", "camid"]].to_csv(root / "photos/mine.csv", index=False)
    features = np.random.default_rng(0).standard_normal((len(images), 8), dtype=np.float32)
    np.savez(root / "theirs.npz", names=images["image"].to_numpy(str), features=features)
    for number, row in enumerate(images.itertuples()):
        person = root / "people" / str(row.pid)
        person.mkdir(parents=True, exist_ok=True)
        shutil.copy(shop / row.image, person / f"c{row.camid}_{number}.jpg")
    shutil.copy(root / STUDENT, root / "model.safetensors")
    fresh = root / "fresh/data/study/occluded_duke"
    fresh.mkdir(parents=True)
    shutil.copy(root / "photos/mine.csv", fresh / "manifest.csv")
    drawn = {"experiment": "study", "synthetic": {"people": 1}}
    (root / "fresh/config.yaml").write_text(yaml.safe_dump(drawn))
    (root / "mine").mkdir()
    shutil.copy(root / "cache/demo/heatmaps/market1501/train.h5", root / "mine/train.h5")
    own = {"datasets": {"mine": {"table": "photos/mine.csv", "images": "photos"}}}
    settings = yaml.safe_load((root / "config.yaml").read_text()) | own
    project.write_config(settings)
    project.snakemake("--cores", "1", "data/demo/mine/manifest.csv")
    return project


@of("snakemake")
def test_snakemake_knows_what_to_do(command, readers):
    words = command.words
    if "--executor" in words or any("slurm" in word for word in words):
        pytest.skip("needs a cluster, and Snakemake's plugin for it")
    config = readers.root / "config.yaml"
    before = config.read_text()
    if command.config:
        config.write_text(yaml.safe_dump(yaml.safe_load(before) | yaml.safe_load(command.config)))
    try:
        _, output = readers.snakemake(*words[1:], *([] if "-n" in words else ["-n"]), check=False)
    finally:
        config.write_text(before)
    # An archive that lies elsewhere with the reader is missing here, which a dry run says.
    assert any(word in output for word in ("dry-run", "Nothing to be done", "Unlocked")), output


@of("pgfl")
def test_pgfl_does_it(command, readers):
    if "MANIFEST" in command.words:
        pytest.skip("needs HRNet-W48's weights; tests/pose runs it with the small network")
    words = [word for word in command.words if word != "--watch"]
    result = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=readers.root,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
