"""The demo's DAG through a real Slurm: one host, two pretended GPUs, a job out of time.

Only `make test-slurm` runs this; it installs what is needed first.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from pgfl.runtime.files import read_json
from pgfl.runtime.machine import memory_mb

pytestmark = pytest.mark.skipif(
    "PGFL_TEST_SLURM" not in os.environ, reason="make test-slurm sets up a Slurm and runs this"
)

TARGET = "results/table3.csv"
KILLED = "market1501/pgfl_kd/seed0"

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
MinJobAge=600
SchedulerParameters=sched_interval=1,batch_sched_delay=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory={memory} Gres=gpu:2
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """A Slurm of our own in a folder of its own, stopped after the test; gives its folder."""
    folder = tmp_path_factory.mktemp("slurm")
    host, gpus = socket.gethostname().partition(".")[0], [folder / f"gpu{i}" for i in range(2)]
    for path in gpus:  # as a GPU's device file, but /dev/null
        subprocess.run(["mknod", str(path), "c", "1", "3"], check=True)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    ports = free_ports(2)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(folder=folder, host=host, ports=ports, memory=memory_mb())
    )
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={path}\n" for path in gpus))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    munge = ["key-file", "socket", "pid-file", "log-file", "seed-file"]
    options = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in munge]
    conf = ["-D", "-f", str(folder / "slurm.conf")]
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    # Snakemake's plugin drops all variables SLURM_* before it calls srun, this one, too.
    wrapper, srun = folder / "bin" / "srun", shutil.which("srun")
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {srun} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    daemons = []
    try:
        for command in (["munged", "-F", "-f", *options], ["slurmctld", *conf], ["slurmd", *conf]):
            log = (folder / f"{command[0]}.out").open("w")
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log))
            wait_until((folder / "munge.socket").exists, 10)
        wait_until(lambda: "idle" in asked("sinfo", "-h", "-o", "%T"), 60)
        yield folder
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def asked(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_until(ready, seconds):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


class Watcher(threading.Thread):
    """Notes which GPUs were given to jobs, and has one training run out of its time."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.state = root / "cache/demo/state" / KILLED
        self.stopped, self.done, self.gpus, self.status = False, threading.Event(), [], {}
        self.nodes = set()

    def run(self):
        while not self.done.wait(0.2):
            jobs = asked("scontrol", "-d", "show", "job").split("\n\n")
            running = " ".join(job for job in jobs if "JobState=RUNNING" in job)
            self.nodes |= set(re.findall(r"NumNodes=(\S+)", running))
            self.gpus.append(sorted(re.findall(r"GRES=gpu:1\(IDX:(\d)\)", running)))
            files = (self.state / name for name in ("checkpoint.pt", "status.json"))
            if not self.stopped and all(path.exists() for path in files):
                self.status = read_json(self.state / "status.json")
                self.stopped = True
                os.kill(self.status["pid"], signal.SIGSTOP)
                job = f"JobId={self.status['slurm_job']}"
                assert not asked("scontrol", "update", job, "TimeLimit=1")


@pytest.fixture
def twin(project, tiny, tmp_path):
    """The project, and a copy to run undisturbed; trainings are long enough to be caught."""
    settings = tiny | {"training": tiny["training"] | {"epochs": 20, "milestones": [10]}}
    project.write_config(settings)
    copy = type(project)(tmp_path / "twin")
    shutil.copytree(project.root, copy.root)
    return copy


def test_a_job_killed_by_its_time_limit_goes_on_and_nothing_differs(slurm, project, twin):
    twin.snakemake("--cores", "2", TARGET)
    watcher = Watcher(project.root)
    watcher.start()
    options = ["--slurm-status-command", "squeue", "--slurm-no-account"]
    options += ["--slurm-init-seconds-before-status-checks", "3", "--jobs", "4"]
    options += ["--seconds-between-status-checks", "2"]
    began = time.monotonic()
    _, output = project.snakemake("--workflow-profile", "profiles/slurm", *options, "--", TARGET)
    watcher.done.set()
    watcher.join()
    print(f"\nthrough Slurm: {time.monotonic() - began:.0f} s", file=sys.stderr)
    assert watcher.stopped and "TIMEOUT" in output
    log = (project.root / "logs/runs/demo" / KILLED / "train.log").read_text()
    assert re.search(r"going on after epoch \d+ of 20", log)
    assert watcher.status["gpus"] in ("0", "1") and watcher.status["slurm_job"]
    assert watcher.nodes == {"1"}
    # Two jobs had a GPU each at the same time, and never the same one.
    assert ["0", "1"] in watcher.gpus and all(len({*g}) == len(g) for g in watcher.gpus)
    made = [path.relative_to(twin.root) for path in twin.root.glob("results/table3.*")]
    made += [path.relative_to(twin.root) for path in twin.root.glob("runs/**/model.safetensors")]
    assert len(made) == 5
    for name in made:
        assert (project.root / name).read_bytes() == (twin.root / name).read_bytes(), name
