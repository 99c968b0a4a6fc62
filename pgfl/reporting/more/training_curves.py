"""Every loss term over the epochs: the baseline and PGFL-KD, and the other models behind them."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pgfl.datasets.manifest import read_table
from pgfl.errors import UserError
from pgfl.reporting.columns import finite_numbers
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.styles import marked, save_figure, styled
from pgfl.reporting.trace import Cell, save_trace

TITLES = {
    "loss": "sum of the model's terms",
    "id": "identity loss on",
    "triplet": "triplet loss on",
    "cl": "consistency loss (Eq. 4)",
    "mcl": "multi-part contrastive loss (Eq. 5)",
    "part_cl": "consistency loss with $f_P$ (Table 7)",
    "gradient": "gradient norm",
    "learning_rate": "learning rate",
}
FEATURES = {
    "global": "$f_G$",
    "part": "$f_P$",
    "fused": "$f_V$",
    "foreground": "$f_F$",
    "enhanced": "$f_E$",
}
LAST = ("gradient", "learning_rate")
"""Columns that are no loss term, in their order."""
COLUMNS = 5
OTHERS = {"color": "0.72", "linewidth": 1, "zorder": 1}

Histories = dict[str, list[Path]]
"""For each model: its `history.csv`, one per seed."""


def draw_training_curves(
    shown: Histories,
    others: Histories,
    experiment: str,
    out: Path | Outputs,
    trained_on: str = "",
) -> None:
    """Draw a panel for each loss term, weighted as in Eq. 10, and what else a history holds.

    Args:
        shown: the models to look at, in the order of the legend.
        others: models in light grey behind them.
        experiment: where the models are from; anything but `paper` is marked as such.
        out: a PNG; its trace lies beside it unless it is named.
        trained_on: the training set, named in the title.

    Raises:
        UserError: a history cannot be read, or there is none.
    """
    histories = {
        name: [read_history(file) for file in files] for name, files in (others | shown).items()
    }
    if not shown:
        raise UserError("no history to draw")
    title = f"Training curves{f' on {trained_on}' if trained_on else ''}"
    figure = draw(
        {name: histories[name] for name in shown},
        {name: histories[name] for name in others},
        marked(title, experiment),
    )
    files = Outputs.of(out)
    save_figure(figure, files.main)
    cells = [Cell(name, "history", "", tuple(some)) for name, some in (shown | others).items()]
    save_trace(files.trace, [files.main], experiment, cells)


def read_history(file: Path) -> pd.DataFrame:
    """A `history.csv`: one row per epoch, one column per term.

    Raises:
        UserError: missing, or not a history.
    """
    table = read_table(file)
    if not {"epoch", "learning_rate", "loss"} <= set(table) or table.empty:
        raise UserError(f"{file}: not a history.csv; train the model again")
    table = table.apply(finite_numbers, what=f"{file}: ")
    if table["epoch"].duplicated().any():
        raise UserError(f"{file}: an epoch stands twice; train the model again")
    return table.set_index("epoch")


def heading(column: str) -> str:
    """A column for reading: `id_global` is the identity loss on f_G."""
    kind, _, feature = column.partition("_")
    if kind in TITLES and feature in FEATURES:
        return f"{TITLES[kind]} {FEATURES[feature]}"
    return TITLES.get(column, column)


def draw(
    shown: dict[str, list[pd.DataFrame]], others: dict[str, list[pd.DataFrame]], title: str
) -> Figure:
    """The figure: all columns of the histories, those that are no term last.

    Args:
        shown: histories, one per seed.
        others: likewise, in light grey.
        title: above.
    """
    every = (shown | others).values()
    columns = list(dict.fromkeys(column for some in every for one in some for column in one))
    columns.sort(key=lambda column: LAST.index(column) if column in LAST else -1)
    rows = -(-len(columns) // COLUMNS)
    figure = Figure(figsize=(13.5, 2.6 * rows + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=12, weight="bold")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).ravel()
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    for place, (axes, column) in enumerate(zip(panels, columns, strict=False)):
        _draw_panel(axes, column, shown, others)
        if place + COLUMNS >= len(columns):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("epoch", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _draw_panel(
    axes: Axes,
    column: str,
    shown: dict[str, list[pd.DataFrame]],
    others: dict[str, list[pd.DataFrame]],
) -> None:
    label = f"the other models ({', '.join(others)})"
    for tables in others.values():
        curves = [table[column] for table in tables if column in table]
        if curves:
            mean = pd.concat(curves, axis=1).mean(axis=1)
            axes.plot(mean.index, mean, label=label, **OTHERS)
            label = None
    for method, style in styled(shown).items():
        curves = [table[column] for table in shown[method] if column in table]
        if not curves:
            continue
        seeds = pd.concat(curves, axis=1)
        mean = seeds.mean(axis=1)
        every = max(1, len(mean) // 8)
        axes.plot(
            mean.index, mean, label=method, linewidth=2, markevery=every, markersize=5, **style
        )
        if len(curves) > 1:
            axes.fill_between(
                mean.index, seeds.min(axis=1), seeds.max(axis=1), color=style["color"], alpha=0.2
            )
    axes.set_title(heading(column), fontsize=9.5)
    axes.set_ylim(0, 1.08 * axes.dataLim.y1)
    axes.tick_params(labelsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", linewidth=0.5, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
