"""Trains the small HRNet that the demo uses, on synthetic people and their true joints.

    python -m pgfl.pose.train_small --out pgfl/pose/weights/hrnet_small.safetensors

The weights ship with the package; this makes them again. Hidden joints are trained towards an
empty map, so that the height of a peak tells whether a joint is seen.
"""

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from pgfl.datasets.synthetic.crops import render
from pgfl.datasets.synthetic.identity import sample_identity
from pgfl.pose.hrnet import PoseNetwork
from pgfl.pose.keypoints import KEYPOINT_MIRROR
from pgfl.pose.true_joints import SIGMA, peaks
from pgfl.pose.views import MIDDLE, STRIDE
from pgfl.runtime.devices import autocast, native_bf16, pick_device
from pgfl.runtime.files import whole_file, write_json

HEIGHT, WIDTH = 128, 64
SEED = 20_000
"""Seeds people and cameras that no synthetic data set uses (theirs start at 0)."""
HELD_OUT = 500_000
"""Identities from this number on are for testing only."""
BLOCK = 200


def draw(count: int, first_pid: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops of many people under all cameras, difficulties and occlusions.

    Args:
        count: how many images; four of each person.
        first_pid: the number of the first person.

    Returns:
        images uint8 (count, 128, 64, 3), joints float32 (count, 17, 2), visible bool (count, 17).
    """
    blocks = [range(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(partial(_draw_block, first_pid), blocks))
    images, joints, visible = (np.concatenate(part) for part in zip(*drawn, strict=True))
    return images, joints, visible


def _draw_block(first_pid: int, block: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cv2.setNumThreads(1)
    crops = []
    for index in block:
        pid = first_pid + index // 4
        rng = np.random.default_rng([SEED, first_pid, index])
        crops.append(
            render(
                sample_identity(SEED, pid),
                rng=rng,
                camera=int(rng.integers(8)),
                camera_seed=SEED + index // BLOCK,
                size=(HEIGHT, WIDTH),
                occlusion="mixed" if rng.random() < 0.5 else "none",
                strangers=[sample_identity(SEED, pid + 1), sample_identity(SEED, pid + 2)],
                difficulty=float(rng.uniform(0.2, 1.0)),
            )
        )
    return (
        np.stack([crop.image for crop in crops]),
        np.stack([crop.joints for crop in crops]),
        np.stack([crop.visible for crop in crops]),
    )


def targets(joints: Tensor, visible: Tensor) -> Tensor:
    """Gaussian peaks of height one at visible joints, nothing for hidden ones.

    Args:
        joints: (N, 17, 2), x and y in pixels of the crop.
        visible: bool (N, 17).

    Returns:
        (N, 17, 32, 16).
    """
    # The centre of map cell i lies at pixel STRIDE * i + MIDDLE.
    cells = (joints - MIDDLE) / STRIDE
    return peaks(cells, visible, (HEIGHT // STRIDE, WIDTH // STRIDE), SIGMA)


def train(images: Tensor, joints: Tensor, visible: Tensor, epochs: int, batch: int) -> PoseNetwork:
    """Adam with a one-cycle learning rate on the mean squared error of the maps."""
    torch.manual_seed(0)
    device = pick_device()
    model = PoseNetwork("hrnet_small")
    model.network.head.init_weights()
    model.to(device, memory_format=torch.channels_last)
    steps = len(images) // batch
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        start, total = time.monotonic(), 0.0
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            picture, wanted = images[rows], targets(joints[rows], visible[rows])
            if torch.rand((), generator=generator) < 0.5:
                picture, wanted = picture.flip(2), wanted.flip(3)[:, KEYPOINT_MIRROR, :, :]
            with autocast(device, "bf16" if native_bf16(device) else "fp32"):
                predicted = model(picture.to(device))
            loss = (predicted.float() - wanted.to(device)).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        rate = steps * batch / (time.monotonic() - start)
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / steps:.5f}, {rate:.0f} img/s", flush=True
        )
    return model


@torch.inference_mode()
def score(model: PoseNetwork, images: Tensor, joints: Tensor, visible: Tensor) -> dict[str, float]:
    """PCK@0.2 of the visible joints and how well the peak tells visible from hidden ones.

    A joint counts as found when it is nearer to its true place than a fifth of the reference
    length: of the larger side of the box around the visible joints, or, stricter, of the torso
    (left shoulder to right hip).
    """
    model.eval()
    device = next(model.parameters()).device
    maps = torch.cat([model(block.to(device)).float().cpu() for block in images.split(128)])
    flat = maps.flatten(2)
    best = flat.argmax(dim=2)
    cells = torch.stack([best % maps.shape[3], best // maps.shape[3]], dim=2).float()
    distance = (cells * STRIDE + MIDDLE - joints).norm(dim=2)
    torso = (joints[:, 5] - joints[:, 12]).norm(dim=1, keepdim=True)
    hidden_far = torch.where(visible[..., None], joints, torch.nan)
    spans = [
        torch.tensor(np.nanmax(part, axis=1) - np.nanmin(part, axis=1)).amax()
        if seen.any()
        else torch.tensor(math.inf)
        for part, seen in zip(hidden_far.permute(0, 2, 1).numpy(), visible, strict=True)
    ]
    box = torch.stack(spans).unsqueeze(1)
    peaks = flat.amax(dim=2)
    return {
        "pck_box": ((distance < 0.2 * box) & visible).sum().item() / visible.sum().item(),
        "pck_torso": ((distance < 0.2 * torso) & visible).sum().item() / visible.sum().item(),
        "visibility_auc": area_under_curve(peaks[visible].numpy(), peaks[~visible].numpy()),
        "images": len(images),
    }


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a positive's value is above a negative's (ties count half)."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    equal = np.searchsorted(ordered, positive, side="right") - below
    return float((below + equal / 2).mean() / len(negative))


def save(model: PoseNetwork, path: Path) -> None:
    """Write the MMPose state dict in half precision."""
    state = {
        key.removeprefix("network."): value.half() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    with whole_file(path) as temporary:
        temporary.write_bytes(
            safetensors.torch.save({k: v.contiguous() for k, v in state.items()})
        )


def main() -> None:
    """Draw, train, score on held-out people, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--test-images", type=int, default=2_000)
    options = parser.parse_args()
    training = [torch.from_numpy(part) for part in draw(options.images, 0)]
    testing = [torch.from_numpy(part) for part in draw(options.test_images, HELD_OUT)]
    model = train(*training, epochs=options.epochs, batch=options.batch)
    save(model, options.out)
    report = score(model, *testing)
    write_json(options.out.with_suffix(".json"), report)
    print({key: round(value, 4) for key, value in report.items()})


if __name__ == "__main__":
    main()
