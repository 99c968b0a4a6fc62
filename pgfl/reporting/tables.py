"""Tables of the paper: published rows, then reproduced ones, as CSV and as Markdown."""

from pathlib import Path

import pandas as pd

from pgfl.files import write_text
from pgfl.reporting.evaluations import Measured, check_comparable, read_evaluations
from pgfl.reporting.paper import read_published
from pgfl.reporting.specs import PUBLISHED_AS, TABLES, TableSpec
from pgfl.reporting.statistics import mean_text, std_text
from pgfl.reporting.summary import Measurements, basis, comparison, differences
from pgfl.reporting.trace import Cell, save_trace

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
"""For each (variant, test set): the evaluation files, one a seed."""

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


def write_table(number: int, evaluations: Evaluations, experiment: str, out: Path) -> None:
    """Write `table{number}.csv`, and the `.md` and the trace beside it.

    Args:
        number: of the paper's table.
        evaluations: the `eval/*.json` files that the table needs.
        experiment: the experiment they are from; anything but `paper` is marked as such.
        out: the CSV; percentages with one decimal, missing values empty.

    Raises:
        UserError: an evaluation is missing, cannot be read, or is not what it is given as.
    """
    spec = TABLES[number]
    measurements = read_needed(spec, evaluations)
    published = read_published(number)
    published.insert(1, "source", "published")
    labels = {method: _labels(published, method, spec) for method in spec.reproduced}
    ours, cells = reproduced(spec, measurements, experiment, labels)
    table = pd.concat([published, ours], ignore_index=True).fillna("")
    title = f"Table {number}: {spec.title}"
    above = introduction(title, spec, comparison(table, spec), measurements, experiment)
    above += f"\n## The whole table\n\n{NOTE}\n\n"
    save_table(table, out, above, left=2 + len(spec.labels))
    save_trace([out, out.with_suffix(".md")], experiment, cells)


def read_needed(spec: TableSpec, evaluations: Evaluations) -> Measurements:
    """All evaluations of a table.

    Raises:
        UserError: one is missing, cannot be read, is not what it is given as, or was measured
            otherwise than the others.
    """
    measurements = {
        (variant, test_set): read_evaluations(
            evaluations.get((variant, test_set), ()), variant, test_set
        )
        for variant in spec.reproduced.values()
        for test_set in spec.test_sets
    }
    for test_set in spec.test_sets:
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
        measured: for each test set, one evaluation a seed.
        experiment: the experiment they are from.

    Returns:
        The means, then their deviations, then what they stand on.

    Raises:
        UserError: an evaluation file lacks a number.
    """
    means, stds = {}, {}
    for column in columns:
        test_set, metric = column.split(".")
        values = [one.value(metric) for one in measured[test_set]]
        means[column] = mean_text(values)
        stds[f"{column}.std"] = std_text(values)
    seeds = {"experiment": experiment, "seeds": str(len(next(iter(measured.values()))))}
    chances = {
        f"{test_set}.chance_mAP": f"{some[0].chance:.1f}" for test_set, some in measured.items()
    }
    return means | stds | seeds | chances


def traced(
    name: str, row: dict[str, str], columns: tuple[str, ...], measured: dict[str, list[Measured]]
) -> list[Cell]:
    """The means of a reproduced row, with the files that they were made of."""
    cells = []
    for column in columns:
        test_set, metric = column.split(".")
        files = tuple(one.file for one in measured[test_set])
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
        measured = {test_set: measurements[variant, test_set] for test_set in spec.test_sets}
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
) -> str:
    """What stands first in the Markdown: title, warning, basis, short table and differences.

    Args:
        title: of the whole.
        spec: the table's.
        shown: the short table, text.
        measurements: all that it stands on; differences need two seeds.
        experiment: anything but `paper` is warned of.
    """
    parts = [f"# {title}\n"]
    parts.append(f"{data_warning(experiment)}{basis(measurements, spec)}\n")
    parts.append(markdown(shown, left=1))
    if all(len(measured) > 1 for measured in measurements.values()):
        parts.append(f"## Differences\n\n{PAIRED}\n")
        parts.append(markdown(differences(measurements, spec), left=1))
    return "\n".join(parts)


def data_warning(experiment: str) -> str:
    """What stands above a table whose rows are not from the paper's experiment; else nothing.

    Args:
        experiment: as `pgfl.config.label` calls it.
    """
    if experiment == "paper":
        return ""
    return (CHANGED if experiment.startswith("paper") else WARNING).format(experiment=experiment)


def save_table(
    table: pd.DataFrame, out: Path, introduction: str, left: int = 2, ending: str = ""
) -> None:
    """Write a table of text as CSV, and as Markdown below a heading beside it.

    Args:
        table: all cells are text.
        out: the CSV.
        introduction: what stands above the table in the Markdown.
        left: so many first columns hold words; the others are aligned to the right.
        ending: what stands below the table in the Markdown.
    """
    write_text(out, table.to_csv(index=False, lineterminator="\n"))
    write_text(out.with_suffix(".md"), introduction + markdown(table, left) + ending)


def markdown(table: pd.DataFrame, left: int = 2) -> str:
    """A table of text in Markdown; all but the first `left` columns aligned to the right."""
    header = "| " + " | ".join(table.columns) + " |\n"
    sides = (" --- " if i < left else " ---: " for i in range(table.shape[1]))
    rule = "|" + "|".join(sides) + "|\n"
    return header + rule + "".join("| " + " | ".join(row) + " |\n" for row in table.to_numpy())
