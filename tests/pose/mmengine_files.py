"""Checkpoints of HRNet as MMEngine's own runner writes them while MMPose trains."""

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

COCO = "configs/_base_/datasets/coco.py"


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
            optim_wrapper={"optimizer": {"type": "Adam", "lr": 1e-3}},
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
