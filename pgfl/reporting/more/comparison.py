"""Variants side by side, as the configuration's `comparisons` name them: table and picture."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.numbers import dataset_name
from pgfl.reporting.paper.specs import TableSpec
from pgfl.reporting.paper.summary import (
    NOT_MEASURED,
    LeftOut,
    Measurements,
    extent,
    heading,
    left_out_note,
    unusual,
    with_spread,
)
from pgfl.reporting.paper.tables import Evaluations, introduction, read_needed, reproduced
from pgfl.reporting.statistics import mean_text
from pgfl.reporting.styles import METRICS, STYLES, marked, save_figure
from pgfl.reporting.trace import save_trace
from pgfl.runtime.files import write_text

REFERENCE, OTHER = STYLES[0]["color"], STYLES[1]["color"]


def write_comparison(
    spec: TableSpec,
    evaluations: Evaluations,
    experiment: str,
    out: Path | Outputs,
    left_out: LeftOut | None = None,
) -> None:
    """Write table and picture of variants that the paper does not have; all is reproduced.

    Args:
        spec: its columns, rows and compared pairs.
        evaluations: the `eval/*.json` files that it needs.
        experiment: the experiment they are from.
        out: the CSV; Markdown, picture and trace lie beside it unless they are named.
        left_out: test sets whose cells stay empty, since files of theirs are missing.

    Raises:
        UserError: an evaluation is missing, cannot be read, or is not what it is given as; or all
            test sets are left out.
    """
    left_out = left_out or {}
    measurements = read_needed(spec, evaluations, left_out)
    table, cells = reproduced(spec, measurements, experiment, labels={})
    shown = pd.DataFrame({"method": table["method"]})
    for column in spec.columns:
        pairs = zip(table[column], table[f"{column}.std"], strict=True)
        shown[heading(column)] = [with_spread(mean or NOT_MEASURED, std) for mean, std in pairs]
    files = Outputs.of(out)
    text = introduction(spec.title, spec, shown, measurements, experiment, left_out)
    write_text(files.main, table.to_csv(index=False, lineterminator="\n"))
    write_text(files.markdown, text)
    save_figure(draw_comparison(spec, measurements, experiment, left_out), files.figure)
    save_trace(files.trace, [files.main, files.markdown, files.figure], experiment, cells)


def draw_comparison(
    spec: TableSpec, measurements: Measurements, experiment: str, left_out: LeftOut
) -> Figure:
    """Each seed of each variant as a dot, a row of panels for each test set.

    Args:
        spec: the table's; the variant that others are compared with has a line through all.
        measurements: all that it needs.
        experiment: anything but `paper` is marked.
        left_out: test sets that have no numbers, and so no panels; the picture says why.
    """
    variants = list(spec.reproduced.values())
    references = {spec.reproduced[reference] for _, reference in spec.compared}
    test_sets = [name for name in spec.test_sets if name not in left_out]
    rows = len(test_sets)
    figure = Figure(figsize=(9, 1.3 + rows * (0.9 + 0.3 * len(variants))), layout="constrained")
    figure.suptitle(marked(spec.title, experiment), fontsize=12, weight="bold")
    panels = figure.subplots(rows, len(METRICS), squeeze=False)
    for test_set, row in zip(test_sets, panels, strict=True):
        for (metric, label), axes in zip(METRICS.items(), row, strict=True):
            values = {
                variant: [one.value(metric) for one in measurements[variant, test_set]]
                for variant in variants
            }
            _draw_variants(axes, values, references)
            axes.set_xlabel(f"{label} on {dataset_name(test_set)}, percent")
        row[1].tick_params(labelleft=False)
    figure.supxlabel(
        f"Dots: seeds; bars and numbers: means. {extent(measurements, spec)}."
        f"{unusual(measurements)}\n{left_out_note(left_out)}".strip(),
        fontsize=8,
        wrap=True,
    )
    return figure


def _draw_variants(axes: Axes, values: dict[str, list[float]], references: set[str]) -> None:
    """One line of dots for each variant, the first on top."""
    for place, (variant, seeds) in enumerate(values.items()):
        color = REFERENCE if variant in references else OTHER
        mean = float(np.mean(seeds))
        axes.plot(seeds, [place] * len(seeds), "o", color=color, alpha=0.6, markersize=6)
        axes.plot([mean], [place], "|", color=color, markersize=18, markeredgewidth=2)
        axes.annotate(
            mean_text(seeds), (1.01, place), xycoords=("axes fraction", "data"), va="center"
        )
        if variant in references:
            axes.axvline(mean, color=color, linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.grid(axis="x", linewidth=0.5, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
