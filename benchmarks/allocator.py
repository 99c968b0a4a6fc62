"""What it saves to keep freed memory, in time, and what it costs, in memory.

    python benchmarks/allocator.py [--threads 2] [--only NAME ...] [--smoke]

Prints a Markdown table: the same work in processes that leave glibc's allocator as it is and in
such that keep what they free (`pgfl.runtime.allocator`), as every `pgfl` command does. On a CPU;
weights and images are random. `--smoke` makes everything tiny, to see that it runs.
"""

import argparse
import platform
import time
from collections.abc import Callable

import torch
from processes import alone, peak_mib
from training import BASELINE, SMOKE, Scale, Trainer, random_batch

from pgfl.pose.hrnet import PoseNetwork
from pgfl.runtime.allocator import keep_freed_memory
from pgfl.runtime.devices import autocast

CPU = torch.device("cpu")
WARM_UP = 3
"""Rounds until freed blocks of every size lie ready."""


def training(scale: Scale, method: dict) -> Callable[[], None]:
    """A step of training."""
    trainer, batch = Trainer(scale.recipe(method), CPU), random_batch(scale, CPU)
    return lambda: trainer.step(batch)


def pose(scale: Scale, precision: str) -> Callable[[], None]:
    """HRNet over a batch of 16."""
    network = PoseNetwork(scale.estimator)
    network.eval()  # MMPose's own returns nothing
    network.to(memory_format=torch.channels_last)
    images = torch.randint(256, (16, scale.height, scale.width, 3)).byte()

    def run() -> None:
        with torch.no_grad(), autocast(CPU, precision):
            network(images)

    return run


WORK: dict[str, tuple[Callable[..., Callable[[], None]], dict | str]] = {
    "ReID step": (training, BASELINE),
    "PGFL-KD step": (training, {}),
    "HRNet, fp32": (pose, "fp32"),
    "HRNet, bf16": (pose, "bf16"),
}


def measure(name: str, scale: Scale, threads: int, keep: bool) -> tuple[float, float]:
    """Seconds of a round, the best of some, and the process's peak in MiB."""
    if keep:
        keep_freed_memory()
    torch.set_num_threads(threads)
    make, how = WORK[name]
    run = make(scale, how)
    seconds = []
    for number in range(WARM_UP + scale.rounds):
        start = time.perf_counter()
        run()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - start)
    return min(seconds), peak_mib()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    scale = SMOKE if options.smoke else Scale()
    print(f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}\n")
    print("| work | s | s, kept | ratio | MiB | MiB, kept | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.only:
        (slow, small), (fast, large) = (
            alone(measure, name, scale, options.threads, keep) for keep in (False, True)
        )
        times = f"{slow:.3f} | {fast:.3f} | {slow / fast:.2f}"
        print(
            f"| {name} | {times} | {small:.0f} | {large:.0f} | {large / small:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
