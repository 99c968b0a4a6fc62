import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgfl.errors import UserError
from pgfl.runtime import machine
from pgfl.runtime.machine import memory_mb, own_gpus, visible_gpus

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import os, sys
from pgfl.runtime.machine import own_gpus
with own_gpus(int(sys.argv[1])):
    print("has", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_machine_of_ours(monkeypatch, tmp_path):
    """Neither this machine's GPUs nor its locks; tests that go wrong end quickly."""
    for name in ("CUDA_VISIBLE_DEVICES", "PGFL_GPUS", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "_nvidia_devices", lambda: 0)
    monkeypatch.setattr(machine.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(machine, "SECONDS_BETWEEN_TRIES", 0.01)


@pytest.fixture
def hold(monkeypatch):
    """Start a process that takes GPUs and keeps them; it is gone when the test is."""
    started = []

    def start(wanted=1):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def says(process, word):
    """What follows the first line that begins with a word."""
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    raise AssertionError(f"never said {word!r}")


def test_without_a_gpu_nothing_happens(capsys):
    with own_gpus(4) as taken:
        assert taken == [] and "CUDA_VISIBLE_DEVICES" not in os.environ
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("2,0", ["2", "0"]), ("", []), ("0,-1,1", ["0"]), ("GPU-8a, GPU-9b", ["GPU-8a", "GPU-9b"])],
)
def test_what_is_visible_is_what_may_be_used(monkeypatch, visible, expected):
    monkeypatch.setenv("PGFL_GPUS", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == expected


def test_gpus_are_counted_or_said(monkeypatch):
    monkeypatch.setattr(machine, "_nvidia_devices", lambda: 2)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("PGFL_GPUS", "3")
    assert visible_gpus() == ["0", "1", "2"]
    monkeypatch.setenv("PGFL_GPUS", "all")
    with pytest.raises(UserError, match="PGFL_GPUS=all: must be a number"):
        visible_gpus()


def test_processes_get_a_gpu_each_and_more_of_them_wait(monkeypatch, hold):
    monkeypatch.setenv("PGFL_GPUS", "3")
    holders = [hold() for _ in range(3)]
    taken = {says(process, "has"): process for process in holders}
    assert taken.keys() == {"0", "1", "2"}
    late = hold()
    assert says(late, "waiting:") == "1 of GPU 0, 1, 2 wanted, all taken"
    taken["1"].stdin.close()
    assert says(late, "has") == "1"


def test_a_killed_process_leaves_its_gpu_free(monkeypatch, hold):
    monkeypatch.setenv("PGFL_GPUS", "1")
    holder, late = hold(), None
    assert says(holder, "has") == "0"
    late = hold()
    says(late, "waiting:")
    holder.send_signal(signal.SIGKILL)
    assert says(late, "has") == "0"


def test_several_gpus_are_taken_all_or_none(monkeypatch, hold):
    monkeypatch.setenv("PGFL_GPUS", "3")
    pair = hold(2)
    assert says(pair, "has") == "0,1"
    other = hold(2)
    says(other, "waiting:")
    # The other holds nothing while it waits, so there is one to take.
    assert says(hold(), "has") == "2"
    pair.stdin.close()
    assert says(other, "has") == "0,1"


def test_the_choice_of_the_user_is_what_is_dealt(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8a/1")
    with own_gpus() as first:
        assert first == ["5"] and os.environ["CUDA_VISIBLE_DEVICES"] == "5"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8a/1")
        with own_gpus() as second:
            assert second == ["GPU-8a/1"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,GPU-8a/1"


def test_more_than_there_are_is_one_line(monkeypatch):
    monkeypatch.setenv("PGFL_GPUS", "2")
    with pytest.raises(UserError, match="4 GPUs are wanted, but there are 2"), own_gpus(4):
        pass


def test_a_slurm_job_keeps_what_it_was_given(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with own_gpus() as taken:
        assert taken == [] and os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert list(tmp_path.iterdir()) == []
    # A whole workflow inside one job shares out the job's GPUs; another job's 0 is another GPU.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with own_gpus() as taken:
        assert taken == ["0"]
        monkeypatch.setenv("SLURM_JOB_ID", "18")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with own_gpus() as taken:
            assert taken == ["0"]


def test_torchrun_deals_the_devices_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("PGFL_GPUS", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with own_gpus(2) as taken:
        assert taken == []


def test_memory_is_what_a_container_may_have(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CGROUP_LIMIT", tmp_path / "memory.max")
    whole = memory_mb()
    assert whole > 100
    for limit, expected in {"max": whole, "50000000": 50}.items():
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert memory_mb() == expected
