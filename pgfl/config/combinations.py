"""Settings that are each in order but cannot go together, found before anything runs."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from pgfl.config.experiment import ComparisonSettings, Config
from pgfl.config.recipe import TrainingSettings
from pgfl.config.sources import WEIGHTS
from pgfl.datasets.registry import SOURCES
from pgfl.runtime.messages import did_you_mean, shown, shown_key
from pgfl.untrusted.obtain import ALLOWED

DOWNLOADS = {source.name for source in (*SOURCES.values(), *WEIGHTS.values())}
"""The files that `archives.urls` may name."""

RESERVED = {"archives": "data/{experiment}/archives", "heatmaps": "the state of the pose stage"}
"""Names that a data set of the user's own cannot have, and whose folder each would be."""

RECIPE = frozenset({"model", "training", "methods", "variants"})
"""The sections that decide the recipes."""


def impossible(config: Config, failed: Collection[str] = ()) -> list[str]:
    """One line for each combination that cannot be.

    Args:
        config: every value in order by itself.
        failed: sections that were not and stand at their defaults here; what needs them is left
            unsaid.
    """
    return [
        line
        for check, reads in CHECKS.items()
        if reads.isdisjoint(failed)
        for line in check(config)
    ]


def _seeds(config: Config) -> Iterator[str]:
    if twice := _repeated(config.seeds):
        yield f"setting seeds: each seed must stand there once (got {twice[0]} twice)"


def _drawn(config: Config) -> Iterator[str]:
    if config.experiment == "paper" and config.archives.source == "synthetic":
        yield (
            "setting archives.source: must be real, since experiment: paper stands beside the "
            "paper's numbers without a warning (got 'synthetic'); choose experiment: demo or study"
        )


def _urls(config: Config) -> Iterator[str]:
    for name, url in config.archives.urls.items():
        where = f"setting archives.urls.{shown_key(name)}"
        if name not in DOWNLOADS:
            yield f"{where}: no such file; {did_you_mean(name, DOWNLOADS)}"
        if not url.startswith(ALLOWED):
            allowed = " or ".join(ALLOWED)
            yield f"{where}: must start with {allowed} (got {shown(url)})"


def _own_datasets(config: Config) -> Iterator[str]:
    for name, own in config.datasets.items():
        if name in config.shipped:
            yield f"setting datasets.{name}: the name is taken; choose another"
        if name in RESERVED:
            yield f"setting datasets.{name}: the name is taken by {RESERVED[name]}; choose another"
        if own.models_of and own.models_of not in config.train_sets:
            test_only = " (a test-only set)" if own.models_of in config.test_sets else ""
            yield (
                f"setting datasets.{name}.models_of: nothing is trained on {own.models_of!r}"
                f"{test_only}; known: {', '.join(sorted(config.train_sets))}"
            )


def _schedules(config: Config) -> Iterator[str]:
    for where, training in _changed(config, "epochs", "milestones", "warmup"):
        late = [epoch for epoch in training.milestones if epoch >= training.epochs]
        if late:
            yield (
                f"setting {where}training.milestones: {late[0]} is never reached in "
                f"{training.epochs} epochs, counted from 0; each must be less than "
                f"{where}training.epochs"
            )
        if training.warmup >= training.epochs:
            yield (
                f"setting {where}training.warmup: must be less than {where}training.epochs, "
                f"which is {training.epochs} (got {training.warmup})"
            )


def _devices(config: Config) -> Iterator[str]:
    devices = config.resources.devices
    for where, training in _changed(config, "identities", "accumulate"):
        parts = training.accumulate
        if training.identities % (parts * devices):
            yield (
                f"setting resources.devices: {devices} devices cannot share a batch of "
                f"{where}training.identities: {training.identities} evenly, in {parts} "
                "part(s); it must be a multiple of both together"
            )


def _batches(config: Config) -> Iterator[str]:
    """Batches with more identities than any training set has."""
    sizes = {name: config.train_identities(name) for name in sorted(config.train_sets)}
    known = [size for size in sizes.values() if size is not None]
    if len(known) < len(sizes):
        return
    for where, training in _changed(config, "identities"):
        if training.identities > max(known):
            listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
            yield (
                f"setting {where}training.identities: a batch cannot hold more identities than "
                f"there are to train on: {listed} (got {training.identities})"
            )


def _sweeps(config: Config) -> Iterator[str]:
    for parameter, name in config.clashes:
        yield (
            f"setting variants.{name}: sweeps.{parameter} makes a variant of that name; "
            "choose another"
        )


def _comparisons(config: Config) -> Iterator[str]:
    for name, comparison in config.comparisons.items():
        yield from _comparison(config, f"comparisons.{name}", comparison)


def _comparison(config: Config, where: str, comparison: ComparisonSettings) -> Iterator[str]:
    rows = comparison.variants
    allowed: dict[str, tuple[Sequence[str], Collection[str]]] = {
        "variants": (rows, {*config.variant_names, *config.variants}),
        "test_sets": (comparison.test_sets, config.test_sets),
        "against": ((comparison.against or rows[0],), rows),
    }
    for setting, (given, known) in allowed.items():
        for unknown in (one for one in given if one not in known):
            yield f"setting {where}.{setting}: no {unknown!r}; {did_you_mean(unknown, known)}"
        if twice := _repeated(given):
            yield f"setting {where}.{setting}: holds a name twice ({twice[0]!r})"


def _peers(config: Config) -> Iterator[str]:
    for unknown in (one for one in config.peers if one not in config.variants):
        hint = did_you_mean(unknown, config.variants)
        yield f"setting peers: no {unknown!r}; {hint}"
    if twice := _repeated(config.peers):
        yield f"setting peers: holds a name twice ({twice[0]!r})"


def _stress(config: Config) -> Iterator[str]:
    for unknown in (one for one in config.stress.test_sets if one not in config.test_sets):
        hint = did_you_mean(unknown, config.test_sets)
        yield f"setting stress.test_sets: no {unknown!r}; {hint}"
    if twice := _repeated(config.stress.test_sets):
        yield f"setting stress.test_sets: holds a name twice ({twice[0]!r})"


def _poses(config: Config) -> Iterator[str]:
    yield from config.wrong_poses
    for where, training in _changed(config, "pose", "heatmaps"):
        if training.pose and training.pose not in config.poses:
            known = list(config.poses)
            hint = did_you_mean(training.pose, known) if known else "poses has none"
            yield f"setting {where}training.pose: no {shown(training.pose)} in poses; {hint}"
        elif training.pose and training.heatmaps == "true":
            yield (
                f"setting {where}training.pose: {training.pose} is no pose of "
                "training.heatmaps: true, which draws true joints; leave one of them out"
            )


def _variants(config: Config) -> Iterator[str]:
    yield from config.wrong_variants


CHECKS: dict[Callable[[Any], Iterator[str]], frozenset[str]] = {
    _seeds: frozenset({"seeds"}),
    _drawn: frozenset({"experiment", "archives"}),
    _urls: frozenset({"archives"}),
    _own_datasets: frozenset({"datasets"}),
    _variants: RECIPE,
    _poses: RECIPE | {"pose", "poses"},
    _schedules: RECIPE,
    _devices: RECIPE | {"resources"},
    _batches: RECIPE | {"synthetic", "archives", "datasets"},
    _sweeps: RECIPE | {"sweeps"},
    _peers: RECIPE | {"peers"},
    _stress: frozenset({"stress", "datasets"}),
    _comparisons: RECIPE | {"sweeps", "datasets", "comparisons"},
}
"""Each check, and the sections that it reads."""


def _changed(config: Config, *settings: str) -> Iterator[tuple[str, TrainingSettings]]:
    """The common training settings, and each variant's where one of these differs."""

    def values(training: TrainingSettings) -> list[Any]:
        return [getattr(training, name) for name in settings]

    yield "", config.training
    for name in config.variants:
        recipe = config.recipes.get(name)
        if recipe is not None and values(recipe.training) != values(config.training):
            yield f"variants.{name}.", recipe.training


def _repeated(items: Sequence[Any]) -> list[Any]:
    return [item for place, item in enumerate(items) if item in items[:place]]
