"""What a trained student costs its users.

    python benchmarks/inference.py [--threads 2] [--only embed latency onnx search] [--smoke]

Prints Markdown tables: images per second of `.embed` from JPEG files beside the bare backbone on
tensors that lie there already, in all precisions of the device; seconds for a single image; ONNX
beside PyTorch on a CPU, where the extra `export` is installed; seconds and memory of `search` in
a million gallery vectors, beside one matrix product over all of them and, where it is installed,
beside FAISS. The search needs about 11 GB on disk for temporary files. People are drawn, weights
are random. `--smoke` makes everything tiny, to see that it runs.

Run it on a machine that has nothing else to do.
"""

import argparse
import importlib.util
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from processes import alone, peak_mib
from training import JPEG_QUALITY, best, print_table

import pgfl
from pgfl.config.recipe import Recipe
from pgfl.datasets.images import read_image
from pgfl.datasets.synthetic.crops import render
from pgfl.datasets.synthetic.identity import sample_identity
from pgfl.methods.bot import Student
from pgfl.networks.saved import save_student
from pgfl.nn.backbone import build_backbone
from pgfl.nn.settings import ModelSettings
from pgfl.runtime.devices import half_precision, pick_device
from pgfl.student.embedder import Embedder
from pgfl.student.features_file import read_features_file, write_features_file
from pgfl.student.search import nearest

PARTS = ("embed", "latency", "onnx", "search")
DRAWN = 32
"""Different people; their images are written again under other names."""
PIECE = 8192
"""Gallery vectors drawn at a time."""
TOP = 10
ROUNDS = 3


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    students: tuple[tuple[str, int, int], ...] = (("resnet50", 384, 128), ("resnet18", 128, 64))
    """Backbone, height, width."""
    jpegs: tuple[tuple[int, int], ...] = ((128, 64), (256, 128))
    """Height, width of the files."""
    images: int = 512
    batch: int = 64
    repeats: int = 50
    gallery: int = 1_000_000
    channels: tuple[int, ...] = (512, 2048)
    queries: tuple[int, ...] = (1, 100)


SMOKE = Scale((("resnet18", 64, 32),), ((40, 20),), 8, 4, 2, 500, (16,), (1, 3))


def make_student(folder: Path, backbone: str, height: int, width: int) -> Path:
    """An untrained student's file, its normalisations as random as its weights."""
    settings = ModelSettings(backbone=backbone, pretrained=False, height=height, width=width)
    recipe = Recipe(model=settings)
    student = Student(recipe.settings, build_backbone(settings))
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            for vector in (module.weight, module.running_var):
                torch.nn.init.uniform_(vector, 0.9, 1.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    path = folder / f"{backbone}_{height}.safetensors"
    save_student(student, recipe, path)
    return path


def draw(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """JPEG files of drawn people."""
    paths = [folder / f"{size[0]}_{index:04}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        if index < DRAWN:
            identity, rng = sample_identity(1, index), np.random.default_rng(index)
            crop = render(identity, rng=rng, camera=index % 8, camera_seed=1, size=size)
            pixels = cv2.cvtColor(crop.image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        else:
            path.write_bytes(paths[index % DRAWN].read_bytes())
    return paths


def precisions(device: torch.device) -> tuple[str, ...]:
    """Those that make sense there: half on a processor is only for those that compute in it."""
    return ("fp32", "half") if device.type == "cuda" else ("fp32",)


@torch.inference_mode()
def bare(student: Embedder, batches: list[torch.Tensor]) -> None:
    """The backbone on normalised pixels that lie on the device; all outputs are waited for."""
    with half_precision(student.device, student.precision):
        outputs = [student.network.backbone(batch) for batch in batches]
    _ = [output.flatten()[0].item() for output in outputs]


def embedding(scale: Scale, folder: Path) -> None:
    """(a) Images per second from files, beside the backbone alone."""
    for backbone, height, width in scale.students:
        path = make_student(folder, backbone, height, width)
        for precision in precisions(pick_device()):
            student = pgfl.load(path, precision=precision)
            some = torch.randn(scale.batch, 3, height, width, device=student.device)
            some = some.contiguous(memory_format=torch.channels_last)
            batches = [some] * (scale.images // scale.batch)
            name = "bare backbone, tensors ready"
            work: dict[str, Callable[[], object]] = {
                name: lambda student=student, batches=batches: bare(student, batches)
            }
            for size in scale.jpegs:
                paths = draw(folder, size, scale.images)
                work[f"`.embed`, JPEG files {size[0]}x{size[1]}"] = (
                    lambda student=student, paths=paths: student.embed(paths, scale.batch)
                )
            found = best(work, ROUNDS, student.device)
            speeds = {what: scale.images / seconds for what, seconds in found.items()}
            title = f"{backbone} at {height}x{width}, {precision}, batches of {scale.batch}"
            print_table(title, "img/s", speeds, ".0f", name)


def median_milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Of some calls, after a few that warm up."""
    seconds = []
    for _ in range(3 + repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds[3:]))


def latency(scale: Scale, folder: Path) -> None:
    """(b) A single image: what a tracker waits for."""
    for backbone, height, width in scale.students:
        path = make_student(folder, backbone, height, width)
        for precision in precisions(pick_device()):
            student = pgfl.load(path, precision=precision)
            (file,) = draw(folder, scale.jpegs[-1], 1)
            image = read_image(file)
            ready = torch.randn(1, 3, height, width, device=student.device)
            ready = [ready.contiguous(memory_format=torch.channels_last)]
            name = "bare backbone, tensor ready"
            work = {
                name: lambda student=student, ready=ready: bare(student, ready),
                "`.embed` of an array": lambda student=student, image=image: student.embed(image),
                "`.embed` of a JPEG file": lambda student=student, file=file: student.embed(file),
            }
            found = {what: median_milliseconds(run, scale.repeats) for what, run in work.items()}
            title = f"One image, {backbone} at {height}x{width}, {precision}"
            print_table(title, "ms", found, ".2f", name)


PYTORCH = "PyTorch, fp32"


def onnx(scale: Scale, folder: Path, threads: int) -> None:
    """(c) The exported graph beside PyTorch, both from uint8 to features, on the CPU."""
    from pgfl.student.export import export

    for backbone, height, width in scale.students:
        student = make_student(folder, backbone, height, width)
        files = {PYTORCH: student}
        for precision in ("fp32", "fp16"):
            files[f"ONNX Runtime, {precision}"] = student.with_suffix(f".{precision}.onnx")
            export(student, files[f"ONNX Runtime, {precision}"], precision)
        size = (height, width, 3)
        repeats = {1: scale.repeats, scale.batch: ROUNDS}
        # Each in a process of its own: beside waiting ONNX Runtimes PyTorch had half its speed.
        found = {
            what: alone(images_a_second, str(file), size, repeats, threads)
            for what, file in files.items()
        }
        for count in repeats:
            title = f"ONNX on the CPU, {backbone} at {height}x{width}, batch {count}"
            speeds = {what: speed[count] for what, speed in found.items()}
            print_table(title, "img/s", speeds, ".1f", PYTORCH)


def images_a_second(
    file: str, size: tuple[int, ...], repeats: dict[int, int], threads: int
) -> dict[int, float]:
    """Of a student's file or an exported graph, from uint8 images to features.

    Args:
        file: `.safetensors` or `.onnx`.
        size: (H, W, 3) of an image.
        repeats: for each batch size, how often it is timed.
        threads: of the CPU.
    """
    if file.endswith(".onnx"):
        import onnxruntime

        from pgfl.student.export import INPUT

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(file, options, providers=providers)
        embed = lambda images: session.run(None, {INPUT: images})  # noqa: E731
    else:
        torch.set_num_threads(threads)
        embed = pgfl.load(file, device="cpu").embed
    rng = np.random.default_rng(0)
    speeds = {}
    for count, times in repeats.items():
        images = rng.integers(0, 256, (count, *size), dtype=np.uint8)
        milliseconds = median_milliseconds(lambda images=images: embed(images), times)
        speeds[count] = 1000 * count / milliseconds
    return speeds


def vectors(count: int, channels: int, seed: int) -> Iterator[np.ndarray]:
    """Random features of length one, in pieces."""
    rng = np.random.default_rng(seed)
    for start in range(0, count, PIECE):
        rows = rng.standard_normal((min(PIECE, count - start), channels), dtype=np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ours(path: Path, query: np.ndarray) -> object:
    """What `pgfl search` does with a gallery in a file."""
    return nearest(query, read_features_file(path).chunks(), TOP)


def product(gallery: torch.Tensor, query: np.ndarray) -> object:
    """One product over a gallery in memory."""
    return (torch.from_numpy(query) @ gallery.T).topk(TOP)


def searching(method: str, path: str, queries: int, threads: int) -> tuple[float, float, float]:
    """Seconds to get ready, seconds of the search, MiB of extra memory; in a new process."""
    torch.set_num_threads(threads)
    file = Path(path)
    channels = read_features_file(file).channels
    (query,) = vectors(queries, channels, seed=1)
    nearest(query, [query], 1)  # the libraries are warm before memory is looked at
    before = peak_mib()
    start = time.perf_counter()
    if method == "ours":
        work = lambda: ours(file, query)  # noqa: E731
    else:
        gallery = read_features_file(file).load().matrix
        if method == "product":
            whole = torch.from_numpy(gallery)
            work = lambda: product(whole, query)  # noqa: E731
        else:
            import faiss

            faiss.omp_set_num_threads(threads)
            index = faiss.IndexFlatIP(channels)
            index.add(gallery)
            del gallery
            work = lambda: index.search(query, TOP)  # noqa: E731
    ready = time.perf_counter() - start
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return ready, min(seconds), peak_mib() - before


METHODS = {
    "ours": "`pgfl search`, gallery in a file",
    "product": "matrix product, gallery in memory",
    "faiss": "FAISS, IndexFlatIP in memory",
}


def search(scale: Scale, folder: Path, threads: int) -> None:
    """(d) A large gallery."""
    methods = [name for name in METHODS if name != "faiss" or importlib.util.find_spec("faiss")]
    for channels in scale.channels:
        path = folder / f"{channels}.npz"
        names = [f"{index:07}.jpg" for index in range(scale.gallery)]
        texts = {"folder": "/people", "model_sha256": "0" * 64, "precision": "fp32"}
        pieces = vectors(scale.gallery, channels, seed=0)
        write_features_file(path, names, channels, pieces, texts, {})
        print(f"\n### Search in {scale.gallery:,} vectors of {channels} numbers\n")
        print("| queries | method | s to get ready | s per search | extra MiB |")
        print("| ---: | --- | ---: | ---: | ---: |", flush=True)
        for queries in scale.queries:
            for method in methods:
                ready, seconds, memory = alone(searching, method, str(path), queries, threads)
                row = f"{queries} | {METHODS[method]} | {ready:.2f} | {seconds:.2f}"
                print(f"| {row} | {memory:.0f} |", flush=True)
        path.unlink()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    scale, device = SMOKE if options.smoke else Scale(), pick_device()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{name}, {options.threads} threads, torch {torch.__version__}", flush=True)
    exports = all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "onnxscript")))
    work = {
        "embed": embedding,
        "latency": latency,
        "onnx": lambda scale, folder: onnx(scale, folder, options.threads) if exports else None,
        "search": lambda scale, folder: search(scale, folder, options.threads),
    }
    for part in options.only:
        with tempfile.TemporaryDirectory() as folder:
            work[part](scale, Path(folder))


if __name__ == "__main__":
    main()
