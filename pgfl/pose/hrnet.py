"""HRNet by MMPose: one interface to W48, W32 and our small one."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pgfl.errors import UserError
from pgfl.pose.estimators import ESTIMATORS
from pgfl.pose.settings import Estimator
from pgfl.pose.views import View
from pgfl.runtime.devices import half_precision
from pgfl.untrusted.weights import Layout, load_foreign, read_state

HERE = Path(__file__).resolve().parent

DIALECTS = (
    {},  # MMPose 1.x
    {"head.": "keypoint_head."},  # MMPose 0.x
    {"backbone.": "", "head.": ""},  # HRNet's authors: `pose_hrnet_w48_256x192.pth`
)
"""How weights of HRNet for COCO's keypoints name their tensors."""


class PoseNetwork(nn.Module):
    """An MMPose top-down estimator from uint8 crops to raw heatmaps."""

    def __init__(self, estimator: Estimator):
        super().__init__()
        config = _read_config(ESTIMATORS[estimator].config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mmcv-lite says at import what it does without
            from mmengine.registry import DefaultScope
            from mmpose.models import build_pose_estimator

            with DefaultScope.overwrite_default_scope("mmpose"):
                self.network = build_pose_estimator(config.model)
        test_settings = config.model.get("test_cfg") or {}
        self.shift_flipped: bool = test_settings.get("shift_heatmap", False)
        """Whether its flip test moves the mirrored maps by a cell."""
        preprocessing = config.model.data_preprocessor
        for name in ("mean", "std"):
            values = torch.tensor(preprocessing[name]).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Raw keypoint heatmaps, about 1 at a keypoint and 0 elsewhere.

        Args:
            images: uint8 (N, H, W, 3), RGB; H and W multiples of 32.

        Returns:
            (N, 17, H/4, W/4), COCO order.
        """
        pixels = images.permute(0, 3, 1, 2).float()
        pixels = (pixels - self.mean) / self.std
        features = self.network.extract_feat(pixels.contiguous(memory_format=torch.channels_last))
        return self.network.head.forward(features)


def load_estimator(estimator: Estimator, weights: Path) -> PoseNetwork:
    """An estimator ready to run.

    Args:
        estimator: a key of `ESTIMATORS`.
        weights: a .safetensors or .pth file of MMPose or of HRNet's authors, loaded strictly and
            without running code in it.

    Raises:
        UserError: the file is missing, no weights file, does not fit the architecture or its
            preprocessing, or holds NaN or infinite values.
    """
    model = PoseNetwork(estimator)
    mean, std = (tuple(values.flatten().tolist()) for values in (model.mean, model.std))
    layout = Layout(estimator, mean, std, DIALECTS)
    load_foreign(model.network, read_state(weights), weights, layout)
    return ready(model)


def ready(model: PoseNetwork) -> PoseNetwork:
    """For inference only: normalisations folded into the convolutions, channels last in memory.

    A sixth faster on a CPU; the maps change by rounding alone.
    """
    from mmcv.cnn import fuse_conv_bn

    # MMPose's HRNet.train() returns nothing, so eval() must not be chained.
    model.eval()
    model.network = fuse_conv_bn(model.network)
    return model.to(memory_format=torch.channels_last)


@torch.inference_mode()
def estimate(
    network: PoseNetwork,
    view: View,
    inputs: Tensor,
    shapes: np.ndarray,
    *,
    flip_test: bool = False,
    precision: str = "fp32",
) -> Tensor:
    """Raw keypoint maps in the frame of the crops.

    Args:
        network: ready to run.
        view: what prepared the inputs.
        inputs: uint8 (N, H, W, 3) on the network's device.
        shapes: the crops' own (height, width), (N, 2).
        flip_test: average with what the network says of the mirrored inputs.
        precision: `auto`, `fp32` or `half`.

    Returns:
        float32 (N, 17, h, w).
    """
    with half_precision(inputs.device, precision):
        maps = network(inputs).float()
        if flip_test:
            maps = view.averaged(maps, network(inputs.flip(2)).float())
    return view.restored(maps, shapes)


def _read_config(name: str):  # noqa: ANN202 (mmengine's Config is untyped)
    import mmpose
    from mmengine.config import Config

    shipped = Path(mmpose.__file__).parent / ".mim/configs/body_2d_keypoint/topdown_heatmap/coco"
    for folder in (HERE / "configs", shipped):
        if (folder / name).is_file():
            return Config.fromfile(folder / name)
    raise UserError(f"MMPose configuration {name} was not found in {shipped}; reinstall mmpose")
