"""What jobs may take: GPUs, cores and memory. The commands are stand-ins that only take time."""

from pathlib import Path
from typing import NamedTuple

import pytest

RULES = Path(__file__).resolve().parents[2] / "workflow" / "rules"

STAND_IN = """
import os, sys, time
from pathlib import Path
from pgfl.runtime.machine import own_gpus

given = dict(zip(sys.argv, sys.argv[1:]))
command = sys.argv[1]
OUTPUTS = (
    "--out", "--model", "--branches", "--history", "--provenance",
    "--joints", "--counts", "--queries",
)
for path in [Path(given[name]) for name in OUTPUTS if name in given]:
    path = path / "image" if sys.argv[2] == "extract" else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
if command in ("train", "evaluate", "heatmaps"):
    with own_gpus(int(given.get("--devices", 1))):
        start = time.time()
        time.sleep(0.7)
        did = [command, os.environ.get("CUDA_VISIBLE_DEVICES", ""), given["--threads"]]
        with open("did.txt", "a") as file:
            print(*did, start, time.time(), file=file)
"""


class Did(NamedTuple):
    """What a job on the pretended machine did."""

    command: str
    gpus: str
    threads: int
    start: float
    end: float


@pytest.fixture
def machine(project, tmp_path, tiny):
    """Train some models and evaluate them, on a machine with pretended GPUs."""
    (project.root / "pgfl" / "__main__.py").write_text(STAND_IN)

    def run(*arguments, models=3, gpus=0, resources=None):
        variants = {f"v{number}": {} for number in range(models)}
        own = {"variants": variants, "resources": tiny["resources"] | (resources or {})}
        project.write_config(tiny | own)
        targets = [f"runs/demo/market1501/{v}/seed0/eval/market1501.json" for v in variants]
        environment = {"PGFL_GPUS": str(gpus), "TMPDIR": str(tmp_path)}
        project.snakemake(*arguments, "--", *targets, env=environment)
        lines = (project.root / "did.txt").read_text().splitlines()
        return [did(*line.split(" ")) for line in lines]

    return run


def did(command, gpus, threads, start, end):
    return Did(command, gpus, int(threads), float(start), float(end))


def at_once(jobs):
    """How many of these jobs ran at the same time, at the most."""
    return max(sum(other.start <= job.start < other.end for other in jobs) for job in jobs)


def test_each_job_has_its_own_gpu_and_its_share_of_the_cores(machine, project):
    jobs = machine("--cores", "4", models=4, gpus=2, resources={"train_threads": 8})
    trainings = [job for job in jobs if job.command == "train"]
    assert len(trainings) == 4 and {job.threads for job in trainings} == {2}
    assert at_once(jobs) == 2
    for gpu in "01":
        mine = [job for job in jobs if job.gpus == gpu]
        assert len(mine) >= 2 and at_once(mine) == 1
    # Snakemake started no job that then had to wait for a GPU.
    logs = [path.read_text() for path in (project.root / "logs").rglob("*.log")]
    assert any("GPU 1 of 0, 1" in log for log in logs)
    assert not any("waiting" in log for log in logs)


def test_a_total_on_the_command_line_wins(machine):
    assert at_once(machine("--cores", "8", "--resources", "gpu=1", gpus=3)) == 1


def test_one_training_on_several_gpus(machine):
    jobs = machine("--cores", "8", gpus=3, resources={"devices": 2})
    assert {len(job.gpus.split(",")) for job in jobs if job.command == "train"} == {2}
    for gpu in "012":
        mine = [job for job in jobs if gpu in job.gpus.split(",")]
        assert not mine or at_once(mine) == 1


def test_without_a_gpu_cores_alone_decide(machine):
    jobs = machine("--cores", "3", models=4)
    assert {job.gpus for job in jobs} == {""} and at_once(jobs) == 3


def test_two_cores_train_one_after_the_other_where_a_training_wants_more(machine):
    jobs = machine("--cores", "2", models=2, resources={"train_threads": 8})
    assert at_once(jobs) == 1
    assert {job.threads for job in jobs if job.command == "train"} == {2}


def test_memory_is_a_limit_too(machine):
    jobs = machine("--cores", "8", "--resources", "mem_mb=2000", resources={"train_memory": 900})
    assert at_once([job for job in jobs if job.command == "train"]) == 2


def test_a_training_gets_cores_and_memory_for_each_device_and_one_node(project, tiny):
    resources = {"devices": 2, "train_threads": 8, "train_memory": 900, "workers": 20}
    project.write_config(tiny | {"resources": resources})
    model = "runs/demo/market1501/baseline/seed0/model.safetensors"
    _, output = project.snakemake("-n", "-p", "--cores", "64", "--", model)
    assert "--threads 16 --workers 8 --devices 2" in output
    # Nothing but a scheduler sees these two.
    rule = (RULES / "training.smk").read_text()
    assert "nodes=1," in rule
    assert "mem_mb=settings.resources.train_memory * settings.resources.devices," in rule


def test_jobs_beside_cores_would_lift_the_limit_and_is_refused(project):
    code, output = project.snakemake("-j", "2", check=False)
    assert code != 0 and "Say --cores N instead of --jobs N or -j N." in output
    assert not (project.root / "data").exists()
