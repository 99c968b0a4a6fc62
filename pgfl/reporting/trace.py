"""From a number in `results/` back to the files, the model and the commit that it came from.

Beside each table and figure lies `{name}.trace.json`: which files made which number, with the
hashes that they had.
"""

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgfl.errors import UserError
from pgfl.reporting.evaluations import read_evaluation
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.statistics import mean_text
from pgfl.runtime.files import file_hash, read_json, write_json

FORMAT = "pgfl-trace-1"


@dataclass(frozen=True)
class Cell:
    """A number that was reproduced."""

    row: str
    column: str
    value: str
    files: tuple[Path, ...]
    """What it was made of, as named from the project's folder; evaluations in order of seeds."""
    metric: str = ""
    """The measure whose mean over the evaluation files it is; empty for other files."""


def trace_file(result: Path) -> Path:
    """Where the trace of a result lies: `table2.csv` to `table2.trace.json`."""
    if result.suffix == ".json":
        return result
    return Outputs.beside(result).trace


def save_trace(out: Path, results: list[Path], experiment: str, cells: list[Cell]) -> None:
    """Write what the numbers of some results came from.

    Args:
        out: the trace, in the folder of the results.
        results: the finished files (`table2.csv`, `table2.md`).
        experiment: the experiment that they are from.
        cells: every reproduced number.
    """
    sources: dict[str, dict[str, Any]] = {}
    hashed = functools.cache(file_hash)
    for cell in cells:
        for file in cell.files:
            if str(file) not in sources:
                sources[str(file)] = {
                    "sha256": hashed(file),
                    **_model_of(file, cell.metric, hashed),
                }
    content = {
        "format": FORMAT,
        "experiment": experiment,
        "results": {file.name: file_hash(file) for file in results},
        "cells": [
            {
                "row": cell.row,
                "column": cell.column,
                "value": cell.value,
                "metric": cell.metric,
                "files": [str(file) for file in cell.files],
            }
            for cell in cells
        ],
        "sources": sources,
    }
    write_json(out, content)


def _model_of(file: Path, metric: str, hashed: Callable[[Path], str]) -> dict[str, Any]:
    """Which model a file of a run's folder is of; nothing for other files.

    An evaluation says itself which model it measured; all else is of the model that lies there.
    """
    if metric:
        measured = read_evaluation(file)
        train, variant, seed = measured.train, measured.variant, measured.seed
        digest = measured.report.get("model_sha256", "")
    else:
        run = _run_of(file)
        model = run / "model.safetensors"
        if not (run.name and model.is_file()):
            return {}
        train, variant, folder = run.parts[-3:]
        seed, digest = int(folder.removeprefix("seed")), hashed(model)
    return {"train": train, "variant": variant, "seed": seed, "model_sha256": digest}


def _run_of(file: Path) -> Path:
    """The folder `train/variant/seed0` that a file, or its folder, lies in; empty if in none."""
    for folder in (file.parent, file.parent.parent):
        if re.fullmatch(r"seed\d+", folder.name) and len(folder.parts) > 2:
            return folder
    return Path()


def follow(result: Path) -> list[str]:
    """Check that everything a result came from is what it was, and say what that is.

    Args:
        result: a table or figure (or its trace); its sources are named from the working folder.

    Returns:
        Lines to read: every number, the values of its seeds, their models, commits and devices.

    Raises:
        UserError: there is no trace; or, a line for each, what is gone or has changed.
    """
    path = trace_file(result)
    trace = read_json(path)
    if not isinstance(trace, dict) or trace.get("format") != FORMAT:
        raise UserError(f"{path}: not a trace written by pgfl (format {FORMAT} expected)")
    if not _is_whole(trace):
        raise UserError(f"{path}: damaged; make the table or figure again")
    problems = [*_check_results(path, trace), *_check_sources(trace)]
    if not problems:
        problems = list(_check_values(path, trace))
    if problems:
        raise UserError("\n".join(problems))
    models = {_run_of(Path(file)) for file, known in trace["sources"].items() if "seed" in known}
    made_of = f"{len(models)} models" if models else f"{len(trace['sources'])} files"
    first = f"{result}: as recorded; {len(trace['cells'])} entries from {made_of}"
    return [first, *_lines(trace)]


def _is_whole(trace: dict[str, Any]) -> bool:
    """Whether a trace has all that `save_trace` writes, each of its kind."""
    results, cells, sources = (trace.get(name) for name in ("results", "cells", "sources"))
    if not (isinstance(results, dict) and isinstance(cells, list) and isinstance(sources, dict)):
        return False
    return (
        all(name and name == Path(name).name and name.isprintable() for name in results)
        and all(name and name.isprintable() for name in sources)
        and all(
            isinstance(known, dict) and _are_texts(known, "sha256") for known in sources.values()
        )
        and all(
            "seed" not in known or _are_texts(known, "model_sha256") for known in sources.values()
        )
        and all(isinstance(cell, dict) and _is_whole_cell(cell, sources) for cell in cells)
    )


def _is_whole_cell(cell: dict[str, Any], sources: dict[str, Any]) -> bool:
    """Whether each of its files is one that is checked; an evaluation with the model behind it."""
    files = cell.get("files")
    return (
        _are_texts(cell, "row", "column", "value", "metric")
        and isinstance(files, list)
        and all(isinstance(name, str) and name in sources for name in files)
        and all("seed" in sources[name] for name in files if cell["metric"])
    )


def _are_texts(values: dict[str, Any], *names: str) -> bool:
    return all(isinstance(values.get(name), str) for name in names)


def _check_results(path: Path, trace: dict[str, Any]) -> Iterator[str]:
    for name, digest in trace["results"].items():
        file = path.with_name(name)
        if not file.is_file():
            yield f"{file}: no such file"
        elif file_hash(file) != digest:
            yield f"{file}: changed since it was written; delete it and make it again"


def _check_sources(trace: dict[str, Any]) -> Iterator[str]:
    hashed = functools.cache(file_hash)
    for name, known in trace["sources"].items():
        file = Path(name)
        if not file.is_file():
            yield f"{file}: no such file (is this the project's folder?)"
            continue
        if hashed(file) != known["sha256"]:
            yield f"{file}: changed since the table or figure was made of it"
        if "seed" not in known:
            continue
        run = _run_of(file)
        model = run / "model.safetensors"
        if not model.is_file():
            yield f"{model}: no such file"
            continue
        if hashed(model) != known["model_sha256"]:
            yield f"{model}: is not the model that {file} is of (sha256 differs)"
        yield from _check_provenance(run / "provenance.json", known)


def _check_provenance(file: Path, known: dict[str, Any]) -> Iterator[str]:
    try:
        content = read_json(file)
    except UserError as error:
        yield str(error)
        return
    if not isinstance(content, dict) or content.get("seed") != known["seed"]:
        yield f"{file}: is not that of seed {known['seed']}"
    elif content.get("model_sha256") != known["model_sha256"]:
        yield f"{file}: is not of the model beside it (sha256 differs)"


def _check_values(path: Path, trace: dict[str, Any]) -> Iterator[str]:
    for cell in trace["cells"]:
        if cell["metric"]:
            values = [read_evaluation(Path(file)).value(cell["metric"]) for file in cell["files"]]
            if mean_text(values) != cell["value"]:
                yield (
                    f"{path}: {cell['row']}, {cell['column']} is {cell['value']}, but its "
                    f"evaluations give {mean_text(values)}"
                )


def _lines(trace: dict[str, Any]) -> Iterator[str]:
    for cell in trace["cells"]:
        yield f"{cell['row']}, {cell['column']}: {cell['value']}".rstrip(": ")
        for name in cell["files"]:
            is_of_a_run = "seed" in trace["sources"][name]
            yield f"    {_line(Path(name), cell['metric']) if is_of_a_run else name}"


def _line(file: Path, metric: str) -> str:
    """A file of a run (of an evaluation: its value and its model), and where the run was made."""
    run = _run_of(file)
    provenance = read_json(run / "provenance.json")
    commit = provenance.get("git_commit") or "outside of git"
    value, shown = "", file
    if metric:
        value, shown = f"{read_evaluation(file).value(metric):.2f}  ", run / "model.safetensors"
    return (
        f"seed {provenance['seed']}: {value}{shown}  commit {commit}  "
        f"device {provenance.get('device', 'unknown')}"
    )
