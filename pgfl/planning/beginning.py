"""What a run says before its first job: what it trains, on which data, and what is missing.

The Snakefile imports this, so it stays light.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from pgfl.config.experiment import Config
from pgfl.config.sources import WEIGHTS
from pgfl.datasets.registry import SOURCES
from pgfl.nn.settings import TIMM
from pgfl.planning.arguments import as_json
from pgfl.planning.heatmaps import HeatmapPlan, missing_line
from pgfl.planning.results import Results
from pgfl.untrusted.obtain import Source, can_be_had, explain_missing
from pgfl.untrusted.obtain import find as find_source

ARCHIVES = {source.name: dataset for dataset, source in SOURCES.items()}
"""The data set that each archive brings."""
EXTRACTING = ("extract", "extract_lists")
TABLES_WITH_GAPS = ("dataset_table", "table", "comparison")


class Rule(Protocol):
    """As Snakemake has it."""

    name: str


class Job(Protocol):
    """The part of Snakemake's jobs that is looked at."""

    rule: Rule
    wildcards_dict: Mapping[str, str]
    input: Sequence[str]
    output: Sequence[str]


@dataclass(frozen=True)
class Machine:
    """Where the jobs run, if it is this machine."""

    cores: int | None
    gpus: int


def missing_files(config: Config, jobs: Iterable[Job]) -> list[str]:
    """One line for every file that none of these jobs could get."""
    lines = set()
    for job in jobs:
        if job.rule.name in ("get_archive", "get_weights"):
            lines.add(_missing_file(config, job))
        elif job.rule.name == "missing_heatmaps":
            lines.add(missing_line(job.output[0]))
    return sorted(lines - {""})


def plan_lines(
    config: Config,
    heatmaps: HeatmapPlan,
    jobs: Sequence[Job],
    unpacked: Callable[[str], str],
    machine: Machine | None,
) -> Iterator[str]:
    """A few lines: the models that these jobs train, where, and on which files.

    Args:
        config: complete.
        heatmaps: of the experiment.
        jobs: those that will run.
        unpacked: the folder that a data set lies in unpacked, or an empty text.
        machine: what the jobs share; None on a cluster.
    """
    models: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for job in jobs:
        if job.rule.name == "train":
            of = job.wildcards_dict
            models[of["train"]][of["variant"]].add(int(of["seed"]))
    count = sum(len(seeds) for variants in models.values() for seeds in variants.values())
    yield f"Experiment {config.experiment}: {_counted(count, 'model')} to train."
    for train, variants in sorted(models.items()):
        seeds = ", ".join(map(str, sorted(set().union(*variants.values()))))
        yield f"  on {train}: {', '.join(sorted(variants))} (seed {seeds})"
    if count and machine is not None:
        gpus = _counted(machine.gpus, "GPU") if machine.gpus else "no GPU, so on the CPU"
        yield f"  this machine: {gpus}; {machine.cores} cores for all jobs together"
    if files := sorted({_origin(config, job, unpacked) for job in jobs} - {""}):
        yield f"  of {', '.join(files)}"
    if own := sorted({file for job in jobs for file in job.input if file in heatmaps.own}):
        yield f"  with heatmaps of your own: {', '.join(own)}"


def misfits(config: Config, jobs: Iterable[Job]) -> list[str]:
    """What is wrong with the networks of these jobs' trainings; only timm knows its channels.

    A process of its own asks, since planning imports no torch.
    """
    variants = {job.wildcards_dict["variant"] for job in jobs if job.rule.name == "train"}
    recipes = [config.recipe(variant) for variant in variants]
    reads = {"method", "model", "settings"}
    asked = {
        as_json(recipe.model_dump(mode="json", include=reads))
        for recipe in recipes
        if recipe.model.backbone.startswith(TIMM)
    }
    lines = []
    for given in sorted(asked):
        command = [sys.executable, "-m", "pgfl", "config", "fits", "--settings", given]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode != 0:
            lines += answer.stderr.strip().splitlines()
    return list(dict.fromkeys(lines))


def in_the_way(others: str, locked: bool) -> str:
    """One line about another Snakemake in this folder, or nothing.

    Args:
        others: those that are alive, in words; empty where there is none.
        locked: whether Snakemake's own lock is there, which outlives a killed process.
    """
    if others:
        return (
            f"Another Snakemake is at work in this folder ({others}). Wait until it is done, or "
            "stop it, then type the same command again. No --unlock while it runs."
        )
    if locked:
        return (
            "The last Snakemake here was killed. Type `snakemake --unlock`, then the same command "
            "goes on where it was."
        )
    return ""


def left_out_by(results: Results, jobs: Iterable[Job]) -> list[str]:
    """The list of what these jobs go without, as far as it concerns them."""
    jobs = list(jobs)
    if {job.rule.name for job in jobs} & {"all", "html_report"}:
        return results.left_out()
    tables = [job for job in jobs if job.rule.name in TABLES_WITH_GAPS]
    return results.left_out_of(sorted(PurePosixPath(job.output[0]).stem for job in tables))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _wanted(config: Config, job: Job) -> tuple[Source, Path | None, str]:
    """What a job that gets a file looks for: the source, the user's own file, and an address."""
    if job.rule.name == "get_archive":
        dataset = ARCHIVES[job.wildcards_dict["archive"]]
        source, own = SOURCES[dataset], config.archives.files.get(dataset)
    else:
        source, own = WEIGHTS[job.wildcards_dict["network"]], None
    return source, Path(own) if own else None, config.archives.urls.get(source.name, "")


def _missing_file(config: Config, job: Job) -> str:
    """One line about a file that a job cannot get, or nothing."""
    source, own, url = _wanted(config, job)
    folder = Path(config.archives.folder)
    if can_be_had(source, folder, own, url):
        return ""
    if own is not None:
        return f"{own} is missing, but archives.files names it for {source.name}."
    return explain_missing(source, folder)


def _origin(config: Config, job: Job, unpacked: Callable[[str], str]) -> str:
    """Where a file or an unpacked data set comes from, in a few words, or nothing."""
    if job.rule.name == "draw_archive":
        return f"{job.wildcards_dict['archive']} (drawn)"
    if job.rule.name in EXTRACTING:
        dataset = job.wildcards_dict.get("dataset", "occluded_duke")
        folder = unpacked(dataset)
        return f"{SOURCES[dataset].title} (from folder {folder})" if folder else ""
    if job.rule.name not in ("get_archive", "get_weights"):
        return ""
    source, own, _ = _wanted(config, job)
    local = find_source(source, Path(config.archives.folder), own)
    if _missing_file(config, job):
        where = "MISSING"
    elif local is not None:
        where = f"from {local}"
    else:
        where = "to be downloaded"
    return f"{source.name} ({where})"
