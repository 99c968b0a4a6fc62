import itertools
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from pgfl.errors import UserError
from pgfl.methods.pgfl_kd.settings import Settings
from pgfl.networks.saved import load_student
from pgfl.nn.resnet import build_resnet
from pgfl.runtime.devices import device_name
from pgfl.runtime.files import file_hash
from pgfl.training import loop, stage
from pgfl.training.checkpoint import Resume, save_checkpoint
from pgfl.training.stage import Job, RunFiles, run_training

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "heatmaps.md"
OUTPUTS = ("model.safetensors", "branches.safetensors", "history.csv")


def bare_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def pretrained(recipe):
    """The same from ImageNet weights."""
    model = recipe.model.model_copy(update={"pretrained": True})
    return recipe.model_copy(update={"model": model})


def train(inputs, recipe, out, seed=0, workers=0):
    """Run the stage; its state lies below the run's folder."""
    run_training(
        inputs,
        recipe,
        seed,
        Job(RunFiles.in_folder(out), out / "state", threads=1, workers=workers),
    )
    return {name: (out / name).read_bytes() for name in OUTPUTS}


@pytest.fixture(scope="module")
def undisturbed(data, make_recipe, tmp_path_factory):
    """A run's folder, and the bytes of its outputs."""
    out = tmp_path_factory.mktemp("run")
    return out, train(data, make_recipe(), out)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(
    undisturbed, data, make_recipe, tmp_path
):
    torch.manual_seed(77)  # the state of the process must not matter
    assert train(data, make_recipe(), tmp_path, workers=2) == undisturbed[1]


def test_an_interrupted_run_ends_with_the_same_bytes(
    undisturbed, data, make_recipe, tmp_path, monkeypatch
):
    rate = loop.learning_rate

    def killed_in_the_second_epoch(settings, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        return rate(settings, epoch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "learning_rate", killed_in_the_second_epoch)
        train(data, make_recipe(), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "state" / "checkpoint.pt").is_file()
    epochs = []
    monkeypatch.setattr(loop, "learning_rate", lambda s, e: epochs.append(e) or rate(s, e))
    assert train(data, make_recipe(), tmp_path) == undisturbed[1]
    assert epochs == [1, 2]


def test_code_in_a_checkpoint_is_not_run_and_does_no_harm(
    undisturbed, data, make_recipe, tmp_path, trap
):
    bomb, marker = trap
    save_checkpoint(Resume(tmp_path / "state" / "checkpoint.pt", {"key": bomb}), [], {})
    assert train(data, make_recipe(), tmp_path) == undisturbed[1]
    assert not marker.exists()


def test_another_seed_gives_another_student(undisturbed, data, make_recipe, tmp_path):
    other = train(data, make_recipe(epochs=1), tmp_path, seed=1)
    assert other["model.safetensors"] != undisturbed[1]["model.safetensors"]


def test_of_the_state_only_the_finished_run_is_left_and_takes_no_space(undisturbed):
    out, _ = undisturbed
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    outputs = {*OUTPUTS, "provenance.json"}
    kept = {f"state/finished/{name}" for name in outputs}
    assert files == outputs | kept | {"state/finished/run.json"}
    assert all((out / name).samefile(out / "state/finished" / name) for name in outputs)


def test_the_very_same_run_is_taken_back_and_any_other_trained(
    undisturbed, data, make_recipe, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    shutil.copytree(undisturbed[0], out)
    for name in (*OUTPUTS, "provenance.json"):
        (out / name).unlink()
    rate, epochs = loop.learning_rate, []
    monkeypatch.setattr(loop, "learning_rate", lambda s, e: epochs.append(e) or rate(s, e))
    assert train(data, make_recipe(), out) == undisturbed[1]
    assert (out / "provenance.json").is_file() and epochs == []
    assert f"restored from {out / 'state/finished'}" in capsys.readouterr().out
    train(data, make_recipe(epochs=1), out)
    assert epochs == [0]


def test_the_history_has_a_row_for_each_epoch(undisturbed):
    history = pd.read_csv(undisturbed[0] / "history.csv")
    terms = [
        *("id_global", "triplet_global", "id_enhanced", "triplet_enhanced"),
        *("id_fused", "triplet_fused", "cl", "mcl"),
    ]
    assert list(history.columns) == ["epoch", "learning_rate", "loss", *terms, "gradient"]
    assert list(history["epoch"]) == [1, 2, 3]
    assert list(history["learning_rate"]) == pytest.approx([3.5e-4, 3.5e-4, 3.5e-5])
    assert list(history["loss"]) == pytest.approx(list(history[terms].sum(axis=1)), rel=1e-5)


def test_student_and_branches_part_the_network_between_them(undisturbed):
    out, _ = undisturbed
    student = safetensors.torch.load_file(out / "model.safetensors").keys()
    branches = safetensors.torch.load_file(out / "branches.safetensors").keys()
    assert {key.split(".")[0] for key in student} == {"backbone", "norm"}
    assert {key.split(".")[0] for key in branches} == {"part_branch", "necks", "branch_layer4"}
    assert "necks.global.classifier.weight" in branches
    assert not any(key.startswith("necks.global.norm") for key in branches)


def test_the_student_can_be_used(undisturbed, make_recipe):
    student, settings = load_student(undisturbed[0] / "model.safetensors")
    assert settings == make_recipe().model
    with torch.inference_mode():
        feature = student(torch.zeros(1, 64, 32, 3).byte())
    assert feature.shape == (1, 512) and feature.isfinite().all()


def test_provenance_says_what_the_run_was_made_of(undisturbed, data, make_recipe):
    content = json.loads((undisturbed[0] / "provenance.json").read_text())
    assert content["seed"] == 0 and content["identities"] == 4 and content["images"] == 16
    assert content["settings"] == make_recipe().model_dump(mode="json")
    assert content["data"] == {
        "manifest": file_hash(data.manifest),
        "heatmaps": file_hash(data.heatmaps),
    }


def test_a_baseline_starts_from_pretrained_weights_and_reads_no_heatmaps(
    data, make_recipe, tmp_path
):
    torch.manual_seed(3)
    weights = build_resnet("resnet18").state_dict()
    classifier = {"fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}
    path = tmp_path / "resnet18.pth"
    torch.save(weights | classifier, path)
    inputs = replace(data, heatmaps=None, pretrained=path)
    recipe = pretrained(make_recipe(baseline=True, epochs=1, learning_rate=1e-9))
    train(inputs, recipe, tmp_path / "run")
    student, _ = load_student(tmp_path / "run" / "model.safetensors")
    for name, parameter in student.backbone.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name], rtol=1e-4, atol=1e-7)
    content = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert set(content["data"]) == {"manifest", "pretrained"}


@pytest.mark.parametrize("write", [torch.save, bare_pickle])
def test_code_in_pretrained_weights_is_never_run(data, make_recipe, tmp_path, trap, write):
    bomb, marker = trap
    path = tmp_path / "resnet18.pth"
    write({"conv1.weight": bomb}, path)
    with pytest.raises(UserError, match=r"resnet18.pth: "):
        train(replace(data, pretrained=path), pretrained(make_recipe()), tmp_path / "run")
    assert not marker.exists() and list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"consistency": "literal"}, True),
        ({"consistency": "literal", "lambda_cl": 0}, False),
        ({"consistency": "literal", "lambda_cl": 0, "part_distillation": "consistency"}, True),
        ({"consistency": "mean"}, False),
    ],
)
def test_one_line_warns_of_a_term_that_drowns_the_others(
    data, make_recipe, tmp_path, capsys, settings, warned
):
    recipe = make_recipe().model_copy(update={"settings": Settings(**settings)})
    with pytest.raises(UserError, match="--heatmaps"):
        train(replace(data, heatmaps=None), recipe, tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("\n") == printed.count("drowns the other losses") == warned


def test_heatmaps_of_other_images_are_refused(data, make_recipe, tmp_path):
    table = pd.read_csv(data.manifest)
    table.iloc[::-1].to_csv(tmp_path / "manifest.csv", index=False)
    inputs = replace(data, manifest=tmp_path / "manifest.csv")
    with pytest.raises(UserError, match=r"row 0 is images/00.png, the manifest has"):
        train(inputs, make_recipe(), tmp_path / "run")


def test_a_pretrained_recipe_does_not_start_from_random_weights(data, make_recipe, tmp_path):
    with pytest.raises(UserError, match="--pretrained: this recipe starts from ImageNet weights"):
        train(data, pretrained(make_recipe()), tmp_path)


def test_weights_that_a_recipe_does_not_start_from_are_refused(data, make_recipe, tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(build_resnet("resnet18").state_dict(), path)
    with pytest.raises(
        UserError, match=r"--pretrained .*resnet18\.pth: this recipe starts from no"
    ):
        train(replace(data, pretrained=path), make_recipe(), tmp_path / "run")


def test_a_run_of_another_precision_is_another_run(data, make_recipe, tmp_path, monkeypatch):
    recipe = make_recipe(precision="auto")
    for native in (True, False):
        monkeypatch.setattr(
            "pgfl.runtime.devices.native_bf16", lambda device, native=native: native
        )
        identity = stage._identity(data, recipe, seed=0)
        assert identity["precision"] == ("bf16-mixed" if native else "32-true")


def test_training_in_fp16_counts_the_steps_that_it_left_out(data, make_recipe, tmp_path):
    # Processors emulate fp16, a hundred times slower: one epoch of tiny images.
    recipe = make_recipe(baseline=True, precision="fp16", epochs=1, identities=4)
    small = recipe.model.model_copy(update={"height": 32, "width": 16})
    train(data, recipe.model_copy(update={"model": small}), tmp_path)
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history.columns[-2:]) == ["gradient", "skipped"]
    assert json.loads((tmp_path / "provenance.json").read_text())["precision"] == "16-mixed"


def test_a_stopped_run_leaves_its_status(data, make_recipe, tmp_path, monkeypatch):
    rate = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda s, epoch: [rate(s, 0)][epoch])
    with pytest.raises(IndexError):
        train(data, make_recipe(), tmp_path)
    status = json.loads((tmp_path / "state" / "status.json").read_text())
    assert (status["epoch"], status["epochs"]) == (1, 3)
    assert status["device"] == device_name(torch.device("cpu"))
    assert status["step"] == status["steps"] >= 4


def test_a_shared_last_stage_goes_with_the_student(data, make_recipe, tmp_path):
    recipe = make_recipe(epochs=1)
    settings = recipe.settings.model_copy(update={"second_layer4": "shared"})
    train(data, recipe.model_copy(update={"settings": settings}), tmp_path)
    load_student(tmp_path / "model.safetensors")
    branches = safetensors.torch.load_file(tmp_path / "branches.safetensors").keys()
    assert {key.split(".")[0] for key in branches} == {"part_branch", "necks"}


def test_too_few_identities_stop_the_run(data, make_recipe, tmp_path):
    with pytest.raises(UserError, match=r"training.identities: 5"):
        train(data, make_recipe(identities=5), tmp_path / "run")


def test_a_recipe_with_branches_says_that_it_needs_heatmaps(data, make_recipe, tmp_path):
    inputs = replace(data, heatmaps=None)
    with pytest.raises(UserError, match="--heatmaps: this recipe's branches need"):
        train(inputs, make_recipe(), tmp_path)


def test_heatmaps_written_by_the_documents_script_train(data, make_recipe, undisturbed, tmp_path):
    """Another estimator's file, made with nothing but docs/heatmaps.md at hand."""
    (script,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    shutil.copy(data.manifest, tmp_path / "manifest.csv")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    foreign = replace(data, heatmaps=tmp_path / "train.h5")
    outputs = train(foreign, make_recipe(epochs=1), tmp_path / "run")
    assert outputs["model.safetensors"] != undisturbed[1]["model.safetensors"]
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert np.isfinite(history.to_numpy()).all() and len(history) == 1


def test_a_full_disk_loses_one_epoch_and_is_one_line(
    command_line, undisturbed, data, make_recipe, tmp_path, small_disk
):
    """The first checkpoint fits, the second one does not."""
    disk = small_disk("380m")
    command = command_line(data, make_recipe(), tmp_path, disk / "state")
    full = subprocess.run(command, capture_output=True, text=True)
    assert full.returncode == 1, full.stderr
    assert full.stderr.splitlines()[-1] == (
        f"error: {disk}/state/checkpoint.pt: No space left on device; free some space, then run "
        "the same command again"
    )
    assert "Traceback" not in full.stderr
    assert [path.name for path in (disk / "state").glob("*.pt")] == ["checkpoint.pt"]
    small_disk("1200m", disk)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "going on after epoch 1 of 3" in again.stdout
    assert {name: (tmp_path / name).read_bytes() for name in OUTPUTS} == undisturbed[1]


@pytest.mark.parametrize(("damage", "both"), [("cut", False), ("flipped", True)])
def test_a_damaged_checkpoint_costs_an_epoch_and_changes_nothing(
    undisturbed, data, make_recipe, tmp_path, monkeypatch, capsys, damage, both
):
    rate = loop.learning_rate
    with monkeypatch.context() as patch, pytest.raises(IndexError):
        patch.setattr(loop, "learning_rate", lambda s, epoch: [rate(s, 0), rate(s, 1)][epoch])
        train(data, make_recipe(), tmp_path)
    state = tmp_path / "state"
    for name in ["checkpoint.pt", "checkpoint.previous.pt"][: 1 + both]:
        content = bytearray((state / name).read_bytes())
        half = len(content) // 2
        content[half] ^= 1
        (state / name).write_bytes(content if damage == "flipped" else content[:half])
    capsys.readouterr()
    assert train(data, make_recipe(), tmp_path) == undisturbed[1]
    said = capsys.readouterr().out
    assert "checkpoint.pt is damaged (its checksum is wrong)" in said
    assert ("starting again from epoch 1" in said) == both
    assert ("going on after epoch 1 of 3" in said) != both


def test_a_second_process_does_not_train_the_same(data, make_recipe, tmp_path, monkeypatch):
    code = "import sys; from pathlib import Path; from pgfl.runtime.locks import locked\n"
    code += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "state")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr("pgfl.runtime.locks.PATIENCE", 0)
        with pytest.raises(UserError, match=f"state is in use by process {holder.pid} on "):
            train(data, make_recipe(), tmp_path)
        holder.stdin.close()


def test_the_processes_of_a_run_end_with_the_one_that_started_them(
    command_line, data, make_recipe, tmp_path
):
    """Also where Ctrl-C is ignored, as below `snakemake &` in a script."""
    recipe = make_recipe(baseline=True, epochs=500)
    command = [*command_line(data, recipe, tmp_path, tmp_path / "state"), "--devices", "2"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with subprocess.Popen(command, preexec_fn=ignore, **options) as process:
        assert process.stdout.readline().startswith("epoch 1/500")
        process.kill()
        began = time.monotonic()
        process.stdout.read()  # ends with the last process that could write to it
        assert time.monotonic() - began < 30


KILLS = int(os.environ.get("PGFL_KILLS", "2"))


def test_kills_at_random_moments_lose_at_most_the_epoch_at_work(
    command_line, data, make_recipe, tmp_path
):
    """Real processes, kill -9; an epoch that was said to be done is never computed again."""
    recipe = make_recipe(baseline=True, epochs=3 + 2 * KILLS)
    whole = train(data, recipe, tmp_path / "whole")
    moments, done = random.Random(0), 0
    out = tmp_path / "killed"
    command = command_line(data, recipe, out, out / "state")
    for kill in range(KILLS + 1):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            going_on = process.stdout.readline() if done else ""
            assert not done or int(going_on.split()[4]) >= done, going_on
            if kill == KILLS:
                process.communicate()
                break
            for line in itertools.islice(process.stdout, moments.randint(1, 2)):
                done = int(re.match(r"epoch (\d+)/", line)[1])
            time.sleep(moments.uniform(0, 0.5))
            process.kill()
        assert process.returncode == -signal.SIGKILL
    assert process.returncode == 0
    assert {name: (out / name).read_bytes() for name in OUTPUTS} == whole
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    outputs = {*OUTPUTS, "provenance.json"}
    kept = {f"state/finished/{name}" for name in outputs | {"run.json"}}
    assert files == outputs | kept


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN or infinity"), (-1.0, "negative"), (2.0, r"more than 0\.001 from one")],
)
def test_maps_with_impossible_values_are_refused_before_an_epoch(
    data, make_recipe, tmp_path, value, message
):
    wrong = tmp_path / "train.h5"
    shutil.copy(data.heatmaps, wrong)
    with h5py.File(wrong, "r+") as file:
        file["affine"][5, 2, 0] = value
    with wrong.open("r+b") as file:
        file.write(bytes(512))  # changed on purpose
    match = rf"train\.h5: .*{message}.*: 1 images, the first is row 5: images/05\.png"
    with pytest.raises(UserError, match=match) as caught:
        train(replace(data, heatmaps=wrong), make_recipe(), tmp_path / "run")
    assert "learning_rate" not in str(caught.value)
