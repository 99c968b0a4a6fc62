"""The estimators: which MMPose architecture, which weights."""

from dataclasses import dataclass
from pathlib import Path

from pgfl.obtain import Source
from pgfl.pose.settings import Estimator

OPENMMLAB = "https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco/"


@dataclass(frozen=True)
class EstimatorSpec:
    """Where an estimator's architecture and weights come from."""

    config: str
    """An MMPose configuration: ours below `configs/`, else one that MMPose ships."""
    weights: Source


def _openmmlab(name: str) -> Source:
    # OpenMMLab ends a file's name with the first eight digits of its sha256 and a date.
    digest = name.split("-")[-1].split("_")[0]
    return Source(
        name,
        checksum=f"sha256:{digest}",
        url=OPENMMLAB + name,
        note="It holds HRNet's COCO weights, from MMPose's model zoo.",
    )


ESTIMATORS: dict[Estimator, EstimatorSpec] = {
    "hrnet_small": EstimatorSpec(
        "hrnet_small.py", Source("hrnet_small.safetensors", note="It is part of the package.")
    ),
    "hrnet_w32": EstimatorSpec(
        "td-hm_hrnet-w32_8xb64-210e_coco-384x288.py",
        _openmmlab("td-hm_hrnet-w32_8xb64-210e_coco-384x288-ca5956af_20220909.pth"),
    ),
    "hrnet_w48": EstimatorSpec(
        "td-hm_hrnet-w48_8xb32-210e_coco-384x288.py",
        _openmmlab("td-hm_hrnet-w48_8xb32-210e_coco-384x288-c161b7de_20220915.pth"),
    ),
}

SMALL_WEIGHTS = Path(__file__).resolve().parent / "weights" / "hrnet_small.safetensors"
