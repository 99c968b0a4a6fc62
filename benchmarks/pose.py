"""How fast the pose stage is, and what the heatmap store costs.

    python benchmarks/pose.py            # some ten minutes on two cores
    python benchmarks/pose.py --smoke    # a few images, to see that it runs

Prints Markdown tables: photographs to stored maps beside a loop of MMPose's own
inference_topdown; images per second by batch size; size, read time and error of the store beside
plainer encodings. Pictures are drawn; the large networks have random weights, which changes
nothing about their speed.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch

from pgfl.datasets.images import loaded_batches, read_image, resized
from pgfl.datasets.synthetic.crops import render
from pgfl.datasets.synthetic.identity import sample_identity
from pgfl.pose.estimators import ESTIMATORS, SMALL_WEIGHTS
from pgfl.pose.heatmaps import part_maps
from pgfl.pose.hrnet import PoseNetwork, estimate, load_estimator, ready
from pgfl.pose.settings import Estimator, PoseSettings
from pgfl.pose.store import HeatmapReader, HeatmapWriter, decode, encode
from pgfl.pose.views import make_view
from pgfl.runtime.allocator import keep_freed_memory
from pgfl.runtime.devices import pick_device

SIZE = (256, 128)
"""Of the drawn photographs, near DukeMTMC-reID's."""
SCALE = 10.0


def draw(folder: Path, count: int) -> list[str]:
    """Photographs of drawn people as JPEG files; returns their names."""
    names = []
    for index in range(count):
        rng = np.random.default_rng([3, index])
        occlusion = "object" if index % 2 else "none"
        person = sample_identity(3, index)
        crop = render(person, rng=rng, camera=index % 8, camera_seed=3, size=SIZE,
                      occlusion=occlusion, difficulty=0.5)  # fmt: skip
        names.append(f"{index:05}.jpg")
        cv2.imwrite(str(folder / names[-1]), cv2.cvtColor(crop.image, cv2.COLOR_RGB2BGR))
    return names


def network_of(estimator: Estimator) -> PoseNetwork:
    """An estimator ready to run; ours with its weights, MMPose's with random ones."""
    if estimator == "hrnet_small":
        return load_estimator(estimator, SMALL_WEIGHTS).to(pick_device())
    return ready(untrained(estimator)).to(pick_device())


def untrained(estimator: Estimator) -> PoseNetwork:
    """MMPose's network with random weights, as `init_model` would hand it out."""
    torch.manual_seed(0)
    network = PoseNetwork(estimator)
    network.eval()
    return network.to(pick_device())


def ours(
    network: PoseNetwork, settings: PoseSettings, folder: Path, names: list[str]
) -> Iterator[torch.Tensor]:
    """Raw maps batch by batch, by the pose stage's own functions."""
    view = make_view(settings, network.shift_flipped)

    def load(name: str) -> tuple[np.ndarray, tuple[int, int]]:
        image = read_image(folder / name)
        return view.prepare(image), image.shape[:2]

    for _, batch in loaded_batches(names, load, settings.batch_size, "pose"):
        inputs = torch.from_numpy(np.stack([pixels for pixels, _ in batch])).to(pick_device())
        shapes = np.array([shape for _, shape in batch])
        yield estimate(network, view, inputs, shapes, precision=settings.precision).cpu()


def mmposes(network: PoseNetwork, size: tuple[int, int], folder: Path, names: list[str]) -> None:
    """MMPose's own way: inference_topdown, a photograph at a time."""
    import mmpose
    from mmengine.config import Config
    from mmpose.apis import inference_topdown
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    pipeline = [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale"},
        {"type": "TopdownAffine", "input_size": size[::-1]},
        {"type": "PackPoseInputs"},
    ]
    coco = Path(mmpose.__file__).parent / ".mim/configs/_base_/datasets/coco.py"
    model = network.network
    model.cfg = Config({"test_dataloader": {"dataset": {"pipeline": pipeline}}})
    model.dataset_meta = parse_pose_metainfo({"from_file": str(coco)})
    model.test_cfg = {"flip_test": False, "output_heatmaps": True}
    for name in names:
        inference_topdown(model, str(folder / name))


def rate(work: Callable[[], object], images: int) -> float:
    """Images per second: the better of two runs."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return images / min(times)


def consume(batches: Iterator[torch.Tensor]) -> None:
    """Go through all batches."""
    for _ in batches:
        pass


def against_mmpose(estimators: list[Estimator], folder: Path, names: list[str]) -> None:
    """The top-down way of both, JPEG files to raw maps."""
    print("\n### Photographs to raw maps, MMPose's top-down way without flip test\n")
    print("| estimator | input | way | images/s | ratio |\n| --- | --- | --- | ---: | ---: |")
    for estimator in estimators:
        network, size = network_of(estimator), ESTIMATORS[estimator].input_size
        plain = untrained(estimator)
        theirs = rate(lambda n=plain, s=size: mmposes(n, s, folder, names), len(names))
        row = f"| {estimator} | {size[0]}x{size[1]}"
        print(f"{row} | inference_topdown, one by one | {theirs:.1f} | 1.00 |")
        for precision in ("fp32", "half"):
            settings = PoseSettings(
                estimator=estimator, view="topdown", precision=precision, batch_size=16
            )
            own = rate(
                lambda n=network, s=settings: consume(ours(n, s, folder, names)), len(names)
            )
            print(f"{row} | ours, {precision}, batches of 16 | {own:.1f} | {own / theirs:.2f} |")


def by_batch_size(
    estimators: list[Estimator], sizes: list[int], folder: Path, names: list[str]
) -> None:
    """The crop way at the paper's size, by batch size."""
    print("\n### Images per second by batch size, 384x128 crops\n")
    print("| estimator | precision |" + "".join(f" {size} |" for size in sizes))
    print("| --- | --- |" + " ---: |" * len(sizes))
    for estimator in estimators:
        network = network_of(estimator)
        for precision in ("fp32", "half"):
            rates = []
            for size in sizes:
                settings = PoseSettings(estimator=estimator, precision=precision, batch_size=size)
                work = lambda n=network, s=settings: consume(ours(n, s, folder, names))  # noqa: E731
                rates.append(rate(work, len(names)))
            print(f"| {estimator} | {precision} |" + "".join(f" {r:.1f} |" for r in rates))


def store_table(folder: Path, names: list[str]) -> None:
    """Size, read time and error of our store beside plainer ones, on maps of 8x96x32."""
    network = load_estimator("hrnet_small", SMALL_WEIGHTS)
    crops = [torch.from_numpy(resized(read_image(folder / name), 384, 128)) for name in names]
    with torch.inference_mode():
        raw = torch.cat(
            [network(torch.stack(crops[i : i + 16])) for i in range(0, len(crops), 16)]
        )
        maps = part_maps(raw, SCALE).numpy()
    print(f"\n### The store: {len(maps)} images, maps of 8x96x32\n")
    print("| encoding | kB per image | random read, us | largest error / peak | sum off by |")
    print("| --- | ---: | ---: | ---: | ---: |")
    codes = np.rint(maps / maps.max(axis=(2, 3), keepdims=True) * 255).astype(np.uint8)
    plain = {
        "float32": (maps, {}),
        "float16, gzip": (maps.astype(np.float16), {"compression": "gzip"}),
        "uint8 of the peak, gzip": (codes, {"compression": "gzip"}),
    }
    for name, (values, options) in plain.items():
        path = folder / "plain.h5"
        chunks = (4, *maps.shape[1:]) if options else None
        with h5py.File(path, "w") as file:
            file.create_dataset("heatmaps", data=values, chunks=chunks, **options)
        with h5py.File(path, "r") as file:
            stored = file["heatmaps"]

            def read(row: int, stored: h5py.Dataset = stored) -> np.ndarray:
                found = stored[row].astype(np.float32)
                return found / found.sum(axis=(1, 2), keepdims=True)

            say(name, path, maps, read)
    path = folder / "ours.h5"
    with HeatmapWriter(path, names, maps.shape[2:], {}) as writer:
        writer.write(0, maps, np.zeros((len(maps), 17), np.float32))
    reader = HeatmapReader(path)
    say("ours: uint8, offset and step, gzip", path, maps, reader.read)
    offsets = np.abs(decode(*encode(maps)) - maps).max()
    print(f"\nLargest absolute error of ours: {offsets:.2e}.")


def say(name: str, path: Path, maps: np.ndarray, read: Callable[[int], np.ndarray]) -> None:
    """One row of the store's table."""
    rows = np.random.default_rng(0).permutation(len(maps))
    for row in rows:
        read(row)  # into the page cache
    start = time.perf_counter()
    for row in rows:
        read(row)
    microseconds = (time.perf_counter() - start) / len(maps) * 1e6
    found = np.stack([read(row) for row in range(len(maps))])
    error = (np.abs(found - maps).max(axis=(2, 3)) / maps.max(axis=(2, 3))).max()
    off = np.abs(found.sum(axis=(2, 3), dtype=np.float64) - 1).max()
    size = path.stat().st_size / 1000 / len(maps)
    print(f"| {name} | {size:.1f} | {microseconds:.0f} | 1/{1 / error:.3g} | {off:.0e} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few images, to see that it runs")
    parser.add_argument("--images", type=int, default=128)
    options = parser.parse_args()
    count = 8 if options.smoke else options.images
    keep_freed_memory()  # as the command does; MMPose's loop gains by it, too
    device = pick_device()
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"Measured: {where}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        names = draw(Path(folder), count)
        padded: list[Estimator] = ["hrnet_w32_256x192"]
        crops: list[Estimator] = ["hrnet_small"]
        if not options.smoke:
            padded = ["hrnet_w48_256x192", "hrnet_w32_256x192"]
            crops = ["hrnet_w48", "hrnet_w32", "hrnet_small"]
        sizes = [1, 8] if options.smoke else [1, 4, 8, 16, 32, 64]
        against_mmpose(padded, Path(folder), names[:64])
        by_batch_size(crops, sizes, Path(folder), names[:64])
        store_table(Path(folder), names)


if __name__ == "__main__":
    main()
