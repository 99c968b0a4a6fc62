"""Arguments that several commands take, and how they are read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self, TypeVar

import typer

from pgfl.errors import UserError

if TYPE_CHECKING:
    from pgfl.config.experiment import Config

Out = Annotated[Path, typer.Option(help="What to write; appears whole or not at all.")]
JsonSettings = Annotated[
    str, typer.Option("--settings", help="Settings as JSON, or the path of a JSON file.")
]
Evaluations = Annotated[
    str, typer.Option(help='JSON: {"variant": {"test set": ["eval.json", ...]}}.')
]
Experiment = Annotated[str, typer.Option(help="Where the numbers are from.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]

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
    from pgfl.config.load import check_tables, load_config, overridden, read_yaml

    config = load_config(overridden(read_yaml(configfile), overrides or []))
    check_tables(config)
    return config


def json_settings(given: str, option: str = "--settings") -> dict[str, Any]:
    """The object that an option holds: JSON, or the path of a JSON file."""
    return json_shaped(given, option, dict[str, Any], '{"name": ...}')


def json_files(given: str, option: str, some: bool = True) -> dict[str, list[Path]]:
    """Files by method, from `method -> one file per seed`."""
    files = json_shaped(given, option, dict[str, list[Path]], '{"method": ["file", ...]}')
    if (some and not files) or not all(files.values()):
        raise UserError(f"{option}: names no file")
    return files


def json_shaped(given: str, option: str, shape: Any, words: str) -> Any:
    """What an option holds as JSON, or in a JSON file, as values of a type.

    Args:
        given: the option's value.
        option: named in messages.
        shape: what pydantic is to make of it.
        words: the same for people.

    Raises:
        UserError: no such file, not JSON, or of another shape.
    """
    from pydantic import TypeAdapter, ValidationError

    from pgfl.runtime.messages import shown, shown_key

    try:
        return TypeAdapter(shape).validate_python(_json(given, option))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(shown_key, first["loc"]))
        if first["type"] == "missing":
            found = f"{place} is missing"
        else:
            found = f"got {shown(first['input'])}{f' as {place}' if place else ''}"
        raise UserError(f"{option}: must be {words} ({found})") from None


def _json(given: str, option: str) -> Any:
    from pgfl.runtime.files import read_json

    if not given.lstrip().startswith("{"):
        return read_json(Path(given))
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:  # bad JSON, too long a number, too deep
        raise UserError(f"{option}: not JSON ({error})") from None


class _InFolder(Protocol):
    """A dataclass of the files that a command writes."""

    @classmethod
    def in_folder(cls, folder: Path) -> Self: ...


F = TypeVar("F", bound=_InFolder)


def all_files(kind: type[F], out: Path | None, named: dict[str, Path | None]) -> F:
    """The files that a command writes: those that are named, the others in a folder.

    Args:
        kind: a dataclass of all of them.
        out: the folder; needed unless all are named.
        named: by the fields of `kind`; None for those that lie in the folder.

    Raises:
        UserError: it is not said where one of them goes.
    """
    given = {name: file for name, file in named.items() if file is not None}
    if out is not None:
        return replace(kind.in_folder(out), **given)
    if missing := [name for name in named if name not in given]:
        raise UserError(f"--out: needed, since nothing says where these go: {', '.join(missing)}")
    return kind(**given)


def known(name: object, allowed: Any) -> None:
    """Stop with the list of what there is where a name is none of it."""
    if name not in allowed:
        raise UserError(f"no {name!r}; known: {', '.join(map(str, allowed))}")
