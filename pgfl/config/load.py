"""Reading the configuration: presets, the user's files and `--config`, checked all together."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pgfl.config.combinations import impossible
from pgfl.config.experiment import Config
from pgfl.errors import UserError
from pgfl.methods import METHODS
from pgfl.methods.settings import MethodSettings, method_settings
from pgfl.runtime.messages import did_you_mean, explain, shown, shown_key
from pgfl.runtime.settings import merged

DECIDING = ("model", "training", "pose", "evaluation")
"""Sections whose values decide what the paper's tables show."""
DECIDES_NOTHING = (*("precision", "deterministic", "tf32", "compile", "accumulate", "batch_size"),)
"""Settings in them that change numbers by rounding at most."""

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"


def parse_config(values: Any) -> Config:
    """Validate plain values, each by itself and all together.

    Raises:
        UserError: one line for each finding, with the key's path and what is allowed.
    """
    lines: list[str] = []
    failed: set[Any] = set()
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        lines = explain(Config, error)
        failed = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
        # What else is wrong is said at once, as far as it does not hang on this.
        given = values if isinstance(values, dict) else {}
        rest = {k: v for k, v in given.items() if isinstance(k, str) and k not in failed}
        config = Config.model_validate(rest)
    lines += impossible(config, failed)
    if lines:
        raise UserError("\n".join(lines))
    return config


def load_config(user: dict[str, Any], workflow: Path = WORKFLOW) -> Config:
    """The paper's variants, then a preset, then the user's own settings over both.

    Args:
        user: what `config.yaml` holds; its `experiment` names the preset.
        workflow: the folder with `variants.yaml` and `experiments/`.

    Raises:
        UserError: an unknown experiment, an unknown key, a wrong value; one line each.
    """
    experiment = user.get("experiment", "demo")
    presets = workflow / "experiments"
    preset = presets / f"{experiment}.yaml"
    if not isinstance(experiment, str) or not preset.is_file():
        hint = did_you_mean(experiment, (path.stem for path in presets.glob("*.yaml")))
        raise UserError(f"setting experiment: no experiment {shown(experiment)}; {hint}")
    base = merged(read_yaml(workflow / "variants.yaml"), read_yaml(preset))
    return parse_config(merged(base, user))


def label(config: Config, workflow: Path = WORKFLOW) -> str:
    """What results call the experiment: its name, and of `paper` which settings are not its own.

    Reports print `paper` beside the published numbers without a warning, and nothing else.

    Returns:
        `demo`, `study`, `paper`, or `paper with other training.epochs, variants.pgfl_kd`.
    """
    if config.experiment != "paper":
        return config.experiment
    preset = load_config({"experiment": "paper"}, workflow)
    changed = [
        f"{section}.{name}"
        for section, settings in preset
        if section in DECIDING
        for name, value in settings
        if name not in DECIDES_NOTHING and getattr(getattr(config, section), name) != value
    ]
    changed += [
        f"poses.{name}"
        for name, overlay in preset.poses.items()
        if config.poses.get(name) != overlay
    ]
    changed += [
        f"methods.{method}.{name}"
        for method in METHODS
        for name, value in _everywhere(preset, method)
        if getattr(_everywhere(config, method), name) != value
    ]
    changed += [
        f"variants.{name}"
        for name, overlay in preset.variants.items()
        if config.variants.get(name) != overlay
    ]
    return f"paper with other {', '.join(changed)}" if changed else "paper"


def _everywhere(config: Config, method: str) -> MethodSettings:
    """A method's settings where no variant says otherwise."""
    return method_settings(method, config.methods.get(method, {}))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        UserError: no such file, not YAML, a key twice, or not a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), OnceLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {_reason(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold settings as 'key: value'")
    return content


def _reason(error: Exception) -> str:
    """What a parser says, on one line."""
    words = " ".join(str(error).split())
    return words if words.isprintable() else ascii(words)


class OnceLoader(yaml.SafeLoader):
    """Plain values only; a key that stands twice is an error, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, each of whose keys stands there once."""
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            line = key.start_mark.line + 1
            if key.value in seen:
                words = (
                    f"the key {key.value!r} stands twice, in lines {seen[key.value]} and {line}"
                )
                raise yaml.MarkedYAMLError(problem=words)
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def overridden(settings: dict[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Settings with `KEY=VALUE` laid over them, as Snakemake's `--config` does it.

    Raises:
        UserError: not of that form, or the value is not YAML.
    """
    for one in given:
        key, is_pair, text = one.partition("=")
        if not (key and is_pair):
            raise UserError(
                f"--config {shown_key(one)}: must be KEY=VALUE; a file goes to --configfile"
            )
        try:
            # All of it as text, which the models then read: so does Snakemake.
            value = yaml.load(text, yaml.BaseLoader) if text else None
        except yaml.YAMLError as error:
            raise UserError(f"--config {shown_key(one)}: not YAML: {_reason(error)}") from None
        settings = merged(settings, {key: value})
    return settings


TEMPLATED = "__use_yte__"
"""With this key, Snakemake runs expressions of Python that a configuration file holds."""


def check_files(paths: Iterable[Path]) -> None:
    """Say what Snakemake would say in vague words, or not at all, of configuration files.

    Raises:
        UserError: a line for each file that is not YAML, holds nothing, a key twice, or
            would run code.
    """
    problems = []
    for path in paths:
        try:
            content = read_yaml(path)
            if not content:
                problems.append(f"{path}: holds no settings; write at least 'experiment: demo'")
            if TEMPLATED in content:
                problems.append(f"{path}: {TEMPLATED}: settings are plain values, never programs")
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))


def check_tables(config: Config) -> None:
    """Raise UserError with a line for each table of the user's own that is not there."""
    missing = [
        f"setting datasets.{name}.table: no such file (got {own.table!r})"
        for name, own in config.datasets.items()
        if not Path(own.table).is_file()
    ]
    if missing:
        raise UserError("\n".join(missing))
