"""Weights of HRNet as they lie about: written by MMEngine, published by MMPose, older, wrong."""

import logging
import os
import re
import subprocess
import sys
import time
import warnings
import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pgfl.errors import UserError
from pgfl.nn.resnet import build_resnet
from pgfl.pose.estimators import SMALL_WEIGHTS
from pgfl.pose.hrnet import PoseNetwork, load_estimator, ready
from pgfl.untrusted.weights import read_state

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


COCO = "configs/_base_/datasets/coco.py"
ADAM = {"type": "Adam", "lr": 1e-3}
MOMENTUM = {"type": "SGD", "lr": 1e-3, "momentum": 0.9}  # Adam is NaN in half precision


class Drawn(torch.utils.data.Dataset):
    """Two random crops with heatmaps, in MMPose's form and with COCO's own metainfo."""

    def __init__(self):
        from mmpose.datasets.datasets.utils import parse_pose_metainfo

        self.metainfo = parse_pose_metainfo({"from_file": COCO})

    def __len__(self):
        return 2

    def __getitem__(self, index):
        from mmengine.structures import InstanceData, PixelData
        from mmpose.structures import PoseDataSample

        random = torch.Generator().manual_seed(index)
        sample = PoseDataSample()
        sample.gt_fields = PixelData(heatmaps=torch.rand((17, 16, 16), generator=random))
        sample.gt_instance_labels = InstanceData(keypoint_weights=torch.ones(1, 17))
        pixels = torch.randint(0, 256, (3, 64, 64), generator=random, dtype=torch.uint8)
        return {"inputs": pixels, "data_samples": sample}


def write_checkpoint(
    network: nn.Module, folder: Path, *, half: bool = False, train: bool = True
) -> Path:
    """A checkpoint of a runner: weights, optimizer, scheduler, message hub and metainfo.

    Args:
        network: an MMPose estimator; `train` changes its weights.
        folder: the runner's.
        half: in half precision.
        train: for one epoch, else only the head is trained, by one step without gradients.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mmengine.runner import Runner

        if not train:
            network.backbone.requires_grad_(False)
        network = network.half() if half else network
        runner = Runner(
            model=network,
            work_dir=str(folder),
            train_dataloader={
                "dataset": Drawn(),
                "batch_size": 2,
                "num_workers": 0,
                "sampler": {"type": "DefaultSampler", "shuffle": False},
                "collate_fn": {"type": "pseudo_collate"},
            },
            train_cfg={"by_epoch": True, "max_epochs": 1},
            optim_wrapper={"optimizer": ADAM if train else MOMENTUM},
            param_scheduler=[{"type": "MultiStepLR", "milestones": [1], "by_epoch": True}],
            custom_hooks=[{"type": "EMAHook"}] if train else None,
            default_scope="mmengine",
            experiment_name=folder.name,
            log_level=logging.ERROR,
        )
        if train:
            runner.train()
            return folder / "epoch_1.pth"
        runner.message_hub.update_scalar("train/loss", 0.5)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        for parameter in network.head.parameters():
            parameter.grad = torch.zeros_like(parameter)
        runner.optim_wrapper.step()
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
        runner.save_checkpoint(str(folder), "epoch_1.pth")
        return folder / "epoch_1.pth"


def maps_of(network, size=64):
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    with torch.inference_mode():
        return network(torch.from_numpy(pixels))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small HRNet after an epoch of MMEngine's, and the file that its hook wrote."""
    torch.manual_seed(0)
    model = PoseNetwork("hrnet_small")
    model.network.load_state_dict(safetensors.torch.load_file(SMALL_WEIGHTS))
    path = write_checkpoint(model.network, tmp_path_factory.mktemp("small"))
    return model, path


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory):
    """The same by MMPose's tool: without optimizer, in torch's old format, a hash in its name."""
    import mmpose

    folder = tmp_path_factory.mktemp("published")
    tool = Path(mmpose.__file__).parent / ".mim/tools/misc/publish_model.py"
    command = [sys.executable, str(tool), str(trained[1]), str(folder / "small.pth")]
    # The tool is older than torch's refusal to unpickle; the file is our own.
    environment = os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    for _ in range(100):  # the tool does not wait for its own `mv`
        if found := list(folder.glob("small-????????_*.pth")):
            return found[0]
        time.sleep(0.1)
    raise AssertionError(list(folder.iterdir()))


def test_the_files_are_what_people_have(trained, published):
    """They hold what torch's own safe loading refuses, as published files do."""
    for path in (trained[1], published):
        with pytest.raises(Exception, match="Weights only load failed"):
            torch.load(path, weights_only=True)
    content = torch.load(trained[1], weights_only=False)
    assert {"optimizer", "param_schedulers", "message_hub", "ema_state_dict"} <= content.keys()
    assert content["optimizer"]["state"]
    assert type(content["meta"]["dataset_meta"]["sigmas"]) is np.ndarray
    histories = content["message_hub"]["log_scalars"].values()
    assert "HistoryBuffer" in {type(each).__name__ for each in histories}
    assert not zipfile.is_zipfile(published)


def test_a_checkpoint_of_mmengine_gives_the_maps_of_its_weights(trained, published, capsys):
    _, path = trained
    direct = PoseNetwork("hrnet_small")
    # With EMAHook MMEngine saves the averaged weights under state_dict.
    weights = torch.load(path, weights_only=False)["state_dict"]
    direct.network.load_state_dict(weights)
    wanted = maps_of(ready(direct))
    assert torch.equal(maps_of(load_estimator("hrnet_small", path)), wanted)
    assert torch.equal(maps_of(load_estimator("hrnet_small", published)), wanted)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["hrnet_w32", "hrnet_w48"])
def test_large_checkpoints_of_mmengine_do_too(name, tmp_path):
    """Seconds: 28 and 64 million parameters, in half precision 57 and 127 MB."""
    torch.manual_seed(0)
    model = PoseNetwork(name)
    path = write_checkpoint(model.network, tmp_path, half=True, train=False)
    found = load_estimator(name, path)
    path.unlink()
    # Half precision is what was written; the maps are made in single precision by both.
    assert torch.equal(maps_of(found), maps_of(ready(model.float())))


# Names ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return safetensors.torch.load_file(SMALL_WEIGHTS)


@pytest.fixture(scope="module")
def wanted():
    return maps_of(load_estimator("hrnet_small", SMALL_WEIGHTS))


def prefixed(prefix):
    return lambda state: {prefix + key: value for key, value in state.items()}


def renamed(pattern, by):
    return lambda state: {re.sub(pattern, by, key): value for key, value in state.items()}


def preprocessing(mean, std, name="data_preprocessor.{}"):
    return {name.format("mean"): mean, name.format("std"): std}


KNOWN = {
    "DataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "both": prefixed("_orig_mod.module."),
    "compiled part": renamed(r"^backbone\.", "backbone._orig_mod."),
    "Lightning": lambda state: {"state_dict": prefixed("model.")(state), "epoch": 3},
    "nested twice": lambda state: {"model": {"state_dict": state}},
    "net": lambda state: {"net": state, "optimizer": {"state": {}}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "MMPose 0.x": renamed(r"^head\.", "keypoint_head."),
    "HRNet's authors": renamed(r"^(backbone|head)\.", ""),
    "HRNet's authors, DataParallel": lambda state: prefixed("module.")(
        KNOWN["HRNet's authors"](state)
    ),
    "buffers": lambda state: state | preprocessing(MEAN.view(3, 1, 1), STD.view(3, 1, 1)),
    "buffers in half": lambda state: state | preprocessing(MEAN.half(), STD.half()),
    "buffers from 0 to 1": lambda state: state | preprocessing(MEAN / 255, STD / 255),
    "pixel buffers": lambda state: state | preprocessing(MEAN, STD, "pixel_{}"),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("way", KNOWN)
def test_common_names_are_found(way, legacy, small, wanted, tmp_path, capsys):
    path = tmp_path / "a.pth"
    torch.save(KNOWN[way](small), path, _use_new_zipfile_serialization=not legacy)
    assert torch.equal(maps_of(load_estimator("hrnet_small", path)), wanted)
    assert capsys.readouterr().out == ""


def test_what_lies_beside_the_network_is_left_out_and_said(small, wanted, tmp_path, capsys):
    path = tmp_path / "a.pth"
    torch.save(prefixed("net.")(small) | {"loss.weight": torch.ones(1)}, path)
    assert torch.equal(maps_of(load_estimator("hrnet_small", path)), wanted)
    assert capsys.readouterr().out == f"note: {path}: used is what lies under net.; not loss\n"


def test_two_networks_in_a_file_are_not_chosen_from(small, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(prefixed("student.")(small) | prefixed("teacher.")(small), path)
    with pytest.raises(UserError, match=r"2 networks that fit hrnet_small, under student\., teac"):
        load_estimator("hrnet_small", path)


def test_averaged_weights_beside_the_others_are_left_out_and_said(small, wanted, tmp_path, capsys):
    path = tmp_path / "a.pth"
    torch.save({"model": small, "model_ema": {k: v * 0 for k, v in small.items()}}, path)
    assert torch.equal(maps_of(load_estimator("hrnet_small", path)), wanted)
    assert capsys.readouterr().out == f"note: {path}: its 'model' is used, its model_ema is not\n"


@pytest.mark.parametrize(
    ("buffers", "said"),
    [
        (
            preprocessing(MEAN.flip(0), STD.flip(0)),
            "its data_preprocessor.mean is [103.53, 116.28, 123.675] (BGR?), but hrnet_small is "
            "fed here with mean [123.675, 116.28, 103.53] (RGB)",
        ),
        (preprocessing(MEAN, torch.ones(3)), "its data_preprocessor.std is [1, 1, 1], but"),
        (
            preprocessing(MEAN - 0.6, STD),
            "its data_preprocessor.mean is [123.075, 115.68, 102.93]",
        ),
        (
            preprocessing(torch.full((1,), 127.5), STD),
            "its data_preprocessor.mean is [127.5], but",
        ),
        (preprocessing(MEAN * np.nan, STD, "pixel_{}"), "its pixel_mean is [nan, nan, nan], but"),
    ],
)
def test_other_preprocessing_is_refused_with_both_values(buffers, said, small, tmp_path):
    torch.save(small | buffers, tmp_path / "a.pth")
    with pytest.raises(UserError) as caught:
        load_estimator("hrnet_small", tmp_path / "a.pth")
    assert said in str(caught.value)


# Wrong files ------------------------------------------------------------------------------------


def zeros_for(name):
    """A whole network's state in a small file: its tensors share their zeros."""
    with torch.device("meta"):
        state = PoseNetwork(name).network.state_dict()
    zeros = torch.zeros(max(value.numel() for value in state.values()))
    return {key: zeros[: value.numel()].view(value.shape) for key, value in state.items()}


def refusal(state, path, estimator="hrnet_small"):
    if isinstance(state, bytes):
        path.write_bytes(state)
    else:
        torch.save(state, path)
    with pytest.raises(UserError) as caught:
        load_estimator(estimator, path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_another_head_or_width_is_named(small, tmp_path):
    wholebody = small | {
        "head.final_layer.weight": torch.zeros(133, 16, 1, 1),
        "head.final_layer.bias": torch.zeros(133),
    }
    said = refusal(wholebody, tmp_path / "a.pth")
    assert said == (
        ": does not fit hrnet_small: it seems to be an HRNet-W16 with a head for 133 keypoints; "
        "of another shape: head.final_layer.bias, head.final_layer.weight"
    )
    headless = {key: value for key, value in small.items() if not key.startswith("head.")}
    said = refusal(headless, tmp_path / "a.pth")
    assert "it seems to be an HRNet-W16 without a pose head; missing: head.final_layer" in said
    said = refusal(headless | {"incre_modules.0.weight": torch.ones(1)}, tmp_path / "a.pth")
    assert "it seems to be an HRNet-W16 for classification; missing: " in said


def test_another_estimators_weights_are_named(tmp_path):
    said = refusal(zeros_for("hrnet_w32"), tmp_path / "a.pth", "hrnet_w48")
    assert said.startswith(
        ": does not fit hrnet_w48: it seems to be an HRNet-W32 with a head for 17 keypoints; "
        "of another shape: "
    )
    assert len(said) < 600 and said.count(",") == 10


def test_weights_of_a_reid_network_are_named(tmp_path):
    torch.manual_seed(0)
    net = nn.ModuleDict({"base": build_resnet("resnet50"), "classifier": nn.Linear(2048, 751)})
    path = tmp_path / "resnet50_market.pth.tar"
    torch.save({"state_dict": net.state_dict(), "epoch": 60, "rank1": np.float64(0.94)}, path)
    with pytest.raises(UserError) as caught:
        load_estimator("hrnet_small", path)
    assert (
        f"{path}: does not fit hrnet_small: it seems to be a ResNet-50 with a classifier of 751 "
        "classes; missing: " in str(caught.value)
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_no_numbers_are_named(small, tmp_path, value):
    state = deepcopy(small)
    state["backbone.layer1.0.conv1.weight"][0, 0, 0, 0] = value
    said = refusal(state, tmp_path / "a.pth")
    assert said == (
        ": NaN or infinite values in backbone.layer1.0.conv1.weight: its training failed or the "
        "file is damaged; take an earlier checkpoint or download it again"
    )


def test_weights_in_integers_are_refused(small, tmp_path):
    said = refusal(
        {key: (value * 100).to(torch.int8) for key, value in small.items()}, tmp_path / "a"
    )
    assert "not of floating point: backbone.bn1.bias" in said


def test_the_state_read_is_what_was_trained(trained):
    model, path = trained
    state = read_state(path)
    assert state.keys() == model.network.state_dict().keys()
