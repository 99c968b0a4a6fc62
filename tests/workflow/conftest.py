import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pgfl.runtime.locks import locked

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "pgfl", "envs")

TINY = {
    "experiment": "demo",
    "synthetic": {
        "train_identities": 5,
        "test_identities": 5,
        "images": 6,
        "cameras": 3,
        "height": 64,
        "width": 32,
    },
    "pose": {"height": 64, "width": 32},
    "model": {"height": 64, "width": 32},
    "training": {"epochs": 2, "milestones": [1], "identities": 4, "images": 2},
    # Figure 3 with a single point, which the method has anyway.
    "sweeps": {"lambda_mcl": [0.25], "lambda_cl": [0.25]},
    "comparisons": {"mine": {"variants": ["pgfl_kd", "baseline"], "against": "baseline"}},
    # Several small jobs at a time.
    "resources": {"workers": 0, "train_threads": 1, "pose_threads": 1},
}

PATIENCE = 1800.0
"""Seconds that a test process waits for another one's run of the whole workflow."""


@dataclass(frozen=True)
class Project:
    """A copy of the repository in which real Snakemake runs."""

    root: Path

    def snakemake(self, *arguments: str, check: bool = True, env: dict[str, str] | None = None):
        """Run Snakemake as a user would, in the project's folder."""
        result = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.root,
            env=os.environ | {"COLUMNS": "200"} | (env or {}),
            capture_output=True,
            text=True,
        )
        output = result.stdout + result.stderr
        assert not check or result.returncode == 0, output
        return result.returncode, output

    def planned(self, *arguments: str) -> list[str]:
        """The output files that a run would make now, sorted."""
        result = subprocess.run(
            [sys.executable, "-m", "snakemake", "--summary", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        rows = [line.split("\t") for line in result.stdout.splitlines()]
        assert rows[0][0] == "output_file" and rows[0][-1] == "plan", result.stdout
        return sorted(row[0] for row in rows[1:] if row[-1] == "update pending")

    def copy(self, root: Path) -> "Project":
        """A copy in a new folder. What is large is hard-linked: replace files, never write in."""
        large = ("data", "cache", "runs", "results")
        shutil.copytree(
            self.root,
            root,
            ignore=lambda folder, _: large if Path(folder) == self.root else (),
        )
        for name in large:
            shutil.copytree(self.root / name, root / name, copy_function=os.link)
        return Project(root)

    def write_config(self, settings) -> None:
        (self.root / "config.yaml").write_text(yaml.safe_dump(settings))


def make_project(root: Path) -> Project:
    """Copy what a clone has (tests left out) and configure it to be tiny."""
    root.mkdir()
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            # With what Python has compiled: it fits, since the copies have the files' times.
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            shutil.copy(source, root / part)
    project = Project(root)
    project.write_config(TINY)
    return project


@pytest.fixture
def tiny():
    """The settings that every test project has."""
    return TINY


@pytest.fixture
def project(tmp_path):
    """A fresh project in which nothing has run."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project whose whole workflow has run once. Tests must leave it finished.

    Test processes beside each other run the workflow once between them; each gets a copy.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    first = shared / "finished"
    with locked(first, patience=PATIENCE):
        if not first.exists():
            project = make_project(tmp_path_factory.mktemp("finished") / "project")
            project.snakemake("--cores", "2")
            project.root.rename(first)
    return Project(first).copy(tmp_path_factory.mktemp("own") / "project")


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished project, for tests that change it."""
    return finished.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A project in which only Market-1501 is drawn and listed."""
    project = make_project(tmp_path_factory.mktemp("listed") / "project")
    project.snakemake("--cores", "2", "data/demo/market1501/manifest.csv")
    return project


@pytest.fixture(scope="module")
def all_touched(tmp_path_factory):
    """A project that Snakemake takes for finished: its files are there, with nothing in them."""
    project = make_project(tmp_path_factory.mktemp("touched") / "project")
    for name in project.planned():
        path = project.root / name
        if path.name in ("images", "lists"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    project.snakemake("--touch", "--forceall")  # records what each job is made with
    assert project.planned() == []
    return project


@pytest.fixture
def touched(all_touched, tmp_path):
    """A copy of it, for a test that changes it."""
    return Project(Path(shutil.copytree(all_touched.root, tmp_path / "project")))
