"""Table 9: seconds from an image file to a ranked gallery, on the machine that runs this."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from pgfl.datasets.images import read_image, resized
from pgfl.datasets.manifest import read_manifest
from pgfl.networks.build import matcher_of
from pgfl.networks.saved import load_student, load_trained
from pgfl.nn.settings import ModelSettings
from pgfl.pose.heatmaps import part_maps
from pgfl.pose.hrnet import PoseNetwork, estimate, load_estimator
from pgfl.pose.settings import PoseSettings
from pgfl.pose.views import make_view
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.numbers import read_published
from pgfl.reporting.paper.tables import data_warning, save_table
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.devices import device_name, pick_device

TITLE = "Seconds per query"
GALLERY = 17_661
"""Images in the gallery of the real Occluded-Duke (Table 1)."""
QUERIES = 100
WARM_UP = 10
NOTE = (
    "`published`: as printed; the paper does not say on which machine, so the rows compare with "
    "each other and not with ours. `reproduced`: the median over {queries} queries, one at a "
    "time and both methods in turn, after {warm_up} more to warm up: decode the file (which the "
    "operating system may have in memory), resize, compute the feature, rank a gallery of "
    "{gallery:,}, as large as Occluded-Duke's. The gallery is of random features of the right "
    "width, since the time hardly depends on their values. `PGFL-KD` is the student; the row "
    "below runs the pose network on each query and matches with f_V. Times differ from run to "
    "run."
)

EXTERNAL_NOTE = (
    " The heatmaps are another program's files, so its network cannot be timed: that row is "
    "left out."
)

Embed = Callable[[np.ndarray], Tensor]
"""From a decoded image, uint8 (H, W, 3), to its feature (1, c)."""


@dataclass(frozen=True)
class Trained:
    """The files of a trained model and of the pose network."""

    model: Path
    branches: Path
    pose_weights: Path | None
    """None where the heatmaps are another program's: then nothing with pose is timed."""
    pose: PoseSettings


def write_speed_table(
    trained: Trained,
    manifest: Path,
    experiment: str,
    out: Path | Outputs,
    *,
    queries: int = QUERIES,
    warm_up: int = WARM_UP,
    gallery: int = GALLERY,
) -> None:
    """Write `table9.csv`, its Markdown and its trace.

    Args:
        trained: what is timed, with as many CPU threads as torch is set to.
        manifest: its query images are used, again from the first where they are too few.
        experiment: where the model is from; anything but `paper` is marked as such.
        out: the CSV; seconds have four decimals. The others lie beside it unless they are named.
        queries: how many are timed.
        warm_up: how many go before them.
        gallery: how many features are ranked.

    Raises:
        UserError: an input cannot be used.
    """
    device = pick_device()
    images = [manifest.parent / name for name in read_manifest(manifest, "query")["image"]]
    student, settings = load_student(trained.model)
    network, recipe = load_trained(trained.model, trained.branches)
    features = random_gallery(gallery, student.channels, device)
    embedders = {"PGFL-KD": student_embedder(student.to(device), settings)}
    if trained.pose_weights is not None:
        pose_network = load_estimator(trained.pose.estimator, trained.pose_weights).to(device)
        embedders["PGFL-KD, f_V with the pose network"] = guided_embedder(
            matcher_of(network, recipe, "fused").to(device),
            settings,
            pose_network,
            trained.pose,
        )
    # As the evaluation reads images: OpenCV's own threads would wait for torch's.
    cv2.setNumThreads(1)
    found = seconds_a_query(embedders, features, images, queries, warm_up)
    rows = [
        {
            "method": method,
            "source": "reproduced",
            "seconds": f"{seconds:.4f}",
            "device": device_name(device),
            "threads": str(torch.get_num_threads()),
            "queries": str(queries),
            "gallery": str(gallery),
            "experiment": experiment,
        }
        for method, seconds in found.items()
    ]
    published = read_published(9)
    published.insert(1, "source", "published")
    table = pd.concat([published, pd.DataFrame(rows)], ignore_index=True).fillna("")
    note = NOTE.format(queries=queries, warm_up=warm_up, gallery=gallery)
    note += "" if trained.pose_weights else EXTERNAL_NOTE
    outputs = Outputs.of(out)
    save_table(table, outputs, f"# Table 9: {TITLE}\n\n{data_warning(experiment)}{note}\n\n")
    some = (trained.model, trained.branches, trained.pose_weights, manifest)
    files = tuple(file for file in some if file is not None)
    cells = [Cell(row["method"], "seconds", row["seconds"], files) for row in rows]
    save_trace(outputs.trace, [outputs.main, outputs.markdown], experiment, cells)


def student_embedder(student: nn.Module, settings: ModelSettings) -> Embed:
    """f_G, with nothing but the student."""
    device = next(student.parameters()).device

    def embed(image: np.ndarray) -> Tensor:
        return student(_batch(image, settings.height, settings.width, device))

    return embed


def guided_embedder(
    matcher: nn.Module, settings: ModelSettings, pose_network: PoseNetwork, pose: PoseSettings
) -> Embed:
    """A feature that needs the pose, with the pose network run on every image."""
    device = next(matcher.parameters()).device
    view = make_view(pose, pose_network.shift_flipped)

    def embed(image: np.ndarray) -> Tensor:
        inputs = torch.from_numpy(view.prepare(image))[None].to(device)
        raw = estimate(
            pose_network,
            view,
            inputs,
            np.array([image.shape[:2]]),
            flip_test=pose.flip_test,
            precision=pose.precision,
        )
        maps = part_maps(raw, pose.softmax_scale, pose.combine, pose.order)
        return matcher(_batch(image, settings.height, settings.width, device), maps)

    return embed


@torch.inference_mode()
def seconds_a_query(
    embedders: dict[str, Embed],
    gallery: Tensor,
    images: Sequence[Path],
    queries: int,
    warm_up: int,
) -> dict[str, float]:
    """The median time of one query after another, each from its file to the ranked gallery.

    Methods take turns, so that what slows the machine for a while slows all of them.

    Args:
        embedders: for each method, from the decoded image to the feature.
        gallery: (G, c), each of length one.
        images: files, used in turn.
        queries: how many count.
        warm_up: how many go before them and do not.

    Raises:
        UserError: an image cannot be read.
    """
    times: dict[str, list[float]] = {method: [] for method in embedders}
    for path in islice(cycle(images), warm_up + queries):
        for method, embed in embedders.items():
            began = time.perf_counter()
            rank(embed(read_image(path)), gallery)
            times[method].append(time.perf_counter() - began)
    return {method: statistics.median(taken[warm_up:]) for method, taken in times.items()}


def rank(feature: Tensor, gallery: Tensor) -> Tensor:
    """The gallery's rows, the most similar (cosine) first: (1, c) and (G, c) to (G,) on the CPU.

    The result is there when this returns, also where a GPU computes in the background.
    """
    similarity = functional.normalize(feature) @ gallery.T
    return similarity[0].argsort(descending=True).cpu()


def random_gallery(images: int, channels: int, device: torch.device) -> Tensor:
    """Random features of length one, float32 (images, channels)."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(images, channels, generator=generator)
    return functional.normalize(features).to(device)


def _batch(image: np.ndarray, height: int, width: int, device: torch.device) -> Tensor:
    return torch.from_numpy(resized(image, height, width))[None].to(device)
