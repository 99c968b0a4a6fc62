"""Which data sets can be made here, and which files the others lack.

What lacks a file is left out of the whole: its cells stay empty, and it is said. The Snakefile
imports this, so it stays light.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pgfl.config.experiment import Config
from pgfl.datasets.archives import holds_lists
from pgfl.datasets.registry import DATASETS, SOURCES, TRAIN_SET
from pgfl.errors import UserError
from pgfl.untrusted.obtain import Source, can_be_had, explain_missing, unreachable
from pgfl.untrusted.obtain import find as find_source

LACKING = "PGFL_LACKING"
"""Environment variable: what the first process of a run found, for those that it starts.

A node of a cluster may see other folders than the machine that planned.
"""

ARCHIVES_OF = {
    name: tuple(filter(None, (name if one.source else "", one.images_of)))
    for name, one in DATASETS.items()
}
"""The archives that each shipped data set is made of, Occluded-Duke's where it comes as lists."""


@dataclass(frozen=True)
class AtHand:
    """What can be made with the files that are here.

    A data set is at hand unless it lacks an archive; an evaluation needs two: the test set, and
    the training set of its models.
    """

    config: Config
    lacking: dict[str, dict[str, str]]
    """For each data set that is not at hand: each missing file, and a line that explains it."""

    def of_images(self, dataset: str) -> dict[str, str]:
        """The files that a data set lacks; nothing where it is at hand."""
        return self.lacking.get(dataset, {})

    def of_evaluation(self, test_set: str) -> dict[str, str]:
        """The files that an evaluation on a test set lacks; nothing where it can be made."""
        return self.of_images(test_set) | self.of_images(self.config.trained_on(test_set))

    def left_out(self, datasets: Iterable[str], images: bool = False) -> dict[str, list[str]]:
        """What a table of several data sets goes without.

        Args:
            datasets: those of the table.
            images: whether the table is about images; else it is about evaluations.

        Returns:
            For each data set that is left out, the names of the missing files. Nothing where all
            would be left out: such a table needs what is missing, and is not made.
        """
        lacks = self.of_images if images else self.of_evaluation
        found = {dataset: sorted(lacks(dataset)) for dataset in datasets}
        return {d: files for d, files in found.items() if files} if not all(found.values()) else {}

    def cannot(self, datasets: Iterable[str], images: bool = False) -> dict[str, str]:
        """The files for want of which a result cannot be made: all of its data sets lack some.

        Args:
            datasets: those that the result is made of, each of which would be enough.
            images: whether the result is about images; else it is about evaluations.
        """
        lacks = self.of_images if images else self.of_evaluation
        found = [lacks(dataset) for dataset in datasets]
        if not all(found):
            return {}
        return {name: line for files in found for name, line in files.items()}


def find_at_hand(config: Config, root: Path = Path()) -> AtHand:
    """Look for the files of every data set, once in a run.

    Where no evaluation at all could be made, nothing is left out: the start of a run then says
    all that is missing.

    Args:
        config: complete.
        root: the folder that the workflow runs in.

    Raises:
        UserError: several of the user's files could be a data set's, or a folder cannot be read.
    """
    if LACKING in os.environ:
        return AtHand(config, json.loads(os.environ[LACKING]))
    found = AtHand(config, _lacking(config, root, ask=False))
    if _something_can_be_tested(found):
        found = AtHand(config, _lacking(config, root, ask=True))
    if not _something_can_be_tested(found):
        found = AtHand(config, {})
    os.environ[LACKING] = json.dumps(found.lacking)
    return found


def _something_can_be_tested(found: AtHand) -> bool:
    own = (name for one in found.config.comparisons.values() for name in one.test_sets)
    return any(not found.of_evaluation(test_set) for test_set in {*TRAIN_SET, *own})


def _lacking(config: Config, root: Path, ask: bool) -> dict[str, dict[str, str]]:
    """The missing files of each data set; `ask`: whether addresses are tried."""
    data = root / "data" / config.experiment
    own = {"occluded_duke": ("occluded_duke",)} if is_assembled(config) else {}
    wanted = {
        dataset: archives
        for dataset, archives in (ARCHIVES_OF | own).items()
        # Where it has been made before, its archives are not needed.
        if not (data / dataset / "manifest.csv").exists()
    }
    needed = {archive for archives in wanted.values() for archive in archives}
    missing = _missing(config, {name for name in needed if not _is_kept(config, name, root)}, ask)
    found = {
        dataset: {SOURCES[name].name: missing[name] for name in archives if name in missing}
        for dataset, archives in wanted.items()
    }
    return {dataset: files for dataset, files in found.items() if files}


def is_assembled(config: Config) -> bool:
    """Whether the user's Occluded-Duke is its images, not its lists of DukeMTMC-reID's."""
    if config.is_synthetic("occluded_duke"):
        return False
    own = config.archives.files.get("occluded_duke")
    folder = Path(config.archives.folder)
    try:
        found = find_source(SOURCES["occluded_duke"], folder, Path(own) if own else None)
        return found is not None and not holds_lists("occluded_duke", found)
    except UserError:
        return False  # what is wrong will be said by whatever needs it


def _is_kept(config: Config, archived: str, root: Path) -> bool:
    """Whether an archive, or what was unpacked of it, is in the workflow's own folders."""
    data = root / "data" / config.experiment
    unpacked = data / archived / ("lists" if DATASETS[archived].lists else "images")
    return (data / "archives" / SOURCES[archived].name).exists() or unpacked.is_dir()


def _is_here(config: Config, archived: str) -> bool:
    """Whether an archive is drawn, or lies where the configuration looks: nothing is downloaded.

    A file that the configuration names counts even where it does not exist: that is a slip, which
    the start of a run reports, and no reason to go without.
    """
    if config.is_synthetic(archived) or archived in config.archives.files:
        return True
    offline = _without_addresses(SOURCES[archived])
    return can_be_had(offline, Path(config.archives.folder), None, "")


def _without_addresses(source: Source) -> Source:
    outer = source.container and _without_addresses(source.container)
    return replace(source, url="", container=outer)


def _missing(config: Config, archives: Iterable[str], ask: bool) -> dict[str, str]:
    """Those of some archives that cannot be had, each with a line that explains it."""
    folder = Path(config.archives.folder)
    away = {name: SOURCES[name] for name in archives if not _is_here(config, name)}
    urls = {name: _address(config, source) for name, source in away.items()}
    silent = unreachable({url for url in urls.values() if url}) if ask else {}
    lines = {}
    for name, source in away.items():
        if not urls[name]:
            lines[name] = explain_missing(source, folder)
        elif reason := silent.get(urls[name]):
            tried = f"{urls[name]} cannot be reached ({reason})."
            lines[name] = f"{explain_missing(source, folder)} {tried}"
    return lines


def _address(config: Config, source: Source) -> str:
    given = config.archives.urls.get(source.name)
    return given or source.url or (source.container.url if source.container else "")


def left_out_lines(
    left_out: dict[str, dict[str, str]], not_made: Iterable[str], gaps: dict[str, Iterable[str]]
) -> Iterator[str]:
    """The one list of what a run goes without, and why.

    Args:
        left_out: for each data set that is left out, its missing files and why they are.
        not_made: results that are not made at all.
        gaps: for each result with empty cells, the data sets whose cells they are.
    """
    files: dict[str, list[str]] = {}
    for dataset, missing in left_out.items():
        for line in missing.values():
            files.setdefault(line, []).append(dataset)
    if not files:
        return
    yield "Left out, since files are missing:"
    for line, datasets in sorted(files.items()):
        yield f"  {', '.join(sorted(datasets))}: {line}"
    if names := ", ".join(not_made):
        yield f"  Not made: {names}."
    for name, datasets in gaps.items():
        yield f"  Empty cells in {name}: {', '.join(datasets)}."
    yield "  With these files the same command makes the rest."
