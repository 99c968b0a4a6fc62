"""Real processes of a training are stopped, killed and starved of shared memory."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

SETTINGS = {"baseline": True, "epochs": 500}


def children_of(process):
    """Numbers of the processes below one, all the way down."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == process:
            found += [int(entry.name), *children_of(int(entry.name))]
    return found


def running(numbers):
    """Those of some processes that still run; a zombie does not."""
    found = []
    for number in numbers:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        found += [number] if state != "Z" else []
    return found


@pytest.fixture
def started(data, make_recipe, command_line, tmp_path):
    """Start a training in a session of its own; gives it after its first epoch."""
    processes = []

    def start(*options, workers=2):
        recipe = make_recipe(**SETTINGS)
        command = command_line(data, recipe, tmp_path / "run", tmp_path / "state", workers)
        process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            # Tests that run in the background ignore Ctrl-C, and all that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        processes.append(process)
        assert "epoch" in process.stdout.readline(), process.stderr.read()
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process, patience=60):
    """What a process that has been stopped said on stderr, once all of it is gone."""
    below = children_of(process.pid)
    began = time.monotonic()
    _, errors = process.communicate(timeout=patience)  # until nobody could write any more
    while running(below):
        assert time.monotonic() - began < patience, running(below)
        time.sleep(0.05)
    return errors


@pytest.mark.parametrize(
    ("number", "whom", "devices"),
    [
        (signal.SIGTERM, "the process", "1"),
        (signal.SIGTERM, "all of them", "1"),
        (signal.SIGINT, "all of them", "1"),
        (signal.SIGTERM, "the process", "2"),
        (signal.SIGINT, "all of them", "2"),
    ],
)
def test_a_training_with_workers_stops_quietly(started, tmp_path, number, whom, devices):
    process = started("--devices", devices)
    assert len(children_of(process.pid)) >= 2 * int(devices)
    (os.kill if whom == "the process" else os.killpg)(process.pid, number)
    errors = ended(process)
    assert process.returncode == (143 if number == signal.SIGTERM else 130)
    # Lightning says with what the processes of two devices talk.
    assert not re.search(r"Traceback|rror|Exception", errors), errors
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} <= {
        *("checkpoint.pt", "checkpoint.previous.pt", "status.json")
    }


def test_a_loader_process_that_dies_is_one_line(started):
    process = started()
    os.kill(children_of(process.pid)[0], signal.SIGBUS)
    errors = ended(process).splitlines()
    assert process.returncode == 1
    # Before ours stands at most PyTorch's own word on a bus error.
    assert len(errors) <= 2 and re.search(
        r"error: a loader process has died \(.*resources\.train_memory.*--shm-size.*"
        r"resources\.workers",
        errors[-1],
    )


def test_loader_processes_end_with_a_training_that_is_killed(started):
    process = started("--devices", "1")
    below = children_of(process.pid)
    assert len(below) >= 2
    process.kill()
    ended(process, 10)
    assert not running(below)
