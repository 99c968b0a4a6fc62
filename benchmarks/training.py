"""What a training step costs, and whether images come fast enough.

    python benchmarks/training.py [--threads 2] [--smoke]

Prints Markdown tables: a step of the whole method with cached heatmaps beside a plain ReID step
and beside a step with HRNet inside; images per second of the input pipeline on one core beside
Pillow's; the share of a step that waits for images; on a GPU also whole training beside a bare
network on data that lies there already. People are drawn, weights are random. `--smoke` makes
everything tiny, to see that it runs.
"""

import argparse
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from trainer import Trainer

from pgfl.config.recipe import Recipe, nested
from pgfl.datasets.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.datasets.synthetic.crops import render
from pgfl.datasets.synthetic.identity import sample_identity
from pgfl.nn.backbone import Normalize
from pgfl.nn.batch import Batch
from pgfl.nn.resnet import build_resnet
from pgfl.pose.heatmaps import merge, spatial_softmax
from pgfl.pose.hrnet import PoseNetwork
from pgfl.pose.store import HeatmapReader, HeatmapWriter
from pgfl.runtime.allocator import keep_freed_memory
from pgfl.runtime.devices import autocast, pick_device
from pgfl.training.compiled import compiled
from pgfl.training.data import EpochSampler, TrainingImages, batches, make_loader

BASELINE = {"method": "bot"}
SHARED = {"second_layer4": "shared"}
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    backbone: str = "resnet50"
    estimator: str = "hrnet_w48"
    height: int = 384
    width: int = 128
    identities: int = 4
    images: int = 16
    people: int = 32
    shots: int = 16
    rounds: int = 5
    workers: tuple[int, ...] = (1, 2, 3, 4)
    compile: bool = True

    def recipe(self, method: dict) -> Recipe:
        """The paper's batch and input at this scale."""
        size = {"height": self.height, "width": self.width}
        model = {"backbone": self.backbone} | size
        training = {"identities": self.identities, "images": self.images}
        return Recipe.parse({"model": model, "training": training} | nested(method))


SMOKE = Scale(
    "resnet18",
    "hrnet_small",
    64,
    32,
    2,
    2,
    people=4,
    shots=4,
    rounds=1,
    workers=(1,),
    compile=False,
)


def draw(folder: Path, size: tuple[int, int], scale: Scale) -> pd.DataFrame:
    """JPEGs of drawn people and a store of heatmaps with one peak each, as HRNet's would be."""
    identities = [sample_identity(1, pid) for pid in range(scale.people)]
    rows = []
    for index in range(scale.people * scale.shots):
        pid = index % scale.people
        crop = render(
            identities[pid],
            rng=np.random.default_rng(index),
            camera=index % 8,
            camera_seed=1,
            size=size,
            difficulty=0.4,
        )
        name = f"{index:05}.jpg"
        pixels = cv2.cvtColor(crop.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        rows.append({"image": name, "split": "train", "pid": pid, "camid": index % 8})
    height, width = scale.height // 4, scale.width // 4
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    names = [row["image"] for row in rows]
    with HeatmapWriter(folder / "train.h5", names, (height, width), {}) as out:
        for index in range(len(rows)):
            centres = rng.uniform(0, 1, (8, 2, 1, 1)) * np.array([height, width])[:, None, None]
            peaks = np.exp(-((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2) / 8)
            raw = peaks + cv2.GaussianBlur(rng.normal(0, 0.1, (height, width)), (0, 0), 2)
            maps = spatial_softmax(torch.from_numpy(raw)[None], scale=10).numpy()
            out.write(index, maps, np.ones((1, 17), np.float32))
    return pd.DataFrame(rows)


def finish(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def best(work: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict:
    """Seconds of each, the best of some rounds in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, run in work.items():
            finish(device)
            start = time.perf_counter()
            run()
            finish(device)
            if number or rounds == 1:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in seconds.items()}


def print_table(title: str, unit: str, found: dict[str, float], shown: str, *bases: str) -> None:
    """One table of measurements, each beside those named."""
    heads = ["", unit, *(f"beside {base}" for base in bases)]
    print(f"\n### {title}\n\n| {' | '.join(heads)} |\n| --- |{' ---: |' * (len(heads) - 1)}")
    for name, value in found.items():
        cells = [name, f"{value:{shown}}", *(f"{value / found[base]:.3f}" for base in bases)]
        print(f"| {' | '.join(cells)} |", flush=True)


def random_batch(scale: Scale, device: torch.device) -> Batch:
    """Random images and maps of the right sizes."""
    count = scale.identities * scale.images
    images = torch.randint(256, (count, scale.height, scale.width, 3), device=device).byte()
    labels = torch.arange(scale.identities, device=device).repeat_interleave(scale.images)
    cells = (count, 8, scale.height // 4, scale.width // 4)
    maps = torch.rand(cells, device=device).flatten(2).softmax(2).view(cells)
    return Batch(images, labels, torch.zeros_like(labels), maps)


def steps(scale: Scale, device: torch.device) -> None:
    """(a) The whole method beside a plain ReID step, and beside HRNet in every step."""
    batch = random_batch(scale, device)
    plain, ours, shared = (
        Trainer(recipe, device)
        for recipe in (scale.recipe(BASELINE), scale.recipe({}), scale.recipe(SHARED))
    )
    pose = PoseNetwork(scale.estimator)
    pose.eval()  # MMPose's own returns nothing
    pose.to(device, memory_format=torch.channels_last)

    def with_pose() -> None:
        with torch.no_grad(), autocast(device, "auto"):
            found = spatial_softmax(merge(pose(batch.images)), scale=10)
        ours.step(batch._replace(heatmaps=found))

    bases = ("ReID step", "PGFL-KD step, cached heatmaps")
    work = {
        bases[0]: lambda: plain.step(batch),
        bases[1]: lambda: ours.step(batch),
        "PGFL-KD step, one last stage for all": lambda: shared.step(batch),
        f"PGFL-KD step, {scale.estimator} inside": with_pose,
    }
    if scale.compile:
        for name, trainer in zip(bases, (plain, ours), strict=True):
            network = compiled(trainer.model, device)
            work[f"{name}, compiled"] = partial(trainer.step, batch, network)
    title = (
        f"A step of {len(batch.labels)} images, {scale.backbone} at {scale.height}x{scale.width}"
    )
    print_table(title, "s", best(work, scale.rounds, device), ".4f", *bases)


def pillow(path: Path, scale: Scale, pad: int = 10) -> Tensor:
    """The usual pipeline: Pillow, then float tensors; torchvision's transforms written out."""
    with Image.open(path) as file:
        image = file.convert("RGB").resize((scale.width, scale.height), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = ImageOps.expand(image, pad)
    left, top = random.randint(0, 2 * pad), random.randint(0, 2 * pad)
    image = image.crop((left, top, left + scale.width, top + scale.height))
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    mean, std = (torch.tensor(v).view(3, 1, 1) / 255 for v in (IMAGENET_MEAN, IMAGENET_STD))
    tensor.sub_(mean).div_(std)
    if random.random() < 0.5:
        area = random.uniform(0.02, 0.4) * scale.height * scale.width
        aspect = random.uniform(0.3, 1 / 0.3)
        h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if h < scale.height and w < scale.width:
            y, x = random.randint(0, scale.height - h), random.randint(0, scale.width - w)
            tensor[:, y : y + h, x : x + w] = 0
    return tensor


def pipeline(scale: Scale, size: tuple[int, int], folder: Path, table: pd.DataFrame) -> None:
    """(b) Images per second on one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    recipe, count = scale.recipe({}), len(table)
    bare = TrainingImages(folder, table, None, recipe)
    guided = TrainingImages(folder, table, HeatmapReader(folder / "train.h5"), recipe)
    order = np.random.default_rng(0).permutation(count)  # as in training: not as they are stored
    normalize, some = Normalize(), scale.identities * scale.images

    def ours(images: TrainingImages) -> list[np.ndarray]:
        return [images[int(row), (0, 0, int(row))][0].image for row in order]

    def normalised() -> None:
        pixels = ours(bare)
        for start in range(0, count, some):
            normalize(torch.from_numpy(np.stack(pixels[start : start + some])))

    name = "Pillow and float tensors"
    work = {
        name: lambda: [pillow(folder / table["image"][row], scale) for row in order],
        "ours, normalised on the batch": normalised,
        "ours, as the loader gives it": lambda: ours(bare),
        "ours with heatmaps, as the loader gives it": lambda: ours(guided),
    }
    found = best(work, scale.rounds, torch.device("cpu"))
    title = f"Input pipeline, JPEG {size[0]}x{size[1]} to {scale.height}x{scale.width}, one core"
    print_table(title, "img/s", {k: count / v for k, v in found.items()}, ".0f", name)


def timed(items: Iterator[Batch], use: Callable[[Batch], None]) -> tuple[float, float, int]:
    """Seconds in which `use` waited for items, seconds altogether, and the number of items."""
    waited, count, start = 0.0, 0, time.perf_counter()
    while True:
        asked = time.perf_counter()
        batch = next(items, None)
        waited += time.perf_counter() - asked
        if batch is None:
            return waited, time.perf_counter() - start, count
        use(batch)
        count += 1


def train_an_epoch(trainer: Trainer, images: TrainingImages, workers: int) -> tuple[float, float]:
    """Train two epochs; of the second the share of the time that waits for images, and img/s."""

    def use(batch: Batch) -> None:
        trainer.step(batch.mapped(lambda tensor: tensor.to(trainer.device, non_blocking=True)))
        finish(trainer.device)

    sampler = EpochSampler(images.labels, trainer.recipe, seed=0)
    loader = make_loader(images, sampler, workers)
    timed(batches(loader), use)  # starts the processes, and warms up
    sampler.epoch = 1
    waited, seconds, count = timed(batches(loader), use)
    training = trainer.recipe.training
    return waited / seconds, count * training.identities * training.images / seconds


def feeding(scale: Scale, device: torch.device, folder: Path, table: pd.DataFrame) -> None:
    """(c) The share of a step that waits, and (d) training beside a bare network."""
    trainer = Trainer(scale.recipe({}), device, scale.people)
    images = TrainingImages(folder, table, HeatmapReader(folder / "train.h5"), trainer.recipe)
    print("\n### Waiting for images\n\n| loader processes | share of a step | img/s |")
    print("| ---: | ---: | ---: |")
    for workers in scale.workers:
        waits, rate = train_an_epoch(trainer, images, workers)
        print(f"| {workers} | {waits:.1%} | {rate:.0f} |", flush=True)
    if device.type == "cuda":
        beside_bare(scale, device, images)


def beside_bare(scale: Scale, device: torch.device, images: TrainingImages) -> None:
    """(d) Whole training beside forward and backward of the network on resident random data.

    With one last stage for all, so that both have the same network.
    """
    trainer = Trainer(scale.recipe(SHARED), device, scale.people)
    training = max(train_an_epoch(trainer, images, workers)[1] for workers in scale.workers)
    count = scale.identities * scale.images
    network = build_resnet(scale.backbone).to(device, memory_format=torch.channels_last)
    classifier = nn.Linear(network.channels, 702).to(device)
    resident = torch.randn(count, 3, scale.height, scale.width, device=device)
    resident = resident.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with autocast(device, "auto"):
            out = classifier(network(resident).mean(dim=(2, 3)))
        out.float().square().mean().backward()

    name = "bare network"
    seconds = best({name: step}, scale.rounds, device)[name]
    print_table("On the GPU", "img/s", {name: count / seconds, "training": training}, ".0f", name)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    scale, device = SMOKE if options.smoke else Scale(), pick_device()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{name}, {options.threads} threads, torch {torch.__version__}", flush=True)
    steps(scale, device)
    for size in ((128, 64), (256, 128)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            table = draw(folder, size, scale)
            pipeline(scale, size, folder, table)
            if size == (128, 64):
                torch.set_num_threads(options.threads)
                feeding(scale, device, folder, table)


if __name__ == "__main__":
    main()
