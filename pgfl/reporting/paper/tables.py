"""Tables of the paper: published rows, then reproduced ones, as CSV and as Markdown."""

from pathlib import Path

import pandas as pd

from pgfl.errors import UserError
from pgfl.reporting.evaluations import Measured, check_comparable, read_evaluations
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.numbers import read_published
from pgfl.reporting.paper.specs import PUBLISHED_AS, TABLES, TableSpec
from pgfl.reporting.paper.summary import (
    NOT_MEASURED,
    LeftOut,
    Measurements,
    basis,
    comparison,
    differences,
    left_out_note,
)
from pgfl.reporting.statistics import mean_text, std_text
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.files import write_text

NOTE = (
    "Percent. `published`: as printed in the paper; `reproduced`: measured here, means over the "
    "seeds, with sample standard deviations as `.std`. `chance_mAP` is what random features "
    "reach on the same test set."
)

PAIRED = (
    "In percentage points: the mean difference of runs with the same seed, and its 95 % "
    "confidence interval (Student's t over the seeds). The interval is about other seeds; the "
    "people in the test sets stay the same."
)

Evaluations = dict[tuple[str, str], list[Path]]
"""For each (variant, test set): the evaluation files, one per seed."""

WARNING = (
    "> **Not the paper's experiment.** The reproduced rows are from `experiment: {experiment}`: "
    "small networks and,\n> unless you named archives or data sets of your own, synthetic data "
    "drawn by this project. They show that the\n> pipeline works; they must not be compared with "
    "the published rows.\n\n"
)
CHANGED = (
    "> **Not the paper's experiment.** The reproduced rows are from `experiment: {experiment}`.\n"
    "> Beside the published rows they show what these settings change, too.\n\n"
)


def write_table(
    number: int,
    evaluations: Evaluations,
    experiment: str,
    out: Path | Outputs,
    left_out: LeftOut | None = None,
) -> None:
    """Write `table{number}.csv`, its Markdown and its trace.

    Args:
        number: of the paper's table.
        evaluations: the `eval/*.json` files that the table needs.
        experiment: the experiment they are from; anything but `paper` is marked as such.
        out: the CSV; percentages with one decimal, missing values empty. The others lie beside
            it unless they are named.
        left_out: test sets whose cells stay empty, since files of theirs are missing.

    Raises:
        UserError: an evaluation is missing, cannot be read, or is not what it is given as; or all
            test sets are left out.
    """
    spec = TABLES[number].with_peers(dict.fromkeys(variant for variant, _ in evaluations))
    left_out = left_out or {}
    measurements = read_needed(spec, evaluations, left_out)
    published = read_published(number)
    published.insert(1, "source", "published")
    labels = {method: _labels(published, method, spec) for method in spec.reproduced}
    ours, cells = reproduced(spec, measurements, experiment, labels)
    table = pd.concat([published, ours], ignore_index=True).fillna("")
    title = f"Table {number}: {spec.title}"
    shown = comparison(table, spec)
    above = introduction(title, spec, shown, measurements, experiment, left_out)
    above += f"\n## The whole table\n\n{NOTE}\n\n"
    columns = [column for column in spec.columns if column.split(".")[0] in left_out]
    below = f"\n{left_out_note(left_out)}\n" if left_out else ""
    marked = with_marks(table, columns)
    files = Outputs.of(out)
    save_table(table, files, above, left=2 + len(spec.labels), ending=below, shown=marked)
    save_trace(files.trace, [files.main, files.markdown], experiment, cells)


def with_marks(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """A table for reading: what is not measured in our rows is marked.

    Args:
        table: text.
        columns: those of data sets that are left out.
    """
    shown = table.copy()
    ours = shown["source"] == "reproduced"
    shown.loc[ours, columns] = shown.loc[ours, columns].replace("", NOT_MEASURED)
    return shown


def read_needed(
    spec: TableSpec, evaluations: Evaluations, left_out: LeftOut | None = None
) -> Measurements:
    """All evaluations of a table but for those of test sets that are left out.

    Raises:
        UserError: one is missing, cannot be read, is not what it is given as, or was measured
            otherwise than the others; or nothing but test sets that are left out is asked for.
    """
    test_sets = [name for name in spec.test_sets if name not in (left_out or {})]
    if not test_sets:
        raise UserError(f"{spec.title}: all test sets are left out, so there is nothing to show")
    measurements = {
        (variant, test_set): read_evaluations(
            evaluations.get((variant, test_set), ()), variant, test_set
        )
        for variant in spec.reproduced.values()
        for test_set in test_sets
    }
    for test_set in test_sets:
        check_comparable([some for (_, name), some in measurements.items() if name == test_set])
    return measurements


def _labels(published: pd.DataFrame, method: str, spec: TableSpec) -> dict[str, str]:
    """The words that the paper has beside a method's numbers."""
    theirs = published[published["method"] == PUBLISHED_AS.get(method, method)]
    return {label: theirs[label].iloc[0] for label in spec.labels}


def reproduced_numbers(
    columns: tuple[str, ...], measured: dict[str, list[Measured]], experiment: str
) -> dict[str, str]:
    """The cells of one reproduced row, as text.

    Args:
        columns: `{test set}.{metric}`.
        measured: for each test set, one evaluation per seed; none of those that are left out.
        experiment: the experiment they are from.

    Returns:
        The means, then their deviations, then what they stand on; empty where nothing is measured.

    Raises:
        UserError: an evaluation file lacks a number.
    """
    means, stds = {}, {}
    for column in columns:
        test_set, metric = column.split(".")
        values = [one.value(metric) for one in measured.get(test_set, ())]
        means[column] = mean_text(values) if values else ""
        stds[f"{column}.std"] = std_text(values)
    seeds = {"experiment": experiment, "seeds": str(len(next(iter(measured.values()))))}
    chances = {
        f"{test_set}.chance_mAP": f"{measured[test_set][0].chance:.1f}"
        if test_set in measured
        else ""
        for test_set in dict.fromkeys(column.split(".")[0] for column in columns)
    }
    return means | stds | seeds | chances


def traced(
    name: str, row: dict[str, str], columns: tuple[str, ...], measured: dict[str, list[Measured]]
) -> list[Cell]:
    """The means of a reproduced row, with the files that they were made of."""
    cells = []
    for column in columns:
        test_set, metric = column.split(".")
        if files := tuple(one.file for one in measured.get(test_set, ())):
            cells.append(Cell(name, column, row[column], files, metric))
    return cells


def reproduced(
    spec: TableSpec,
    measurements: Measurements,
    experiment: str,
    labels: dict[str, dict[str, str]],
) -> tuple[pd.DataFrame, list[Cell]]:
    """Our rows, and what their numbers came from.

    Args:
        spec: the table's.
        measurements: all that it needs.
        experiment: the experiment they are from.
        labels: words that stand beside a method's numbers, by their columns.
    """
    rows, cells = [], []
    for method, variant in spec.reproduced.items():
        measured = {name: some for (one, name), some in measurements.items() if one == variant}
        row = reproduced_numbers(spec.columns, measured, experiment)
        rows.append({"method": method, "source": "reproduced", **labels.get(method, {}), **row})
        cells += traced(method, row, spec.columns, measured)
    return pd.DataFrame(rows), cells


def introduction(
    title: str,
    spec: TableSpec,
    shown: pd.DataFrame,
    measurements: Measurements,
    experiment: str,
    left_out: LeftOut,
) -> str:
    """What stands first in the Markdown: title, warning, basis, short table and differences.

    Args:
        title: of the whole.
        spec: the table's.
        shown: the short table, text.
        measurements: all that it stands on; differences need two seeds.
        experiment: anything but `paper` is warned of.
        left_out: test sets that have no numbers, and why.
    """
    parts = [f"# {title}\n"]
    parts.append(f"{data_warning(experiment)}{basis(measurements, spec)}\n")
    parts.append(markdown(shown, left=1))
    if left_out:
        parts.append(f"{left_out_note(left_out)}\n")
    if all(len(measured) > 1 for measured in measurements.values()):
        parts.append(f"## Differences\n\n{PAIRED}\n")
        parts.append(markdown(differences(measurements, spec), left=1))
    return "\n".join(parts)


def data_warning(experiment: str) -> str:
    """What stands above a table whose rows are not from the paper's experiment; else nothing.

    Args:
        experiment: as `pgfl.config.experiment.label` calls it.
    """
    if experiment == "paper":
        return ""
    return (CHANGED if experiment.startswith("paper") else WARNING).format(experiment=experiment)


def save_table(
    table: pd.DataFrame,
    files: Outputs,
    introduction: str,
    left: int = 2,
    ending: str = "",
    shown: pd.DataFrame | None = None,
) -> None:
    """Write a table of text as CSV, and as Markdown below a heading.

    Args:
        table: all cells are text.
        files: of the table; the CSV and the Markdown are written.
        introduction: what stands above the table in the Markdown.
        left: so many first columns hold words; the others are aligned to the right.
        ending: what stands below the table in the Markdown.
        shown: the table as the Markdown has it; default: the same.
    """
    write_text(files.main, table.to_csv(index=False, lineterminator="\n"))
    text = markdown(table if shown is None else shown, left)
    write_text(files.markdown, introduction + text + ending)


def markdown(table: pd.DataFrame, left: int = 2) -> str:
    """A table of text in Markdown; all but the first `left` columns aligned to the right."""
    header = "| " + " | ".join(table.columns) + " |\n"
    sides = (" --- " if i < left else " ---: " for i in range(table.shape[1]))
    rule = "|" + "|".join(sides) + "|\n"
    return header + rule + "".join("| " + " | ".join(row) + " |\n" for row in table.to_numpy())
