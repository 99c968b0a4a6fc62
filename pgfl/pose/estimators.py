"""The estimators: which MMPose architecture, which weights."""

from dataclasses import dataclass
from pathlib import Path

from pgfl.pose.settings import Estimator
from pgfl.untrusted.obtain import Source

OPENMMLAB = "https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco/"


@dataclass(frozen=True)
class EstimatorSpec:
    """Where an estimator's architecture and weights come from."""

    config: str
    """An MMPose configuration: ours below `configs/`, else one that MMPose ships."""
    weights: Source
    input_size: tuple[int, int]
    """(height, width) in pixels that it was trained on."""
    centre: float = 0.0
    """Cell i of a map speaks of pixel 4 * i + `centre` of the input. MMPose's heatmaps are
    trained with 0; the middle of the four pixels is 1.5."""


def _openmmlab(name: str) -> Source:
    # OpenMMLab ends a file's name with the first eight digits of its sha256 and a date.
    digest = name.split("-")[-1].split("_")[0]
    return Source(
        name,
        checksum=f"sha256:{digest}",
        url=OPENMMLAB + name,
        note="It holds HRNet's COCO weights, from MMPose's model zoo.",
    )


_PUBLISHED: dict[Estimator, tuple[str, str]] = {
    "hrnet_w32": ("hrnet-w32_8xb64-210e_coco-384x288", "ca5956af_20220909"),
    "hrnet_w48": ("hrnet-w48_8xb32-210e_coco-384x288", "c161b7de_20220915"),
    "hrnet_w32_256x192": ("hrnet-w32_8xb64-210e_coco-256x192", "81c58e40_20220909"),
    "hrnet_w48_256x192": ("hrnet-w48_8xb32-210e_coco-256x192", "0e67c616_20220913"),
}
"""MMPose's names of its configurations, and what their weights files end with."""

ESTIMATORS: dict[Estimator, EstimatorSpec] = {
    "hrnet_small": EstimatorSpec(
        "hrnet_small.py",
        Source("hrnet_small.safetensors", note="It is part of the package."),
        input_size=(128, 64),
        centre=1.5,
    ),
    **{
        name: EstimatorSpec(
            f"td-hm_{config}.py",
            _openmmlab(f"td-hm_{config}-{ending}.pth"),
            input_size=(384, 288) if config.endswith("384x288") else (256, 192),
        )
        for name, (config, ending) in _PUBLISHED.items()
    },
}

SMALL_WEIGHTS = Path(__file__).resolve().parent / "weights" / "hrnet_small.safetensors"


def architecture_code(estimator: Estimator) -> list[str]:
    """Our module that MMPose reads as a file, so that no import leads a hash of code to it."""
    return ["pgfl.pose.configs.hrnet_small"] * (estimator == "hrnet_small")
