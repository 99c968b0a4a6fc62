"""The picture of the occlusion stress test: one curve a model over the covered share."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pgfl.datasets.images import read_image
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.numbers import dataset_name
from pgfl.reporting.paper.response_figure import Students, spread
from pgfl.reporting.styles import METRICS, marked, save_figure, styled
from pgfl.reporting.trace import Cell, save_trace
from pgfl.retrieval.distances import Metric
from pgfl.retrieval.obstacles import SIDES
from pgfl.retrieval.stress import NO_SIDE, cover, stress
from pgfl.runtime.files import write_text

MEAN = "mean"
"""What stands for the side in a mean over all four."""


def write_stress(
    students: Students,
    manifest: Path,
    shares: Sequence[float],
    experiment: str,
    out: Path | Outputs,
    *,
    metric: Metric = "cosine",
    after_norm: bool = True,
    batch_size: int = 64,
) -> None:
    """Run the stress test with every student; write its CSV, its picture and its trace.

    Args:
        students: methods in the order of their curves.
        manifest: of the test set; its folder's name is the test set's.
        shares: of the image that is covered, in [0, 1]; at least one above 0.
        experiment: where the models are from; anything but `paper` is marked as such.
        out: the CSV: method, source, covered (percent), side (`none`, the four sides, and `mean`
            over them), rank1 and mAP (percent, means over seeds; `.std` over seeds, empty for
            one), queries, gallery, experiment, seeds.
        metric: `cosine` or `euclidean`.
        after_norm: whether features are compared after the BNNeck's normalisation.
        batch_size: images at a time.

    Raises:
        UserError: an input cannot be used, or a share is none.
    """
    if not any(share > 0 for share in shares) or not all(0 <= share <= 1 for share in shares):
        raise UserError("--shares: needs numbers from 0 to 1, one of them above 0")
    rows = []
    for method, models in students.items():
        runs = [
            stress(
                model,
                manifest,
                shares,
                metric=metric,
                after_norm=after_norm,
                batch_size=batch_size,
            )
            for model in models
        ]
        for row in summarised(runs):
            rows.append({"method": method, "source": "reproduced", **row})
            rows[-1] |= {"experiment": experiment, "seeds": len(models)}
    table = pd.DataFrame(rows)
    printed = as_text(table)
    cells = [
        Cell(
            f"{row['method']}, {row['covered']} % covered, {row['side']}",
            name,
            row[name],
            (*students[row["method"]], manifest),
        )
        for row in printed.to_dict("records")
        for name in METRICS
    ]
    files = Outputs.of(out)
    write_text(files.main, printed.to_csv(index=False, lineterminator="\n"))
    test_set = dataset_name(manifest.absolute().parent.name)
    figure = draw_stress(table, examples(manifest, shares), experiment, test_set)
    save_figure(figure, files.figure)
    save_trace(files.trace, [files.main, files.figure], experiment, cells)


def summarised(runs: Sequence[pd.DataFrame]) -> list[dict[str, Any]]:
    """Each cover's numbers over the seeds, and after each share their mean over the sides.

    Args:
        runs: what `stress` found with each seed's model; the same covers in all of them.

    Returns:
        Rows of covered (percent), side, mean and sample standard deviation (`.std`, NaN for one
        seed) of each metric in percent, and the numbers of images.
    """
    everything = pd.concat(dict(enumerate(runs)), names=["seed"]).reset_index("seed")
    sizes = {name: int(runs[0][name].iloc[0]) for name in ("queries", "gallery")}
    rows = []
    for share, found in everything.groupby("covered"):
        groups = list(found.groupby("side", sort=False))
        if len(groups) > 1:
            by_seed = found.groupby("seed")[list(METRICS)].mean()
            groups.append((MEAN, by_seed))
        for side, group in groups:
            row = {"covered": 100 * share, "side": str(side)}
            for name in METRICS:
                values = group[name].to_numpy()
                row[name] = np.mean(values)
                row[f"{name}.std"] = np.std(values, ddof=1) if len(values) > 1 else np.nan
            rows.append(row | sizes)
    return rows


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The rows as they are printed: means with one decimal, deviations with two."""
    printed = table.assign(covered=table["covered"].map("{:.10g}".format))
    for name in METRICS:
        printed[name] = table[name].map("{:.1f}".format)
        printed[f"{name}.std"] = table[f"{name}.std"].map("{:.2f}".format, na_action="ignore")
    return printed.fillna("")


def examples(manifest: Path, shares: Sequence[float]) -> list[tuple[np.ndarray, str]]:
    """One query under each share, from one side after the other, with what was done to it."""
    names = list(read_manifest(manifest, "query")["image"])
    name = names[spread(len(names), 1)[0]]
    image = read_image(manifest.parent / name)
    found = [(image, "as it is")]
    for share, side in zip(sorted({s for s in shares if s > 0}), cycle(SIDES), strict=False):
        found.append((cover(image, share, side, name), f"{100 * share:g} %, {side}"))
    return found


def draw_stress(
    table: pd.DataFrame,
    pictures: Sequence[tuple[np.ndarray, str]],
    experiment: str,
    test_set: str,
) -> Figure:
    """Covered queries above, Rank-1 and mAP over the covered share below.

    Args:
        table: the CSV's columns, as numbers.
        pictures: uint8 images and the words below them.
        experiment: anything but `paper` is marked.
        test_set: named in the title.
    """
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2, 3.6))
    figure.suptitle(
        marked(f"Occlusion stress test on {test_set}", experiment), fontsize=12, weight="bold"
    )
    for axes, (image, words) in zip(
        above.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True
    ):
        axes.imshow(image)
        axes.set_axis_off()
        axes.set_title(words, fontsize=8.5)
    panels = below.subplots(1, len(METRICS), sharey=True)
    for axes, (name, label) in zip(panels, METRICS.items(), strict=True):
        _draw_curves(axes, table, name)
        axes.set(xlabel="covered share of the query, percent", title=label, ylim=(0, None))
    panels[0].set_ylabel("percent")
    first = table.iloc[0]
    panels[0].legend(frameon=False)
    seeds = "one seed" if first["seeds"] == 1 else f"means over {first['seeds']} seeds"
    below.supxlabel(
        f"{first['queries']} queries, {first['gallery']} gallery images, {seeds}. Line: mean over "
        "the four sides; whiskers: from the worst side to the best.",
        fontsize=8.5,
    )
    return figure


def _draw_curves(axes: Axes, table: pd.DataFrame, name: str) -> None:
    methods = list(dict.fromkeys(table["method"]))
    steps = sorted(table["covered"].unique())
    for place, (method, style) in enumerate(styled(methods).items()):
        rows = table[table["method"] == method]
        line = rows[rows["side"].isin([NO_SIDE, MEAN])].set_index("covered")[name]
        sides = rows[rows["side"] != MEAN].groupby("covered")[name]
        # Side by side, so that one model's spread does not hide the other's.
        moved = 0.1 * (steps[1] - steps[0]) * (place - (len(methods) - 1) / 2)
        axes.errorbar(
            line.index + moved,
            line,
            yerr=(line - sides.min(), sides.max() - line),
            label=method,
            linewidth=2,
            elinewidth=1,
            capsize=3,
            **style,
        )
    axes.set_xticks(steps)
    axes.grid(axis="y", linewidth=0.5, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
