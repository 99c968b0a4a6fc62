"""Tables of the paper: published rows, then reproduced ones, as CSV and as Markdown."""

from pathlib import Path

import pandas as pd

from pgfl.files import read_json, write_text
from pgfl.reporting.specs import TABLES, TableSpec

PUBLISHED = Path(__file__).resolve().parent / "published"

NOTE = (
    "Percent. `published`: as printed in the paper; `reproduced`: measured here. `chance_mAP` is "
    "what random features reach on the same test set."
)

Evaluations = dict[tuple[str, str], list[Path]]
"""For each (variant, test set): the evaluation files, one a seed."""

WARNING = (
    "> **Not the paper's data.** The reproduced rows are from `experiment: {experiment}`: small "
    "synthetic data\n> sets drawn by this project. They show that the pipeline works; they must "
    "not be compared with the published rows.\n"
)


def write_table(number: int, evaluations: Evaluations, experiment: str, out: Path) -> None:
    """Write `table{number}.csv` and the `.md` beside it.

    Args:
        number: of the paper's table.
        evaluations: the `eval/*.json` files that the table needs.
        experiment: the experiment they are from; anything but `paper` is marked as such.
        out: the CSV; percentages with one decimal, missing values empty.

    Raises:
        UserError: an evaluation file cannot be read.
    """
    spec = TABLES[number]
    published = pd.read_csv(PUBLISHED / f"table{number}.csv", dtype=str, keep_default_na=False)
    published.insert(1, "source", "published")
    rows = [
        _reproduced_row(method, variant, spec, evaluations, experiment)
        for method, variant in spec.reproduced.items()
    ]
    table = pd.concat([published, pd.DataFrame(rows)], ignore_index=True).fillna("")
    warning = "" if experiment == "paper" else WARNING.format(experiment=experiment) + "\n"
    save_table(table, out, f"# Table {number}: {spec.title}\n\n{warning}{NOTE}\n\n")


def _reproduced_row(
    method: str, variant: str, spec: TableSpec, evaluations: Evaluations, experiment: str
) -> dict[str, str]:
    row = {"method": method, "source": "reproduced"}
    chances: dict[str, str] = {}
    seeds = 0
    for column in spec.columns:
        test_set, metric = column.split(".")
        reports = [read_json(path) for path in evaluations[variant, test_set]]
        values = pd.Series([report[metric] for report in reports])
        row[column] = f"{values.mean():.1f}"
        if metric == "mAP":
            chances[f"{test_set}.chance_mAP"] = f"{reports[0]['chance']['mAP']:.1f}"
        seeds = len(reports)
    return row | {"experiment": experiment, "seeds": str(seeds)} | chances


def save_table(table: pd.DataFrame, out: Path, heading: str, ending: str = "") -> None:
    """Write a table of text as CSV, and beside it as Markdown between a heading and an ending."""
    write_text(out, table.to_csv(index=False, lineterminator="\n"))
    write_text(out.with_suffix(".md"), heading + markdown(table) + ending)


def markdown(table: pd.DataFrame) -> str:
    """A table of text in Markdown; all columns but the first two to the right."""
    header = "| " + " | ".join(table.columns) + " |\n"
    rule = "|" + "|".join(" --- " if i < 2 else " ---: " for i in range(table.shape[1])) + "|\n"
    return header + rule + "".join("| " + " | ".join(row) + " |\n" for row in table.to_numpy())
