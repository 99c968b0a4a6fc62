"""The parts of `make gpu`: each measures something and prints its section as Markdown.

    python benchmarks/gpu_parts.py PART DEVICE SECONDS [--small]

Started by gpu.py, in a process of its own. A part keeps its time by itself: what does not fit any
more is named and left out, and so is what needs a package that is not installed.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from gpu import BROKE, DONE, FAILED, LEFT_OUT, PARTS, ROOT, SHORTENED

Result = TypeVar("Result")

PACKAGES = (
    "torch", "numpy", "opencv-python-headless", "pillow", "pydantic", "safetensors", "pandas",
    "h5py", "scipy", "lightning-fabric", "pytorch-lightning", "mmpose", "mmcv-lite",
    "onedl-mmengine", "pytest", "hypothesis", "snakemake", "triton",
)  # fmt: skip
FIRST_STEPS = {"fp32": 5, "bf16": 1, "fp16": 1}
"""Over so many steps losses have to equal the CPU's in fp32; later ones drift apart, those of half
precision from the first update on."""
EQUAL_LOSSES = {"fp32": 2e-3, "bf16": 0.03, "fp16": 0.01}
"""How far they may be from them, as a share: bf16 on a CPU is up to 0.005 off in the first."""


class Work:
    """What a part is given, and what became of its pieces."""

    def __init__(self, device: torch.device, seconds: float, small: bool):
        self.device, self.small = device, small
        self._end = time.monotonic() + seconds
        self.shortened: list[str] = []
        self.missing: dict[str, list[str]] = {}
        self.failed: list[str] = []
        self.done = 0

    @property
    def on_gpu(self) -> bool:
        """Whether it is the real thing."""
        return self.device.type == "cuda"

    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def piece(self, name: str, work: Callable[[], Result], needs: float = 2.0) -> Result | None:
        """Do a piece of the part; what goes wrong with it is said, and the part goes on.

        Args:
            name: what it is called.
            work: gives its result.
            needs: seconds; with less left it is not begun.
        """
        if self.left() < needs:
            self.shortened.append(name)
            return None
        with self.guarded(name):
            result = work()
            self.done += 1
            return result
        if self.on_gpu:
            torch.cuda.empty_cache()
        return None

    @contextlib.contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """What goes wrong inside is noted, and no more."""
        try:
            yield
        except ModuleNotFoundError as error:
            self.missing.setdefault(str(error.name), []).append(name)
        except torch.cuda.OutOfMemoryError:
            self.failed.append(f"{name}: does not fit into the GPU's memory")
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            self.failed.append(f"{name}: {type(error).__name__}: {lines[0][:300]}")
            traceback.print_exc()

    def end(self) -> int:
        """Say what was left out or went wrong; the part's exit status."""
        for package, names in self.missing.items():
            print(f"\nLeft out, since the package `{package}` is missing: {', '.join(names)}.")
        if self.shortened:
            print(f"\nLeft out for want of time: {', '.join(self.shortened)}.")
        for failure in self.failed:
            print(f"\n**Failed:** {failure}")
        if self.failed:
            return FAILED
        if self.missing and not self.done:
            return LEFT_OUT
        return SHORTENED if self.shortened or self.missing else DONE

    def precisions(self) -> list[str]:
        """Those that the device computes in, the most used first."""
        from agreement import precisions

        return sorted(precisions(self.device))


def row(*cells: object) -> None:
    """A row of a Markdown table, at once on the page."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def table(title: str, *heads: str) -> None:
    """The head of a Markdown table: its first column is text, the others are numbers."""
    print(f"\n### {title}\n" if title else "")
    row(*heads)
    row("---", *["---:"] * (len(heads) - 1))


def finish(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_each(
    work: dict[str, Callable[[], object]], device: torch.device, budget: float, most: int = 30
) -> dict[str, float]:
    """Seconds a call, the median of five rounds in which they take turns, after warming up.

    Calls of a round are given to the device one after the other and waited for once.

    Args:
        work: by name.
        device: that computes.
        budget: seconds for all of it, about.
        most: calls a round.
    """
    calls = {}
    for name, call in work.items():
        call()
        call()
        finish(device)
        start = time.perf_counter()
        call()
        finish(device)
        one = time.perf_counter() - start
        calls[name] = max(1, min(most, int(budget / len(work) / 6 / max(one, 1e-6))))
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(5 if budget > 5 else 1):
        for name, call in work.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                call()
            finish(device)
            found[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(times) for name, times in found.items()}


@contextlib.contextmanager
def switches(
    tf32: bool = False, deterministic: bool = True, fill: bool = True, trials: bool = False
) -> Iterator[None]:
    """PyTorch's switches as training sets them: strict, no TF32; put back afterwards.

    Args:
        tf32: factors of fp32 products and convolutions rounded to 10 bits.
        deterministic: only operations that repeat their bits.
        fill: whether strict mode also fills memory that nothing was written to yet.
        trials: whether cuDNN tries its algorithms.
    """
    backends, filling = torch.backends, torch.utils.deterministic
    before = backends.cudnn.allow_tf32, backends.cudnn.benchmark
    product, filled = backends.cuda.matmul.allow_tf32, filling.fill_uninitialized_memory
    strict = torch.are_deterministic_algorithms_enabled()
    try:
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = tf32
        backends.cudnn.benchmark = trials
        filling.fill_uninitialized_memory = fill
        torch.use_deterministic_algorithms(deterministic)
        yield
    finally:
        backends.cudnn.allow_tf32, backends.cudnn.benchmark = before
        backends.cuda.matmul.allow_tf32, filling.fill_uninitialized_memory = product, filled
        torch.use_deterministic_algorithms(strict)


# The machine ------------------------------------------------------------------------------------


def machine(work: Work) -> None:
    """What it is, what is installed, and two ceilings: arithmetic and memory."""
    table("", "", "")
    row("processor", f"{_processor()}, {len(os.sched_getaffinity(0))} cores")
    if work.on_gpu:
        found = torch.cuda.get_device_properties(work.device)
        row("GPU", f"{found.name}, compute capability {found.major}.{found.minor}")
        row("its memory", f"{found.total_memory / 2**30:.1f} GiB")
        row("driver", _driver())
        row("CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}")
    row("Python", platform.python_version())
    for package in PACKAGES:
        try:
            row(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            row(package, "not installed")
    work.done += 1
    work.piece("ceilings", lambda: _ceilings(work))


def _processor() -> str:
    from pgfl.runtime.devices import device_name

    return device_name(torch.device("cpu"))


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "nvidia-smi does not answer"
    return found.stdout.splitlines()[0] if found.stdout.strip() else "nvidia-smi does not say"


def _ceilings(work: Work) -> None:
    size = 8192 if work.on_gpu else 256
    table("Ceilings", f"product of {size} x {size} matrices", "TFLOP/s")
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        for tf32 in (False, True) if name == "fp32" and work.on_gpu else (False,):
            a, b = (torch.randn(size, size, device=work.device).to(kind) for _ in range(2))
            with switches(tf32=tf32, deterministic=False):
                found = seconds_each({"": lambda a=a, b=b: a @ b}, work.device, 1.0)[""]
            row(f"{name}{' (TF32)' * tf32}", f"{2 * size**3 / found / 1e12:.3g}")
    source = torch.randn(size * size * (16 if work.on_gpu else 1), device=work.device)
    target = torch.empty_like(source)
    found = seconds_each({"": lambda: target.copy_(source)}, work.device, 1.0)[""]
    print(
        f"\nMemory is copied at {2 * source.numel() * 4 / found / 1e9:.0f} GB/s, read and written."
    )


# Agreement --------------------------------------------------------------------------------------


def agreement(work: Work) -> None:
    """Every check of agreement.py, in every precision."""
    from agreement import CHECKS, full_fp32

    table("", "what, and in which precision", "error", "allowed", "")
    for precision in reversed(work.precisions()):
        for name, check in CHECKS.items():

            def compare(name: str = name, precision: str = precision, check: Any = check) -> None:
                with full_fp32():
                    for found in check(work.device, precision):
                        verdict = "" if found.agrees else "**no**"
                        error = f"{found.error:.1e}"
                        row(f"{found.what}, {precision}", error, f"{found.allowed:.1e}", verdict)
                        if not found.agrees:
                            work.failed.append(f"{found.what}, {precision}: error {error}")

            work.piece(f"{name} in {precision}", compare)
    print(
        "\nErrors are the length of the difference over the length of what the CPU computes in "
        "fp32 (TF32 off)."
    )


# A training step --------------------------------------------------------------------------------


def step(work: Work) -> None:
    """The paper's batch: each recipe beside a bare ResNet-50 in the same precision; memory."""
    from training import BASELINE, SHARED, SMOKE, Scale

    scale = SMOKE if work.small else Scale()
    recipes = {
        "baseline": scale.recipe(BASELINE),
        "PGFL-KD, `shared`": scale.recipe(SHARED),
        "PGFL-KD, `separate`": scale.recipe({}),
    }
    count = scale.identities * scale.images
    print(
        f"{count} images of {scale.height}x{scale.width}, {scale.backbone}, data already on the "
        "device, PyTorch's switches as training has them (strict). The bare "
        "network is forward, backward and a fused Adam step on normalised pixels, with the same "
        "switches. Aim: a share of 90 % for `shared`, which has the same network."
    )
    modes = [(name, False) for name in work.precisions()]
    if work.on_gpu:
        modes.insert(1, ("fp32", True))
    each = work.left() * 0.75 / len(modes)
    table("", "step", "ms", "img/s", "bare network's speed", "peak memory, MiB")
    for precision, tf32 in modes:
        name = precision + " (TF32)" * tf32

        def measure(name: str = name, precision: str = precision, tf32: bool = tf32) -> None:
            with switches(tf32=tf32):
                _steps(work, scale, recipes, precision, name, each)

        work.piece(f"steps in {name}", measure, needs=each / 2)
    if work.on_gpu:
        work.piece("switches", lambda: _switched(work, scale, recipes["PGFL-KD, `separate`"]), 10)


def _steps(
    work: Work, scale: Any, recipes: dict[str, Any], precision: str, name: str, budget: float
) -> None:
    from trainer import Trainer
    from training import random_batch

    batch = random_batch(scale, work.device)
    count = len(batch.labels)
    calls: dict[str, Callable[[], object]] = {"bare network": _bare(scale, work.device, precision)}
    memory = {}
    for recipe, settings in recipes.items():
        trainer = Trainer(settings, work.device, precision=precision)
        if work.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            others = torch.cuda.memory_allocated() - _size(trainer)
            trainer.step(batch)
            trainer.step(batch)
            memory[recipe] = (torch.cuda.max_memory_allocated() - others) / 2**20
        calls[recipe] = lambda trainer=trainer: trainer.step(batch)
    found = seconds_each(calls, work.device, budget)
    for what, seconds in found.items():
        share = f"{found['bare network'] / seconds:.1%}"
        peak = f"{memory[what]:.0f}" if what in memory else ""
        row(f"{what}, {name}", f"{1000 * seconds:.1f}", f"{count / seconds:.0f}", share, peak)


def _size(trainer: Any) -> int:
    """Bytes of a network's parameters and buffers."""
    model = trainer.model
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])


def _bare(scale: Any, device: torch.device, precision: str) -> Callable[[], None]:
    """Forward, backward and update of nothing but the backbone and a classifier."""
    from trainer import cast

    from pgfl.nn.resnet import build_resnet

    network = build_resnet(scale.backbone).to(device, memory_format=torch.channels_last)
    classifier = torch.nn.Linear(network.channels, 702).to(device)
    weights = [*network.parameters(), *classifier.parameters()]
    optimizer = torch.optim.Adam(weights, 3.5e-4, weight_decay=5e-4, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    count = scale.identities * scale.images
    pixels = torch.randn(count, 3, scale.height, scale.width, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count, device=device) % 702

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with cast(device, precision):
            logits = classifier(network(pixels).mean(dim=(2, 3)))
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _switched(work: Work, scale: Any, recipe: Any) -> None:
    """What strictness costs."""
    from trainer import Trainer
    from training import random_batch

    batch = random_batch(scale, work.device)
    precision = work.precisions()[0]
    ways = {
        "strict, as training has it": {},
        "strict, but unwritten memory is not filled": {"fill": False},
        "not strict": {"deterministic": False},
        "not strict, cuDNN tries its algorithms": {"deterministic": False, "trials": True},
    }
    table(f"What strictness costs (PGFL-KD, `separate`, {precision})", "switches", "ms")
    for name, how in ways.items():
        if work.left() < 4:
            work.shortened.append(f"switches: {name}")
            continue
        with switches(**how):
            trainer = Trainer(recipe, work.device, precision=precision)
            run = {"": lambda trainer=trainer: trainer.step(batch)}
            row(
                name, f"{1000 * seconds_each(run, work.device, min(5.5, work.left() / 3))['']:.1f}"
            )


# Ten epochs -------------------------------------------------------------------------------------


def training(work: Work) -> None:
    """Real trainings on drawn people, at the study's settings, by the training stage itself."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        drawn = work.piece("drawing people", lambda: _drawn(work, folder))
        if drawn is None:
            return
        manifest, maps = drawn
        work.piece("first steps", lambda: _first_steps(work, manifest, maps))
        runs = {}
        for precision in work.precisions():
            found = work.piece(
                f"ten epochs in {precision}",
                lambda precision=precision: _trained(work, manifest, maps, precision, folder),
                needs=max([5.0, *(run["seconds"] * 1.1 for run in runs.values())]),
            )
            if found is not None:
                runs[precision] = found
        if not runs:
            return
        table("The mean loss of each epoch", "epoch", *runs)
        for epoch in range(max(len(run["losses"]) for run in runs.values())):
            row(epoch + 1, *(f"{run['losses'][epoch]:.4f}" for run in runs.values()))
        row("seconds", *(f"{run['seconds']:.1f}" for run in runs.values()))
        row("Rank-1 of the student", *(f"{run['rank1']:.1f}" for run in runs.values()))
        row("mAP of the student", *(f"{run['mAP']:.1f}" for run in runs.values()))
        row("mAP of random features", *(f"{run['chance']:.1f}" for run in runs.values()))


def _study(work: Work, precision: str) -> Any:
    """The study's recipe for ten epochs."""
    from pgfl.config.recipe import Recipe, TrainingSettings

    if precision not in TrainingSettings.model_fields["precision"].annotation.__args__:
        raise ValueError(f"this version's training.precision does not know {precision}")
    size = {"height": 64, "width": 32} if work.small else {"height": 128, "width": 64}
    return Recipe.parse(
        {
            "model": {"backbone": "resnet18", "pretrained": False} | size,
            "training": {
                "epochs": 2 if work.small else 10,
                "identities": 2 if work.small else 16,
                "images": 2 if work.small else 4,
                "milestones": [1] if work.small else [6, 9],
                "learning_rate": 1e-3,
                "precision": precision,
                "augment": {"pad": 4},
            },
        }
    )


def _drawn(work: Work, folder: Path) -> tuple[Path, Path]:
    """A drawn Market-1501 and the maps of its people's true joints: manifest and store."""
    from pgfl.datasets import market1501
    from pgfl.datasets.archives import extract
    from pgfl.datasets.manifest import build_manifest, write_manifest
    from pgfl.datasets.synthetic.archives import synthesize
    from pgfl.datasets.synthetic.settings import SyntheticSettings
    from pgfl.pose.settings import PoseSettings
    from pgfl.pose.true_joints import make_true_heatmaps

    people = (4, 4) if work.small else (160, 60)
    height, width = (64, 32) if work.small else (128, 64)
    settings = SyntheticSettings(
        difficulty=0.6,
        height=height,
        width=width,
        train_identities=people[0],
        test_identities=people[1],
        images=4 if work.small else 8,
    )
    archive, data = folder / "drawn.zip", folder / "data"
    synthesize("market1501", archive, settings)
    extract(archive, "market1501", data / "images")
    found, junk = build_manifest(market1501.read(data / "images"), data)
    write_manifest(found, junk, data / "manifest.csv")
    joints = archive.with_name(archive.name + ".joints.npz")
    pose = PoseSettings(height=height, width=width)
    make_true_heatmaps(data / "manifest.csv", "train", joints, folder / "train.h5", pose)
    print(
        f"{people[0]} drawn people of {settings.images} images to train on and {people[1]} others "
        f"to be found, {height}x{width}, ResNet-18 from random weights, maps of the true joints.\n"
    )
    return data / "manifest.csv", folder / "train.h5"


def _first_steps(work: Work, manifest: Path, maps: Path) -> None:
    """The same batches and weights on the CPU in fp32 and on the device: the loss step by step."""
    from trainer import Trainer

    from pgfl.datasets.manifest import read_manifest
    from pgfl.pose.store import HeatmapReader
    from pgfl.training.data import EpochSampler, TrainingImages, make_loader

    recipe = _study(work, "fp32")
    rows = read_manifest(manifest, "train")
    images = TrainingImages(manifest.parent, rows, HeatmapReader(maps), recipe)
    loader = make_loader(images, EpochSampler(images.labels, recipe, seed=0), workers=0)
    batches = [batch for batch, _ in zip(loader, range(2 * FIRST_STEPS["fp32"]), strict=False)]
    torch.manual_seed(0)
    start = Trainer(recipe, torch.device("cpu"), images.num_identities, "fp32")
    weights = {name: value.clone() for name, value in start.model.state_dict().items()}
    columns = {"CPU, fp32": [float(start.step(batch)) for batch in batches]}
    where = "GPU" if work.on_gpu else "CPU again"
    for precision in work.precisions():
        with switches():
            trainer = Trainer(recipe, work.device, images.num_identities, precision)
            trainer.model.load_state_dict(weights)
            columns[f"{where}, {precision}"] = [
                float(trainer.step(batch.mapped(lambda t: t.to(work.device)))) for batch in batches
            ]
    table("The loss of the first steps, from the same weights and batches", "step", *columns)
    for place in range(len(batches)):
        row(place + 1, *(f"{column[place]:.5f}" for column in columns.values()))
    for name, got in list(columns.items())[1:]:
        precision = name.rpartition(" ")[2]
        want, allowed = columns["CPU, fp32"][: FIRST_STEPS[precision]], EQUAL_LOSSES[precision]
        apart = max(abs(g - w) / w for g, w in zip(got, want, strict=False))
        print(
            f"\n{name}: at most {apart:.1e} of the loss away in the first {len(want)} step(s) "
            f"(allowed: {allowed:.0e})."
        )
        if not apart <= allowed:
            work.failed.append(f"{name}: a loss is {apart:.1e} away, {allowed:.0e} is allowed")
    print("Later steps drift apart by rounding, as two orders of summation on one CPU do.")


def _trained(
    work: Work, manifest: Path, maps: Path, precision: str, folder: Path
) -> dict[str, Any]:
    import pandas as pd

    from pgfl.retrieval.stage import run_evaluation
    from pgfl.training.stage import Inputs, Job, RunFiles, run_training

    out = folder / precision
    recipe = _study(work, precision)
    cores = len(os.sched_getaffinity(0))
    workers = min(8, cores - 1) if work.on_gpu else 0
    job = Job(
        RunFiles.in_folder(out), folder / f"state_{precision}", threads=cores, workers=workers
    )
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # the page is stdout
        run_training(Inputs(manifest, maps, None), recipe, 0, job)
        seconds = time.perf_counter() - start
        report = run_evaluation(
            out / "model.safetensors",
            manifest,
            out / "report.json",
            metric="cosine",
            feature="after_bnneck",
            batch_size=64,
        )
    history = pd.read_csv(out / "history.csv")
    return {
        "losses": list(history["loss"]),
        "seconds": seconds,
        "rank1": report["rank1"],
        "mAP": report["mAP"],
        "chance": report["chance"]["mAP"],
    }


# The loader -------------------------------------------------------------------------------------


def loader(work: Work) -> None:
    """Training from JPEG files by the real loader: the share of the time that waits for it."""
    from dataclasses import replace

    from trainer import Trainer
    from training import SMOKE, Scale, draw, train_an_epoch

    from pgfl.pose.store import HeatmapReader
    from pgfl.training.data import TrainingImages

    scale = SMOKE if work.small else replace(Scale(), people=32, shots=32)
    cores = len(os.sched_getaffinity(0))
    precision = work.precisions()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = work.piece("drawing people", lambda: draw(folder, (128, 64), scale))
        if rows is None:
            return
        print(
            f"{len(rows)} JPEG files of 128x64, {scale.backbone} at {scale.height}x{scale.width} "
            f"in {precision}, `separate`; the second epoch. {cores} cores."
        )
        table("", "loader processes", "share of the time that waits", "img/s")
        for workers in sorted({1, min(4, cores), min(8, cores), max(1, cores - 2)}):

            def measure(workers: int = workers) -> None:
                with switches():
                    trainer = Trainer(scale.recipe({}), work.device, scale.people, precision)
                    reader = HeatmapReader(folder / "train.h5")
                    images = TrainingImages(folder, rows, reader, trainer.recipe)
                    waits, rate = train_an_epoch(trainer, images, workers)
                row(workers, f"{waits:.1%}", f"{rate:.0f}")

            work.piece(f"{workers} loader processes", measure, needs=1 if work.small else 6)


# HRNet ------------------------------------------------------------------------------------------


def pose(work: Work) -> None:
    """Images per second of the pose stage's own functions, random weights."""
    import numpy as np

    from pgfl.pose.heatmaps import part_maps
    from pgfl.pose.hrnet import PoseNetwork, estimate, ready
    from pgfl.pose.settings import PoseSettings
    from pgfl.pose.views import make_view

    estimator = "hrnet_small" if work.small else "hrnet_w48"
    sizes = ((64, 32),) if work.small else ((384, 128), (256, 192))

    def build() -> Any:
        with contextlib.redirect_stdout(sys.stderr):
            return ready(PoseNetwork(estimator)).to(work.device)

    network = work.piece(f"{estimator} (MMPose)", build)
    if network is None:
        return
    print(f"{estimator}, random weights, pixels to merged maps back on the CPU.")
    half = "fp16" if work.on_gpu else "bf16"
    table("", "input, images at a time", "fp32, img/s", f"{half}, img/s")
    for height, width in sizes:
        settings = PoseSettings(height=height, width=width)
        view = make_view(settings, network.shift_flipped)
        for count in (2,) if work.small else (16, 64):
            pixels = torch.randint(256, (count, height, width, 3)).byte()
            shapes = np.array([(height, width)] * count)

            def once(precision: str, pixels: Any = pixels, shapes: Any = shapes) -> None:
                given = pixels.pin_memory() if work.on_gpu else pixels
                given = given.to(work.device, non_blocking=True)
                raw = estimate(network, view, given, shapes, precision=precision)  # noqa: B023
                part_maps(raw, 10.0).cpu()

            def measure(height: int = height, width: int = width, count: int = count) -> None:
                with switches(deterministic=False):
                    calls = {kind: lambda kind=kind: once(kind) for kind in ("fp32", "half")}
                    found = seconds_each(calls, work.device, 6.0 if work.on_gpu else 0.5)
                rates = (f"{count / found[kind]:.0f}" for kind in ("fp32", "half"))
                row(f"{height}x{width}, {count}", *rates)

            work.piece(f"{height}x{width}, {count} at a time", measure, needs=5)


# The student ------------------------------------------------------------------------------------


def student(work: Work) -> None:
    """`.embed` beside the bare backbone, one image, and an evaluation of Occluded-Duke's size."""
    with tempfile.TemporaryDirectory() as temporary:
        work.piece("`.embed`", lambda: _embedding(work, Path(temporary)))
    work.piece("evaluation", lambda: _evaluating(work))


def _embedding(work: Work, folder: Path) -> None:
    from inference import bare, draw, make_student

    import pgfl
    from pgfl.datasets.images import read_image

    backbone, height, width = ("resnet18", 64, 32) if work.small else ("resnet50", 384, 128)
    count, batch = (8, 4) if work.small else (2048, 64)
    path = make_student(folder, backbone, height, width)
    files = draw(folder, (128, 64), count)
    arrays = [read_image(file) for file in files]
    table(
        f"{backbone} at {height}x{width}, {batch} images at a time",
        "",
        "img/s",
        "bare backbone's speed",
    )
    for precision in ("fp32", "half"):
        ours = pgfl.load(path, device=work.device, precision=precision)
        ready = torch.randn(batch, 3, height, width, device=work.device)
        ready = [ready.contiguous(memory_format=torch.channels_last)] * (count // batch)
        calls = {
            "bare backbone": lambda ours=ours, ready=ready: bare(ours, ready),
            "`.embed` of arrays": lambda ours=ours: ours.embed(arrays, batch),
            "`.embed` of JPEG files": lambda ours=ours: ours.embed(files, batch),
            "`.embed` of one file, one at a time": lambda ours=ours: ours.embed(files[0]),
        }
        with switches(deterministic=False):
            found = seconds_each(calls, work.device, 5.0, most=3)
        for name, seconds in found.items():
            images = 1 if "one file" in name else count
            share = "" if images == 1 else f"{found['bare backbone'] / seconds:.1%}"
            row(f"{name}, {precision}", f"{images / seconds:.0f}", share)


def _evaluating(work: Work) -> None:
    import numpy as np

    from pgfl.retrieval import evaluate

    queries, gallery, channels = (50, 300, 64) if work.small else (2210, 17661, 2048)
    rng = np.random.default_rng(0)
    pids = rng.integers(0, gallery // 25, queries + gallery)
    cameras = rng.integers(0, 8, queries + gallery)
    features = rng.standard_normal((queries + gallery, channels), dtype=np.float32)
    features += rng.standard_normal((gallery // 25, channels), dtype=np.float32)[pids] / 4
    split = [part for values in (pids, cameras) for part in (values[:queries], values[queries:])]
    table(f"Evaluation, {queries} x {gallery} x {channels}", "features lie on", "s", "mAP")
    found = {}
    for where in ("cpu", work.device.type):
        ours = torch.from_numpy(features).to(where)
        for _ in range(2):  # the first one warms up
            start = time.perf_counter()
            result = evaluate(ours[:queries], ours[queries:], *split)
            seconds = time.perf_counter() - start
        found[where] = result.mAP
        row(where, f"{seconds:.3f}", f"{result.mAP:.5f}")
    if max(found.values()) - min(found.values()) > 1e-3:
        work.failed.append(f"mAP differs between the devices: {found}")


# The tests --------------------------------------------------------------------------------------


def tests(work: Work) -> None:
    """pytest of what computes on a GPU where there is one."""
    if importlib.util.find_spec("pytest") is None:
        work.missing["pytest"] = ["the tests"]
        return
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "--durations=0", "--color=no", "-rfE"]
    command += ["-p", "no:cacheprovider", "--maxfail=20"]
    if work.small:
        command += ["tests/test_agreement.py"]
    began, output = time.monotonic(), ""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            status = process.wait(timeout=max(5.0, work.left() - 3))
        except subprocess.TimeoutExpired:
            process.kill()
            status = None
        log.seek(0)
        output = log.read()
    lines = output.splitlines()
    if status is None:
        work.shortened.append(f"the tests after {time.monotonic() - began:.0f} s")
        print(f"Passed (.), failed (F), skipped (s) until then: `{_dots(lines)}`")
        return
    work.done += 1
    print(f"{lines[-1].strip('= ') if lines else 'pytest said nothing'}")
    for line in [line for line in lines if line.startswith(("FAILED", "ERROR"))][:20]:
        work.failed.append(re.sub(r"[|`*<>]", "'", line)[:300])
    if status not in (0, 5) and not work.failed:
        work.failed.append(f"pytest ended with status {status}: {lines[-1] if lines else ''}")


def _dots(lines: list[str]) -> str:
    return "".join(line.split()[0] for line in lines if re.fullmatch(r"[.FsxXE]+(\s.*)?", line))


def main() -> None:
    """Do one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("device", choices=("cuda", "cpu"))
    parser.add_argument("seconds", type=float)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    work = Work(torch.device(options.device), options.seconds, options.small)
    with work.guarded(PARTS[options.part].title):
        globals()[options.part](work)
    status = work.end()
    sys.stdout.flush()
    # Threads and worker processes of libraries do not keep it from ending.
    os._exit(status if status in (DONE, FAILED, LEFT_OUT, SHORTENED) else BROKE)


if __name__ == "__main__":
    main()
