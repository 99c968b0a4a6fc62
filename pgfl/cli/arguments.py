"""Arguments that several commands take, and how they are read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgfl.errors import UserError

if TYPE_CHECKING:
    from pgfl.config import Config

Out = Annotated[Path, typer.Option(help="What to write; appears whole or not at all.")]
JsonSettings = Annotated[
    str, typer.Option("--settings", help="Settings as JSON, or the path of a JSON file.")
]
Evaluations = Annotated[
    str, typer.Option(help='JSON: {"variant": {"test set": ["eval.json", ...]}}.')
]
Experiment = Annotated[str, typer.Option(help="Where the numbers are from.")]

ConfigFile = Annotated[Path, typer.Option("--configfile", help="A configuration file.")]
ConfigOverrides = Annotated[
    list[str] | None,
    typer.Option("--config", help="KEY=VALUE over the file, as Snakemake takes it; repeatable."),
]


def loaded_config(configfile: Path, overrides: list[str] | None) -> "Config":
    """The configuration of a file with values laid over it.

    Raises:
        UserError: one line for each thing that is wrong with it.
    """
    from pgfl.config import check_tables, load_config, overridden, read_yaml

    config = load_config(overridden(read_yaml(configfile), overrides or []))
    check_tables(config)
    return config


def json_settings(given: str) -> dict[str, Any]:
    """The object of `--settings`: JSON, or the path of a JSON file."""
    from pgfl.files import read_json

    if not given.lstrip().startswith("{"):
        return read_json(Path(given))
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        raise UserError(f"--settings: not JSON ({error})") from None


def known(name: object, allowed: Any) -> None:
    """Stop with the list of what there is where a name is none of it."""
    if name not in allowed:
        raise UserError(f"no {name!r}; known: {', '.join(map(str, allowed))}")
