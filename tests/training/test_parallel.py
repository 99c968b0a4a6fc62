import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from pgfl.config.recipe import Recipe, nested
from pgfl.errors import UserError
from pgfl.networks.saved import load_student
from pgfl.training import loop, parallel
from pgfl.training.parallel import SyncedBatchNorm, make_fabric, synchronise_norms
from pgfl.training.stage import Job, RunFiles, run_training

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import sys
from pathlib import Path

import torch
from lightning_fabric import seed_everything

from pgfl.networks.build import build_network
from pgfl.nn.batch import Batch
from pgfl.config.recipe import Recipe
from pgfl.training.checkpoint import Resume
from pgfl.training.data import EpochSampler
from pgfl.training.live import Live
from pgfl.training.loop import fit
from pgfl.training.parallel import make_fabric, synchronise_norms

# In float64 throughout: rounding can flip a ReLU, which is a step in its gradient.
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
torch.set_num_threads(1)
recipe, folder = Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[3])
fabric = make_fabric(int(sys.argv[2]), "32-true")
fabric.launch()
seed_everything(0, verbose=False)
model = build_network(recipe, 6)
if fabric.world_size > 1:
    synchronise_norms(model, fabric.device)
labels = torch.arange(6).repeat_interleave(2)
images = torch.randint(256, (12, 64, 32, 3)).byte()
maps = torch.rand(12, 8, 8, 4).flatten(2).softmax(2).view(12, 8, 8, 4)
sampler = EpochSampler(labels.tolist(), recipe, 0, fabric.global_rank, fabric.world_size)
parts = [[row for row, _ in part] for part in sampler]
batches = [Batch(images[part], labels[part], labels[part], maps[part]) for part in parts]
resume, live = Resume(folder / "checkpoint.pt", {}), Live(2, 12, None, "cpu")
history = fit(model, batches, sampler, recipe, fabric, resume, live)
if fabric.is_global_zero:
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    torch.save([history, gradients, model.state_dict()], folder / "found.pt")
"""


@pytest.fixture
def trained(tmp_path):
    """Train two steps of six identities, several processes by torchrun.

    Gives the history, the gradients of the last step and the state dict.
    """

    def train(devices, method, accumulate):
        training = {"epochs": 2, "identities": 6, "images": 2, "precision": "fp32"}
        size = {"backbone": "resnet18", "pretrained": False, "height": 64, "width": 32}
        recipe = Recipe.parse(
            nested(method) | {"model": size, "training": training | {"accumulate": accumulate}}
        )
        folder = tmp_path / str(devices)
        folder.mkdir()
        (folder / "run.py").write_text(RUN)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", devices]
        command = [*(torchrun if devices > 1 else []), folder / "run.py"]
        done = python(*command, recipe.model_dump_json(), devices, folder)
        assert done.returncode == 0, done.stderr
        return torch.load(folder / "found.pt", weights_only=True)

    return train


def python(*arguments):
    """Run Python with one thread a process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.parametrize(
    ("method", "accumulate"),
    [
        ({}, 1),
        ({"reid_on": ["global", "part"], "lambda_cl": 0}, 3),
        ({"method": "pcb"}, 1),
    ],
    ids=["whole method", "in parts", "pcb"],
)
def test_two_processes_compute_what_one_does(trained, method, accumulate):
    ours, gradients, state = trained(2, method, accumulate)
    theirs, expected, expected_state = trained(1, method, accumulate)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).norm() <= 1e-6 * expected[name].norm(), name
    for name, value in state.items():
        torch.testing.assert_close(value, expected_state[name], rtol=1e-6, atol=1e-6, msg=name)
    assert len(ours) == 2
    for row, expected_row in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-8)


def test_a_run_on_two_devices_writes_the_files_of_one(data, make_recipe, tmp_path):
    settings = tmp_path / "settings.json"
    settings.write_text(make_recipe(epochs=1).model_dump_json())
    out = tmp_path / "run"
    options = ["--out", out, "--state", out / "state", "--heatmaps", data.heatmaps]
    options += ["--settings", settings, "--threads", 2, "--workers", 1, "--devices", 2]
    done = python("-m", "pgfl", "train", data.manifest, *options)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1  # one process speaks
    files = sorted(path.name for path in out.glob("*") if path.is_file())
    assert files == [
        *("branches.safetensors", "history.csv", "model.safetensors", "provenance.json")
    ]
    assert json.loads((out / "provenance.json").read_text())["devices"] == 2
    assert len(pd.read_csv(out / "history.csv")) == 1
    student, _ = load_student(out / "model.safetensors")
    assert type(student.norm) is nn.BatchNorm1d


def test_a_run_goes_on_with_other_devices(data, make_recipe, tmp_path, monkeypatch):
    """Begun by one process, ended by two; the file says which epochs were whose."""
    recipe, out = make_recipe(baseline=True, epochs=2), tmp_path / "run"
    rate = loop.learning_rate
    with monkeypatch.context() as patch, pytest.raises(IndexError):
        patch.setattr(loop, "learning_rate", lambda s, epoch: [rate(s, 0)][epoch])
        job = Job(RunFiles.in_folder(out), out / "state", threads=1, workers=0)
        run_training(replace(data, heatmaps=None), recipe, 0, job)
    options = ["--out", out, "--state", out / "state", "--settings", recipe.model_dump_json()]
    options += ["--threads", 2, "--workers", 0, "--devices", 2]
    done = python("-m", "pgfl", "train", data.manifest, *options)
    assert done.returncode == 0, done.stderr
    assert "going on after epoch 1 of 2" in done.stdout
    assert "note: devices was 1 and is 2; threads was 1 and is 2: from here" in done.stdout
    parts = json.loads((out / "provenance.json").read_text())["computed_on"]
    found = [(part["from_epoch"], part["devices"], part["threads"]) for part in parts]
    assert found == [(1, 1, 1), (2, 2, 2)]
    assert len(pd.read_csv(out / "history.csv")) == 2


def test_what_a_process_reports_stays_one_line(data, make_recipe, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "manifest.csv").write_text(data.manifest.read_text())
    inputs = replace(data, manifest=tmp_path / "manifest.csv")
    with pytest.raises(UserError, match=r"\.png: cannot be read") as caught:
        job = Job(
            RunFiles.in_folder(tmp_path / "out"),
            tmp_path / "state",
            threads=2,
            workers=0,
            devices=2,
        )
        run_training(inputs, make_recipe(), 0, job)
    assert "\n" not in str(caught.value)


def test_identities_that_cannot_be_dealt_are_one_line(data, make_recipe, tmp_path):
    job = Job(
        RunFiles.in_folder(tmp_path / "out"), tmp_path / "state", threads=2, workers=0, devices=3
    )
    with pytest.raises(UserError, match=r"training.identities: 2 .* dealt evenly to 3 devices"):
        run_training(data, make_recipe(), 0, job)


def test_torchruns_processes_must_be_as_many_as_the_devices(monkeypatch):
    for name, value in {"WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 4, "LOCAL_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("GROUP_RANK", "0")
    with pytest.raises(UserError, match="--devices 2: torchrun started 4 processes"):
        make_fabric(2, "32-true")


def test_more_gpus_than_there_are_is_one_line(monkeypatch):
    monkeypatch.setattr(parallel, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="--devices 2: this machine has 1"):
        make_fabric(2, "32-true")


def test_norms_become_synchronised_and_stay_shared():
    norm = nn.BatchNorm1d(3)
    model = nn.Sequential(norm, nn.Linear(3, 3), nn.ModuleDict({"again": norm}), nn.BatchNorm2d(3))
    keys = model.state_dict().keys()
    synchronise_norms(model, torch.device("cpu"))
    assert type(model[0]) is type(model[3]) is SyncedBatchNorm
    assert model[0] is model[2]["again"] and model.state_dict().keys() == keys
    synchronise_norms(model, torch.device("cpu"))  # again changes nothing


def test_a_norm_of_another_kind_is_refused():
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(UserError, match="Own of this backbone cannot be synchronised"):
        synchronise_norms(nn.Sequential(Own(3)), torch.device("cpu"))


@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 3, 2)])
def test_a_synchronised_norm_is_batch_normalisation(monkeypatch, shape):
    monkeypatch.setattr(parallel.Sum, "apply", lambda tensor: tensor)
    monkeypatch.setattr(parallel.distributed, "get_world_size", lambda: 1)
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    torch.manual_seed(0)
    ours, theirs = kind(5), kind(5)
    synchronise_norms(nn.Sequential(ours), torch.device("cpu"))
    for x in torch.randn(2, *shape):
        found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
        weights = torch.randn(shape)
        for norm, tensor in ((ours, found), (theirs, expected)):
            (norm(tensor) * weights).sum().backward()
        torch.testing.assert_close(ours(found), theirs(expected))
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
