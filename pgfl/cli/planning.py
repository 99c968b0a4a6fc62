"""Commands that look at the workflow as a whole: how far it is, what it will cost."""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_BETWEEN_PLANS = 60.0

Targets = Annotated[
    list[str] | None, typer.Argument(help="Files that the workflow makes; default: all.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--config", help="key=value, as Snakemake's --config; once for each."),
]


@app.command("status")
def status(
    targets: Targets = None,
    config: Settings = None,
    watch: Annotated[bool, typer.Option(help="Look again and again until Ctrl-C.")] = False,
    plan: Annotated[
        bool, typer.Option(help="Ask Snakemake what is left; takes a few seconds.")
    ] = True,
) -> None:
    """Show each training's epoch, losses, time left and device, and what is left to do."""
    from pgfl.config.load import load_config, read_yaml
    from pgfl.planning.plan import make_plan
    from pgfl.planning.status import left_lines, progress_lines

    given = dict(pair.partition("=")[::2] for pair in config or [])
    experiment = given.get("experiment")
    if experiment is None:
        experiment = load_config(read_yaml(Path("config.yaml"))).experiment
    left: list[str] = []
    planned = 0.0
    with suppress(KeyboardInterrupt):
        while True:
            if plan and (not left or time.monotonic() - planned > SECONDS_BETWEEN_PLANS):
                found = make_plan(targets or (), config or ())
                left = [*left_lines(found.jobs), *found.left_out]
                planned = time.monotonic()
            shown = [f"Experiment {experiment}", *progress_lines(Path(), experiment), *left]
            if not watch:
                print("\n".join(shown))
                return
            _redraw(shown)
            time.sleep(SECONDS_BETWEEN_LOOKS)


@app.command("costs")
def costs(
    targets: Targets = None,
    config: Settings = None,
    tflops: Annotated[
        float, typer.Option(min=0.001, help="Assumed useful speed of a GPU, 10^12 operations/s.")
    ] = 30.0,
    left: Annotated[bool, typer.Option("--left", help="Only what is not done yet.")] = False,
) -> None:
    """Count the jobs of the workflow by stage, and estimate their GPU hours."""
    import torch

    from pgfl.config.load import load_config
    from pgfl.planning.costs import cost_lines
    from pgfl.planning.plan import make_plan

    torch.set_num_threads(1)  # one image at a time is little work
    plan = make_plan(targets or (), config or ())
    jobs = [job for job in plan.jobs if job.needed or not left]
    print("\n".join(cost_lines(load_config(plan.config), jobs, Path(), tflops)))
    print(
        f"\nAn estimate: multiply-accumulates, two operations each, at {tflops:g} x 10^12 "
        "operations per second.\n"
        "Reading images, and what tables and figures compute, is not in it."
    )
    if plan.left_out:
        print("", *plan.left_out, sep="\n")


def _redraw(lines: list[str]) -> None:
    """Lines over those of the last time, from the terminal's top left corner: nothing flickers."""
    width = shutil.get_terminal_size().columns
    # After each line what stood there before is wiped, and after the last one the rest.
    page = "".join(f"{line[:width]}\033[K\n" for line in lines)
    print(f"\033[H{page}\033[J", end="", flush=True)
