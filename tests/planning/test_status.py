import json
import os
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pgfl.planning.plan import PlannedJob
from pgfl.planning.status import duration, left_lines, progress_lines

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def begun(tmp_path):
    """Write a training's status, as the training stage would."""

    def write(variant, age=5.0, **changed):
        content = {
            "epoch": 34,
            "epochs": 120,
            "step": 3,
            "steps": 9,
            "losses": {"loss": 2.3456, "cl": 0.001},
            "images_per_second": 511.6,
            "seconds_left": 4321,
            "device": "NVIDIA H100",
            "gpus": "2",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slurm_job": "",
            "time": (NOW - timedelta(seconds=age)).isoformat(timespec="seconds"),
        }
        folder = tmp_path / "cache/paper/state/occluded_duke" / variant / "seed1"
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps(content | changed))

    return write


def shown(root, experiment="paper"):
    return list(progress_lines(root, experiment, NOW))


def test_a_training_shows_epoch_losses_time_left_and_device(tmp_path, begun):
    begun("pgfl_kd")
    assert shown(tmp_path) == [
        "Trainings",
        "  occluded_duke/pgfl_kd/seed1  epoch 34/120  512 img/s  1 h 12 min left"
        f"  on NVIDIA H100, GPU 2, {socket.gethostname()}",
        "    loss 2.346  cl 0.001",
    ]
    assert shown(tmp_path, "demo") == ["No training and no heatmaps are under way."]


def test_a_job_of_a_cluster_is_known_by_its_number(tmp_path, begun):
    begun("pgfl_kd", host="node7", slurm_job="4711", gpus="0", pid=1)
    assert shown(tmp_path)[1].endswith("on NVIDIA H100, GPU 0, node7, Slurm job 4711")
    # Nothing is wrong: a process of another machine is not looked for on this one.
    assert len(shown(tmp_path)) == 3


def test_a_process_that_is_gone_is_said_at_once(tmp_path, begun):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    begun("baseline", pid=process.pid)
    lines = shown(tmp_path)
    assert "left" not in lines[1]
    assert lines[3].strip().startswith("STOPPED: the same snakemake command goes on after")


@pytest.mark.parametrize("host", ["node7", socket.gethostname()])
def test_a_long_silence_is_said_wherever_it_runs(tmp_path, begun, host):
    begun("baseline", age=299, host=host)
    begun("pgfl_kd", age=900, host=host)
    lines = shown(tmp_path)
    assert lines[3].startswith("  occluded_duke/pgfl_kd/seed1  epoch 34/120")
    assert [line for line in lines if "SILENT" in line] == ["    SILENT for 15 min: stopped?"]
    assert lines.index("    SILENT for 15 min: stopped?") == 5


def test_what_is_no_status_is_passed_over(tmp_path, begun):
    begun("baseline")
    for name, content in {"a": "{", "b": "[]", "c": '{"epoch": 1}'}.items():
        folder = tmp_path / "cache/paper/state/occluded_duke" / name / "seed0"
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(content)
    assert len(shown(tmp_path)) == 3


def blocks(root, ages, key="k", images=4):
    folder = root / "cache/paper/state/heatmaps/market1501/train" / key
    folder.mkdir(parents=True)
    for number, age in enumerate(ages):
        path = folder / f"{number * images:08d}.npz"
        np.savez(path, usable=np.ones(images, dtype=bool))
        os.utime(path, (NOW.timestamp() - age,) * 2)
    (folder / ".00000099.1.tmp.npz").touch()


def test_heatmaps_show_images_speed_and_time_left(tmp_path):
    blocks(tmp_path, [2000], key="older settings", images=2)
    blocks(tmp_path, [50, 40, 30])
    assert shown(tmp_path) == ["Heatmaps", "  market1501/train  12 images  0.4 img/s"]
    data = tmp_path / "data/paper/market1501"
    data.mkdir(parents=True)
    (data / "counts.json").write_text('{"splits": {"train": {"images": 100}}, "junk": {}}')
    assert shown(tmp_path) == [
        "Heatmaps",
        "  market1501/train  12/100 images  0.4 img/s  4 min left",
    ]


def test_heatmaps_that_nobody_makes_any_more_are_said(tmp_path):
    blocks(tmp_path, [3700, 3600])
    line = "  market1501/train  8 images  SILENT for 1 h 00 min: stopped?"
    assert shown(tmp_path) == ["Heatmaps", line]


def test_what_is_left_is_counted_by_rule():
    jobs = [PlannedJob("train", {}, needed) for needed in (True, False, False)]
    jobs += [PlannedJob("table", {}, True), PlannedJob("manifest", {}, False)]
    assert list(left_lines([*jobs, PlannedJob("all", {}, True)])) == [
        "Trained: 2 of 3 models",
        "Left, of 5 jobs, 2: train 1, table 1",
    ]
    assert list(left_lines(jobs[1:3])) == ["Nothing is left to do."]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3569, "59 min"), (3600, "1 h 00 min")],
)
def test_durations_are_said_as_people_do(seconds, expected):
    assert duration(seconds) == expected


def test_heatmaps_of_a_named_pose_are_told_apart(tmp_path):
    blocks(tmp_path, [50, 40, 30])
    state = tmp_path / "cache/paper/state"
    shutil.copytree(state / "heatmaps", state / "heatmaps@256x192")
    lines = shown(tmp_path)
    assert [line.split()[0] for line in lines] == [
        *("Heatmaps", "market1501/train", "market1501/train@256x192")
    ]
