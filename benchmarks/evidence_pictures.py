"""The pictures of docs/evidence.md, drawn from docs/evidence*.csv.

    python benchmarks/evidence_pictures.py [--out docs/images]

Run it again after a change of those tables: a test compares the pictures with what it draws.
On the left of each picture is the mAP of every seed and its mean; on the right every seed's
difference to the reference, the mean difference and its 95 % interval.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from pgfl.reporting.statistics import mean_text, paired_difference
from pgfl.runtime.files import whole_file

DOCS = Path(__file__).resolve().parents[1] / "docs"
RUNS = DOCS / "evidence.csv"
FIRST_READINGS = DOCS / "evidence_first_readings.csv"

DPI = 130
COLORS = 64

QUERIES = {
    "development": {"color": "#b35806", "marker": "s"},
    "held-out": {"color": "#08306b", "marker": "o"},
}
"""The two sets of queries, light and dark, the upper and the lower line of each row."""
LABELS = {"development": "development queries", "held-out": "held-out identities"}

BySeed = dict[str, "pd.Series[float]"]
"""For each set of queries the mAP in percent, indexed by seed."""


@dataclass(frozen=True)
class Row:
    """One model in a picture."""

    label: str
    results: BySeed
    reference: BySeed = field(default_factory=dict)
    """What its difference is from; empty for none."""

    def differences(self, queries: str) -> "pd.Series[float]":
        """Paired over the seeds that both have."""
        if queries not in self.reference:
            return pd.Series(dtype=float)
        return (self.results[queries] - self.reference[queries]).dropna()


@dataclass(frozen=True)
class Picture:
    """What stands above and below the rows of a picture."""

    title: str
    difference: str
    """The label of the right panel's axis."""
    rows: list[Row]
    note: str = ""
    numbers: bool = False
    """Whether means and differences are also written. Some runs are only known to one decimal, so
    their means cannot be: docs/evidence.md has them from the unrounded values."""


def runs_of(
    variant: str,
    second_layer4: str = "separate",
    *,
    before_repair: bool = False,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
) -> BySeed:
    """The mAP of one model of docs/evidence.csv.

    Args:
        variant: its name.
        second_layer4: `separate` or `shared`; a baseline has neither.
        before_repair: whether it was trained before the repair of the attention.
        seeds: which of its seeds are drawn.

    Raises:
        ValueError: there is no such run.
    """
    runs = pd.read_csv(RUNS, keep_default_na=False, dtype={"mAP": float, "seed": int})
    if variant.startswith("baseline"):
        second_layer4 = ""
    kept = (
        (runs["variant"] == variant)
        & (runs["second_layer4"] == second_layer4)
        & (runs["before_repair"] == ("yes" if before_repair else "no"))
        & runs["seed"].isin(seeds)
    )
    found = {name: group for name, group in runs[kept].groupby("queries")}
    if set(found) != set(QUERIES):
        raise ValueError(f"{RUNS.name}: no run of {variant}, {second_layer4}, {before_repair=}")
    return {name: found[name].set_index("seed")["mAP"].sort_index() for name in QUERIES}


def headline() -> Picture:
    baseline = runs_of("baseline")
    return Picture(
        "PGFL-KD beats the baseline on drawn people, each of five seeds",
        "mAP above the baseline",
        [Row("baseline", baseline), Row("PGFL-KD", runs_of("pgfl_kd"), baseline)],
        numbers=True,
    )


def pose() -> Picture:
    flat = runs_of("pgfl_kd_flat")
    return Picture(
        "By the means, half of the gain or more needs the right pose",
        "mAP above flat maps",
        [
            Row("baseline", runs_of("baseline"), flat),
            Row("flat maps", flat),
            Row("another image's\nmaps †", runs_of("pgfl_kd_shuffled", before_repair=True), flat),
            Row("PGFL-KD", runs_of("pgfl_kd"), flat),
        ],
        "† trained before the repair of the attention",
    )


def attention() -> Picture:
    reference = runs_of("pgfl_kd")
    return Picture(
        "Where Eq. 2 looks was not seen to matter",
        "mAP above PGFL-KD",
        [
            Row("PGFL-KD", reference),
            Row("uniform attention", runs_of("pgfl_kd_uniform"), reference),
            Row("true joints' maps", runs_of("pgfl_kd_true"), reference),
            Row("flat maps", runs_of("pgfl_kd_flat"), reference),
        ],
    )


TABLE_6 = {
    "Model 2": "sab",
    "Model 3": "sab_i",
    "Model 4": "sab_im",
    "Model 5": "sab_im_feb",
    "PGFL-KD": "pgfl_kd",
}
WITH_UNIT = {
    "Model 2": "sab_unit",
    "Model 3": "sab_i_unit",
    "Model 4": "sab_im_unit",
    "PGFL-KD": "pgfl_kd_unit",
}


def ablation() -> Picture:
    baseline = runs_of("baseline")
    rows = [Row("Model 1, baseline", baseline)]
    rows += [Row(label, runs_of(name), baseline) for label, name in TABLE_6.items()]
    rows += [Row(f"{label}, unit", runs_of(name), baseline) for label, name in WITH_UNIT.items()]
    return Picture(
        "Table 6: with part features of one norm (unit), Model 4 brings the gain",
        "mAP above the baseline",
        rows,
    )


def part_scale() -> Picture:
    rows = []
    for label, name in WITH_UNIT.items():
        default = runs_of(TABLE_6[label])
        rows += [Row(label, default), Row(f"{label}, unit", runs_of(name), default)]
    return Picture(
        "Part features of one norm repair Models 2 to 4, and change PGFL-KD little",
        "mAP of unit above the default",
        rows,
    )


def last_stage() -> Picture:
    compared = {
        "Model 4": ("sab_im", False, False),
        "Model 5": ("sab_im_feb", True, True),
        "another image's\nmaps": ("pgfl_kd_shuffled", True, True),
        "PGFL-KD": ("pgfl_kd", True, False),
    }
    rows = [Row("baseline", runs_of("baseline"))]
    for label, (name, shared_is_old, separate_is_old) in compared.items():
        shared = runs_of(name, "shared", before_repair=shared_is_old)
        separate = runs_of(name, before_repair=separate_is_old)
        rows.append(Row(f"{label}, shared{' †' * shared_is_old}", shared))
        rows.append(Row(f"{label}, separate{' †' * separate_is_old}", separate, shared))
    return Picture(
        "PGFL-KD is better with a separate last stage, Model 4 with a shared one",
        "mAP of separate above shared",
        rows,
        "† trained before the repair of the attention",
    )


def batches() -> Picture:
    rows = []
    for size, suffix in (("16 x 4", ""), ("4 x 16", "_4x16")):
        baseline = runs_of(f"baseline{suffix}", seeds=(0,))
        rows.append(Row(f"baseline, {size}", baseline))
        rows.append(Row(f"PGFL-KD, {size}", runs_of(f"pgfl_kd{suffix}", seeds=(0,)), baseline))
    return Picture(
        "The paper's batches of 4 x 16 learn less in as many epochs",
        "mAP above the baseline\nwith the same batches",
        rows,
        "seed 0 only: no interval",
    )


def readings() -> Picture:
    baseline = runs_of("baseline", seeds=(0,))
    rows = [
        Row(label, runs_of(name, seeds=(0,)), baseline)
        for label, name in {
            "as printed": "pgfl_kd_literal",
            "Table 7's variant": "pgfl_kd_part_cl",
            "PGFL-KD": "pgfl_kd",
        }.items()
    ]
    return Picture(
        "The equations as printed reach half of the baseline",
        "mAP above the baseline",
        [Row("baseline", baseline), *rows],
        "seed 0 only: no interval",
    )


def first_readings() -> Picture:
    tried = pd.read_csv(FIRST_READINGS)
    tried = tried[tried["model"] == "PGFL-KD"]
    baseline = {"development": runs_of("baseline")["development"]}
    rows = [Row("baseline", {"development": baseline["development"][[0, 1, 2]]})]
    for (attention, weight, maps), runs in tried.groupby(
        ["attention", "weight", "erased_maps"], sort=False
    ):
        label = f"{attention.split(',')[0]}, {weight:g}, {maps}"
        rows.append(Row(label, {"development": runs.set_index("seed")["mAP"]}, baseline))
    return Picture(
        "Our first reading of Eq. 2 and Eq. 4 (cosine, 0.25) gained almost nothing",
        "mAP above the baseline",
        rows,
        "Rows: attention of Eq. 2, weight of Eq. 4, what random erasing does to the maps. "
        "Shared last stage",
    )


def repeated() -> Picture:
    rows = []
    for label, name in {"Model 5": "sab_im_feb", "PGFL-KD": "pgfl_kd"}.items():
        before = runs_of(name, before_repair=True, seeds=(0, 1, 2))
        rows.append(Row(f"{label}, before †", before))
        rows.append(Row(f"{label}, after", runs_of(name, seeds=(0, 1, 2)), before))
    moved = pd.concat([row.differences(name) for row in rows for name in QUERIES]).abs().max()
    return Picture(
        f"Training the same seeds again moved one of them by {moved:.1f} mAP",
        "mAP after above before",
        rows,
    )


PICTURES: dict[str, Callable[[], Picture]] = {
    "headline": headline,
    "pose": pose,
    "attention": attention,
    "ablation": ablation,
    "part_scale": part_scale,
    "last_stage": last_stage,
    "batches": batches,
    "readings": readings,
    "first_readings": first_readings,
    "repeated": repeated,
}
"""`docs/images/evidence_{name}.png`."""


def draw(picture: Picture) -> Figure:
    """mAP on the left, differences on the right, one row per model."""
    names = [name for name in QUERIES if name in picture.rows[0].results]
    height = (
        1.5
        + (1.0 if picture.numbers else 0.46) * len(picture.rows)
        + 0.2 * picture.difference.count("\n")
    )
    figure = Figure(figsize=(9, height + 0.25 * bool(picture.note)), layout="constrained")
    figure.suptitle(picture.title, fontsize=12.5, weight="bold")
    scores, differences = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    for place, row in enumerate(picture.rows):
        for name in names:
            line = place + (0 if len(names) == 1 else 0.19 if name == "held-out" else -0.19)
            _draw_scores(scores, row.results[name], line, name, picture.numbers)
            _draw_difference(differences, row.differences(name), line, name, picture.numbers)
    scores.set_yticks(range(len(picture.rows)), [row.label for row in picture.rows], fontsize=11)
    scores.set_ylim(len(picture.rows) - 0.4, -0.6)
    scores.set_xlabel("mAP, percent", fontsize=11)
    differences.set_xlabel(picture.difference, fontsize=11)
    differences.axvline(0, color="#555555", linewidth=1, zorder=0)
    differences.tick_params(axis="y", left=False)
    for axes in (scores, differences):
        axes.margins(x=0.08)
        axes.grid(axis="x", linewidth=0.5, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        for place in range(1, len(picture.rows)):
            axes.axhline(place - 0.5, color="#dddddd", linewidth=0.6, zorder=0)
    figure.legend(
        handles=_legend(names, any(len(row.differences(names[0])) > 1 for row in picture.rows)),
        loc="outside lower center",
        ncols=5,
        fontsize=9.5,
        frameon=False,
        title=picture.note or None,
        title_fontsize=9.5,
    )
    return figure


def _draw_scores(
    axes: Axes, seeds: "pd.Series[float]", line: float, name: str, numbers: bool
) -> None:
    """A dot per seed; from two seeds on the mean as a bar."""
    style = QUERIES[name]
    _dots(axes, seeds, line, name)
    if len(seeds) > 1:
        _mean(axes, seeds.mean(), line, style["color"], mean_text(list(seeds)) * numbers)


def _draw_difference(
    axes: Axes, seeds: "pd.Series[float]", line: float, name: str, numbers: bool
) -> None:
    """A dot per pair of seeds; from two pairs on the mean as a bar, its interval as a line."""
    color = QUERIES[name]["color"]
    _dots(axes, seeds, line, name)
    if len(seeds) < 2:
        return
    found = paired_difference(list(seeds), [0.0] * len(seeds))
    axes.plot([found.low, found.high], [line, line], "-", color=color, linewidth=1.8)
    text = f"{found.mean:+.1f} ({found.low:.1f} to {found.high:.1f})"
    _mean(axes, found.mean, line, color, text * numbers)


def _mean(axes: Axes, mean: float, line: float, color: str, text: str) -> None:
    axes.plot([mean], [line], "|", color=color, markersize=17, markeredgewidth=3)
    axes.annotate(
        text,
        (mean, line),
        xytext=(0, 11),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=color,
        fontsize=11,
    )


def _dots(axes: Axes, values: "pd.Series[float]", line: float, name: str) -> None:
    style = QUERIES[name]
    # A step up or down by the seed, and a white edge, keep apart what lies at the same place.
    axes.plot(
        values,
        line + 0.04 * (np.asarray(values.index) - 2),
        style["marker"],
        color=style["color"],
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=4,
    )


def _legend(names: list[str], intervals: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", label=f"{LABELS[name]}, one dot per seed", **QUERIES[name])
        for name in names
    ]
    if intervals:
        grey = "#555555"
        handles += [
            Line2D([], [], color=grey, linestyle="", marker="|", ms=12, mew=3, label="mean"),
            Line2D([], [], color=grey, linewidth=1.8, label="95 % interval"),
        ]
    return handles


def save_picture(figure: Figure, path: Path) -> None:
    """A PNG with a palette, a third of the usual size; equal figures give equal bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    with whole_file(path) as temporary, Image.open(drawn) as image:
        image.convert("RGB").quantize(COLORS).save(temporary, format="PNG", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DOCS / "images", help="folder of the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        save_picture(draw(picture()), out / f"evidence_{name}.png")


if __name__ == "__main__":
    main()
