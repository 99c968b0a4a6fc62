"""What was meant by a target that no rule makes."""

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pgfl.config.experiment import Config
from pgfl.config.load import WORKFLOW
from pgfl.errors import UserError
from pgfl.runtime.messages import did_you_mean

BY_EXPERIMENT = ("data", "cache", "runs")
"""Top folders whose second level is the experiment's name."""
RESULTS = "results"
"""The folder of the deliverables."""


def check_targets(unknown: Iterable[str], config: Config, known: Iterable[str]) -> None:
    """Say of each target that nothing makes what is wrong with it.

    Args:
        unknown: targets that are neither rules nor outputs of one.
        config: the configuration.
        known: names of rules and of the files that people ask for most.

    Raises:
        UserError: a line for each, if there is any.
    """
    names = list(known)
    lines = [f"target {target}: {_reason(target, config, names)}" for target in unknown]
    if lines:
        raise UserError("\n".join(lines))


def is_own_file(target: str) -> bool:
    """Whether a target that no rule makes is a file of the user's own, with nothing to be done.

    A result is none: one that another experiment left there must not pass for this one's.
    """
    return Path(target).exists() and PurePosixPath(os.path.relpath(target)).parts[0] != RESULTS


def _reason(target: str, config: Config, known: list[str]) -> str:
    reason = next(_wrong_parts(PurePosixPath(target).parts, config), None)
    if reason is not None:
        return reason
    close = difflib.get_close_matches(target, known, n=1)
    if close:
        return f"no rule makes this; did you mean {close[0]!r}?"
    return "no rule makes this; `snakemake -n` lists what the configuration asks for"


def _of_another(parts: tuple[str, ...], config: Config) -> str:
    """What is wrong with a result of the study asked for in another experiment, or the reverse."""
    if config.experiment == "study":
        return f"the study's results lie apart: {PurePosixPath(config.results, *parts[1:])}"
    return "belongs to another experiment; add --config experiment=study"


def _wrong_parts(parts: tuple[str, ...], config: Config) -> Iterator[str]:
    """What is wrong with each folder of `runs/{experiment}/{train}/{variant}/...` and its like."""
    if parts[:1] == (RESULTS,) and (parts[1:2] == ("study",)) != (config.experiment == "study"):
        yield _of_another(parts, config)
    if len(parts) < 3 or parts[0] not in BY_EXPERIMENT:
        return
    top, experiment, train, *rest = parts
    if experiment != config.experiment:
        experiments = sorted(path.stem for path in (WORKFLOW / "experiments").glob("*.yaml"))
        if experiment in experiments:
            yield f"belongs to another experiment; add --config experiment={experiment}"
        yield f"no experiment {experiment!r}; {did_you_mean(experiment, experiments)}"
    if top != "runs":
        return
    if train not in config.train_sets:
        if train in config.test_sets:
            yield (
                f"{train} is a test-only set; its models are trained on "
                f"{config.trained_on(train)}: runs/{experiment}/{config.trained_on(train)}/..."
            )
        yield f"no training set {train!r}; {did_you_mean(train, config.train_sets)}"
    if rest and rest[0] not in config.recipes:
        yield f"no variant {rest[0]!r}; {did_you_mean(rest[0], config.recipes)}"
    test_set = rest[3].partition(".")[0] if len(rest) == 4 and rest[2] == "eval" else ""
    if test_set and test_set not in config.test_sets:
        yield f"no test set {test_set!r}; {did_you_mean(test_set, config.test_sets)}"
