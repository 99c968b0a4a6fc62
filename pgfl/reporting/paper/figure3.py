"""Figure 3: what the weights of the two distillation losses do."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pgfl.errors import UserError
from pgfl.reporting.evaluations import (
    Measured,
    check_comparable,
    protocol_note,
    read_evaluation,
    read_evaluations,
)
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.numbers import dataset_name, read_published
from pgfl.reporting.paper.specs import PUBLISHED_AS, SWEPT_ON
from pgfl.reporting.paper.tables import reproduced_numbers, traced
from pgfl.reporting.styles import METRICS, STYLES, save_figure
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.files import write_text
from pgfl.runtime.messages import short_number

COLUMNS = tuple(f"{SWEPT_ON}.{metric}" for metric in METRICS)
PUBLISHED_VALUE = 0.25
"""Section 4.4: both weights of the full method. Of the curve the text gives no other point."""

PANELS = {
    "lambda_mcl": r"(a) multi-part contrastive loss, $\lambda_{mcl}$",
    "lambda_cl": r"(b) consistency loss, $\lambda_{cl}$",
}
CURVES = dict(zip(COLUMNS, zip(METRICS.values(), STYLES, strict=False), strict=True))

Sweeps = dict[str, dict[float, list[Path]]]
"""For each weight and each of its values: the evaluation files, one per seed."""


def write_figure3(sweeps: Sweeps, experiment: str, out: Path | Outputs) -> None:
    """Write `figure3.csv`, and the `.png` and the trace beside it.

    Args:
        sweeps: what was measured.
        experiment: the experiment it is from.
        out: the CSV: `method`, `source`, the `parameter` and its `value`, then as a table's.
            Picture and trace lie beside it unless they are named.

    Raises:
        UserError: an evaluation file cannot be read, is not what it is given as, or was measured
            otherwise than the others.
    """
    points = _read_points(sweeps)
    everything = [measured for some in points.values() for measured in some.values()]
    check_comparable(everything)
    published = read_published(2).set_index("method").loc[PUBLISHED_AS["PGFL-KD"]]
    rows: list[dict[str, str]] = []
    cells: list[Cell] = []
    for parameter, measurements in points.items():
        place = {"parameter": parameter, "value": f"{PUBLISHED_VALUE:g}"}
        numbers = {column: published[column] for column in COLUMNS}
        rows.append({"method": published.name, "source": "published", **place, **numbers})
        for value, some in measurements.items():
            variant, measured = some[0].variant, {SWEPT_ON: some}
            place = {"parameter": parameter, "value": short_number(value)}
            numbers = reproduced_numbers(COLUMNS, measured, experiment)
            rows.append({"method": variant, "source": "reproduced", **place, **numbers})
            cells += traced(
                f"{parameter} = {place['value']} ({variant})", numbers, COLUMNS, measured
            )
    # The reproduced rows have every column, in order.
    order = list(max(rows, key=len))
    table = pd.DataFrame(rows)[order].fillna("")
    files = Outputs.of(out)
    write_text(files.main, table.to_csv(index=False, lineterminator="\n"))
    save_figure(draw(table, experiment, protocol_note(everything[0][0])), files.figure, dpi=150)
    save_trace(files.trace, [files.main, files.figure], experiment, cells)


def _read_points(sweeps: Sweeps) -> dict[str, dict[float, list[Measured]]]:
    """What was measured for each weight, in the order of the panels, and value, ascending."""
    points: dict[str, dict[float, list[Measured]]] = {}
    for parameter in sorted(sweeps, key=list(PANELS).index):
        points[parameter] = {}
        swept = set()
        for value, paths in sorted(sweeps[parameter].items()):
            variant = read_evaluation(paths[0]).variant
            if variant in swept:
                raise UserError(f"{paths[0]}: {variant} is given for two values of {parameter}")
            swept.add(variant)
            points[parameter][value] = read_evaluations(paths, variant, SWEPT_ON)
    return points


def draw(table: pd.DataFrame, experiment: str, how: str = "") -> Figure:
    """The figure: a panel for each weight, Rank-1 and mAP over its values.

    Args:
        table: what `figure3.csv` holds, as text.
        experiment: anything but `paper` is marked as such.
        how: what is unusual in how features were matched.
    """
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    parameters = list(dict.fromkeys(table["parameter"]))
    panels = figure.subplots(1, len(parameters), sharey=True, squeeze=False)[0]
    for axes, parameter in zip(panels, parameters, strict=True):
        _draw_panel(axes, table[table["parameter"] == parameter])
        axes.set_xlabel(PANELS[parameter])
    panels[0].set_ylabel(f"{dataset_name(SWEPT_ON)}, percent")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(_title(table, experiment) + how, fontsize=10)
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    ours = rows[rows["source"] == "reproduced"]
    theirs = rows[rows["source"] == "published"]
    for column, (name, style) in CURVES.items():
        stds = ours[f"{column}.std"]
        axes.errorbar(
            ours["value"].astype(float),
            ours[column].astype(float),
            yerr=None if (stds == "").any() else stds.astype(float),
            capsize=3,
            label=f"{name}, reproduced",
            **style,
        )
        axes.plot(
            theirs["value"].astype(float),
            theirs[column].astype(float),
            linestyle="none",
            marker="*",
            markersize=15,
            markerfacecolor="white" if column.endswith("mAP") else style["color"],
            markeredgecolor=style["color"],
            markeredgewidth=1.5,
            label=f"{name}, the paper's full method",
        )
    axes.set_xticks(ours["value"].astype(float), ours["value"])
    axes.grid(axis="y", linewidth=0.5, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _title(table: pd.DataFrame, experiment: str) -> str:
    ours = table[table["source"] == "reproduced"]
    seeds = ours["seeds"].astype(int).max()
    spread = "one seed" if seeds == 1 else f"mean ± sample standard deviation over {seeds} seeds"
    printed = f"stars: the paper's full method at {PUBLISHED_VALUE:g}, the only point in its text"
    if experiment == "paper":
        return f"{spread}; {printed}"
    warning = f"experiment: {experiment}, not the paper's: not comparable with the stars"
    return f"{warning}\n{spread}; {printed}"
