import json
import os
import socket
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from pgfl.errors import UserError
from pgfl.training import live
from pgfl.training.live import Live
from pgfl.training.meter import Meter


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""

    class Clock:
        now = 100.0

    # Not in the time module itself: others wait by it, too, and would wait for ever.
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: Clock.now))
    return Clock


def metered(steps):
    meter = Meter()
    for _ in range(steps):
        meter.add({"loss": torch.tensor(2.0), "cl": torch.tensor(0.5)})
    return meter


def test_a_log_gets_a_line_now_and_then(clock, capsys, tmp_path):
    view = Live(epochs=3, images=10, status=tmp_path / "status.json", device="cpu")
    view.begin()
    for step, now in ((1, 101), (2, 119), (3, 121), (4, 130)):
        clock.now = now
        view.step(0, metered(step), steps=8)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    # 3 steps of 10 images in 21 seconds, 5 steps of 7 seconds left.
    expected = "epoch 1/3 [#######-------------] 3/8  loss 2.000  cl 0.500  1 img/s  35 s left"
    assert line == expected


def test_the_status_file_says_how_far_the_run_is(clock, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    path = tmp_path / "state" / "status.json"
    view = Live(epochs=3, images=10, status=path, device="one GPU")
    view.begin()
    clock.now += 20
    view.step(1, metered(2), steps=8)
    content = json.loads(path.read_text())
    assert content.pop("time").endswith("+00:00")
    assert content == {
        "epoch": 2,
        "epochs": 3,
        "step": 2,
        "steps": 8,
        "losses": {"loss": 2.0, "cl": 0.5},
        "images_per_second": 1.0,
        "seconds_left": 60 + 80,  # of this epoch, and of the third
        "device": "one GPU",
        "gpus": "3",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slurm_job": "17",
    }
    clock.now += 60
    view.epoch(1, metered(8), {"loss": 3.0}, rate=0.1)
    content = json.loads(path.read_text())
    assert (content["step"], content["losses"]) == (8, {"loss": 3.0})
    assert content["seconds_left"] == 80


def test_an_epoch_is_one_line(clock, capsys, tmp_path):
    view = Live(epochs=3, images=10, status=tmp_path / "status.json", device="cpu")
    view.begin()
    clock.now += 2
    view.epoch(0, metered(4), {"loss": 2.0, "cl": 0.5}, rate=0.1)
    assert capsys.readouterr().out == "epoch 1/3  loss 2.000  cl 0.500  20 img/s  4 s left\n"


def test_a_terminal_gets_a_bar_that_fits(clock, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    view = Live(epochs=3, images=10, status=tmp_path / "status.json", device="cpu")
    view.begin()
    for step in (1, 2, 3):
        clock.now += 0.6
        view.step(0, metered(step), steps=8)
    err = capsys.readouterr().err
    assert err.count("\r") == 1 and err.endswith("\033[K") and "\n" not in err
    assert "epoch 1/3 [#####-" in err and len(err.strip("\r\033[K")) == 59


def test_all_processes_but_the_first_are_silent(clock, capsys):
    view = Live(epochs=3, images=10, status=None, device="cpu")
    view.begin()
    clock.now += 1000
    view.step(0, metered(1), steps=8)
    view.epoch(0, metered(8), {"loss": 2.0}, rate=0.1)
    assert capsys.readouterr() == ("", "")


def test_a_shown_step_names_a_loss_that_is_not_finite(clock, tmp_path):
    view = Live(epochs=3, images=10, status=tmp_path / "status.json", device="cpu")
    view.begin()
    clock.now += 100
    meter = metered(2)
    meter.add({"loss": torch.tensor(float("nan")), "cl": torch.tensor(0.0)})
    with pytest.raises(UserError, match="epoch 1, step 3: loss = nan"):
        view.step(0, meter, steps=8)
    assert not (tmp_path / "status.json").exists()


def test_tensorboard_gets_every_epoch(clock, tmp_path, monkeypatch):
    made, points = [], []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            made.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            points.append((name, value, step))

        def flush(self):
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    folder = tmp_path / "tensorboard"
    view = Live(5, 10, tmp_path / "status.json", "cpu", tensorboard=folder)
    for epoch in (2, 3):  # a run that goes on after its second epoch
        view.begin()
        clock.now += 2
        view.epoch(epoch, metered(4), {"loss": 2.0}, rate=0.1)
    assert made == [(str(folder), 3)]
    assert ("loss", 2.0, 3) in points and ("learning_rate", 0.1, 4) in points
    assert len(points) == 6


def test_a_missing_tensorboard_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[tensorboard\]'"):
        Live(5, 10, tmp_path / "status.json", "cpu", tensorboard=tmp_path)
