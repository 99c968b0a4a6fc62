"""What `pgfl status` says of the whole workflow is what Snakemake plans."""

import subprocess
import sys

import pytest

from pgfl.errors import UserError
from pgfl.planning.plan import make_plan

MODEL = "runs/demo/market1501/baseline/seed0/model.safetensors"


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("PYTHONPATH", str(project.root))
    return project


def pgfl(*arguments):
    command = [sys.executable, "-m", "pgfl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_plan_has_every_job_and_whether_it_is_needed(here):
    plan = make_plan([MODEL], ["seeds=[3]"])
    assert [job.rule for job in plan.jobs if job.rule == "train"] == ["train"]
    (train,) = (job for job in plan.jobs if job.rule == "train")
    assert train.wildcards == {"train": "market1501", "variant": "baseline", "seed": "0"}
    assert all(job.needed for job in plan.jobs)
    assert plan.config["seeds"] and plan.config["experiment"] == "demo"
    archive = "data/demo/archives/Market-1501-v15.09.15.zip"
    here.snakemake("--cores", "1", "--", archive)
    again = {job.rule: job.needed for job in make_plan([MODEL]).jobs}
    assert again.pop("draw_archive") is False and all(again.values())


def test_a_plan_that_cannot_be_made_is_said_in_snakemakes_words(here):
    with pytest.raises(
        UserError, match=r"cannot plan the workflow here\n.*\nerror: target x: no rule makes this"
    ):
        make_plan(["x"])
    with pytest.raises(UserError, match="did you mean 'training'"):
        make_plan(config=["trainig=1"])


def test_the_status_says_what_is_left_and_runs_beside_a_running_snakemake(here):
    # Snakemake's lock is a file; a run that goes on has it.
    locks = here.root / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text(f"{here.root / MODEL}\n")
    said = pgfl("status", MODEL).splitlines()
    assert said[:2] == ["Experiment demo", "No training and no heatmaps are under way."]
    assert said[2] == "Trained: 0 of 1 models"
    assert said[3].startswith("Left, of 4 jobs, 4: ") and "train 1" in said[3]


def test_the_status_of_another_experiment(here):
    assert pgfl("status", "--no-plan", "--config", "experiment=study").splitlines() == [
        "Experiment study",
        "No training and no heatmaps are under way.",
    ]
