"""How accuracy falls as fewer keypoints of the query are seen: a model's curve over visibility."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from pgfl.errors import UserError
from pgfl.pose.check import open_store
from pgfl.pose.keypoints import KEYPOINTS
from pgfl.pose.quality import CONFIDENCE
from pgfl.reporting.more.outcomes import Outcomes, Queries, read_outcomes
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.statistics import std_text
from pgfl.reporting.styles import METRICS, marked, save_figure, styled
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.files import write_text

WIDTH = 3
"""Numbers of visible keypoints in a bin: 0-2, in which nobody counts as found, to 15-17."""
ALL = "all"
LEAST_PEOPLE = 5
"""With fewer people in a bin than this, resampling them says nothing."""
RESAMPLES = 2000
CONFIDENCE_LEVEL = 0.95


def write_visibility(
    files: Queries, manifest: Path, heatmaps: Path, experiment: str, out: Path | Outputs
) -> None:
    """Write `visibility.csv`, and the `.png` and the trace beside it.

    Args:
        files: what the evaluations noted of each query, one per seed; the first method is the one
            that the others are compared with.
        manifest: of the test set.
        heatmaps: the store of its split `query`.
        experiment: where the models are from; anything but `paper` is marked as such.
        out: the CSV: method (or the difference of two), source, keypoints (`all`, then the
            bins), queries, people, then rank1 and mAP in percent: means over queries and seeds,
            `.low` and `.high` of the 95 % interval over people, `.std` over seeds; experiment,
            seeds. Empty where there is nothing to say.

    Raises:
        UserError: an input cannot be used.
    """
    outcomes = read_outcomes(files, manifest)
    _require_same_seeds(files)
    bins = bin_of(visible_keypoints(heatmaps, list(outcomes.queries["image"])).sum(axis=1))
    values = {method: per_seed(outcomes, method) for method in files}
    made_of = {method: [method] for method in files}
    first, *others = files
    for other in others:
        difference = f"{other} - {first}"
        values[difference], made_of[difference] = values[other] - values[first], [first, other]
    pids = outcomes.queries["pid"].to_numpy()
    rows, cells = [], []
    for method, some in values.items():
        sources = (heatmaps, manifest, *(file for name in made_of[method] for file in files[name]))
        for row in summarised(some, pids, bins, shares=method in files):
            rows.append({"method": method, "source": "reproduced", **row})
            rows[-1] |= {"experiment": experiment, "seeds": str(some.shape[1])}
            where = f"{method}, {row['keypoints']} visible keypoints"
            cells += [Cell(where, name, row[name], sources) for name in METRICS]
    table = pd.DataFrame(rows)
    outputs = Outputs.of(out)
    write_text(outputs.main, table.to_csv(index=False, lineterminator="\n"))
    shown = table[table["method"].isin(files)]
    save_figure(draw(shown, experiment, outcomes.test_set), outputs.figure)
    save_trace(outputs.trace, [outputs.main, outputs.figure], experiment, cells)


def _require_same_seeds(files: Queries) -> None:
    """Raise UserError unless differences are of runs with the same seed, by their folders."""
    first, *others = files
    seeds = {method: [file.parent.parent.name for file in some] for method, some in files.items()}
    for other in others:
        if seeds[other] != seeds[first]:
            raise UserError(f"{files[other][0]}: not the same seeds as {first!r} has")


def visible_keypoints(heatmaps: Path, names: list[str]) -> np.ndarray:
    """bool (N, 17): which keypoints of these images are seen, by the pose report's threshold.

    Raises:
        UserError: not a heatmap file, or one of other images.
    """
    return open_store(heatmaps, names).confidence() >= CONFIDENCE


def bin_of(counts: np.ndarray) -> np.ndarray:
    """The name of the bin that each number of visible keypoints is in: `6-8`."""
    low = counts // WIDTH * WIDTH
    return np.array([f"{start}-{start + WIDTH - 1}" for start in low], dtype=object)


BINS = tuple(dict.fromkeys(bin_of(np.arange(len(KEYPOINTS) + 1))))


def per_seed(outcomes: Outcomes, method: str) -> np.ndarray:
    """float64 (queries, seeds, 2): each query's hit at rank 1 and AP, in percent; NaN without."""
    columns = []
    for table in outcomes.found[method]:
        hit = table["first_hit"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
        columns.append(np.stack([np.where(np.isnan(hit), hit, 100 * (hit == 1)), table["AP"]], 1))
    return np.stack(columns, axis=1)


def summarised(
    values: np.ndarray, pids: np.ndarray, bins: np.ndarray, shares: bool
) -> list[dict[str, str]]:
    """The numbers of all queries, then of each bin, as text.

    Args:
        values: (queries, seeds, 2), from `per_seed` or a difference of two; rows with NaN (no
            match) do not count.
        pids: (queries,).
        bins: (queries,) names.
        shares: whether the first of the two is a share of queries, so that its interval is
            `share_interval`'s: with few hits, drawing people again would give one too narrow.
    """
    valid = np.isfinite(values).all(axis=(1, 2))
    rows = []
    for name in (ALL, *BINS):
        chosen = valid & ((bins == name) | (name == ALL))
        some, people = values[chosen].mean(axis=1), pids[chosen]
        count = len(np.unique(people))
        low = high = np.full(len(METRICS), np.nan)
        if count >= LEAST_PEOPLE:
            low, high = interval(some, people)
            if shares:
                low[0], high[0] = share_interval(some[:, 0].mean(), count)
        row = {"keypoints": name, "queries": str(len(some)), "people": str(count)}
        for place, metric in enumerate(METRICS):
            seeds = values[chosen, :, place].mean(axis=0) if len(some) else [np.nan]
            row[metric] = _text(np.mean(seeds))
            row[f"{metric}.low"], row[f"{metric}.high"] = _text(low[place]), _text(high[place])
            row[f"{metric}.std"] = std_text(list(seeds))
        rows.append(row)
    return rows


def _text(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else ""


def share_interval(percent: float, people: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, with as many trials as there are people.

    Cautious where a person has several queries: these are taken for one.

    Args:
        percent: in [0, 100].
        people: at least 1.

    Returns:
        Lower and upper bound in percent, within [0, 100].
    """
    share, z = percent / 100, float(ndtri((1 + CONFIDENCE_LEVEL) / 2))
    middle = (share + z**2 / (2 * people)) / (1 + z**2 / people)
    half = z * np.sqrt(share * (1 - share) / people + z**2 / (4 * people**2))
    half /= 1 + z**2 / people
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def interval(values: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A 95 % percentile interval of the mean over queries, by drawing people again.

    Queries of one person are alike, so that people are drawn, each with all of its queries. The
    draws are the same in every call of equally many people.

    Args:
        values: (queries, m).
        people: (queries,) pids, of at least one person.

    Returns:
        Lower and upper bound, (m,) each.
    """
    names, place = np.unique(people, return_inverse=True)
    sums = np.stack([np.bincount(place, column) for column in values.T], axis=1)
    counts = np.bincount(place)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    means = (draws @ sums) / (draws @ counts)[:, None]
    beyond = (1 - CONFIDENCE_LEVEL) / 2
    return np.quantile(means, beyond, axis=0), np.quantile(means, 1 - beyond, axis=0)


def draw(table: pd.DataFrame, experiment: str, test_set: str) -> Figure:
    """Rank-1 and mAP over the number of visible keypoints, with the number of queries.

    Args:
        table: rows of the CSV, as text, the differences left out.
        experiment: anything but `paper` is marked.
        test_set: named in the title.
    """
    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    title = f"Accuracy by visibility of the query's keypoints on {test_set}"
    figure.suptitle(marked(title, experiment), fontsize=12, weight="bold")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for axes, (metric, label) in zip(panels, METRICS.items(), strict=True):
        _draw_panel(axes, table, metric)
        axes.set(title=label, ylim=(0, None))
    panels[0].set_ylabel("percent")
    panels[0].legend(frameon=False, loc="upper left")
    seeds = table["seeds"].iloc[0]
    lines = (
        f"visible keypoints of the query, of {len(KEYPOINTS)} (confidence at least "
        f"{CONFIDENCE:g}), and how many queries have so many",
        f"{'One seed' if seeds == '1' else f'Means over {seeds} seeds'}. Whiskers: 95 % intervals "
        f"over people; none below {LEAST_PEOPLE} people. Right of the line: all queries.",
    )
    figure.supxlabel("\n".join(lines), fontsize=8.5)
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    styles = styled(dict.fromkeys(table["method"]))
    order = [*BINS, ALL]
    for place, (method, style) in enumerate(styles.items()):
        rows = table[table["method"] == method].set_index("keypoints").loc[order]
        number = pd.to_numeric(rows[metric])
        low, high = (pd.to_numeric(rows[f"{metric}.{end}"]) for end in ("low", "high"))
        at = np.arange(len(order)) + 0.12 * (place - (len(styles) - 1) / 2)
        whiskers = (number - low).clip(lower=0).fillna(0), (high - number).clip(lower=0).fillna(0)
        for part in (slice(None, -1), slice(-1, None)):  # no line leads from the last bin to all
            axes.errorbar(
                at[part],
                number.iloc[part],
                yerr=[whisker.iloc[part] for whisker in whiskers],
                label=method if part.stop else None,
                linewidth=2,
                elinewidth=1,
                capsize=3,
                **style,
            )
    queries = table.drop_duplicates("keypoints").set_index("keypoints").loc[order, "queries"]
    labels = [f"{name.replace('-', '–')}\n{queries[name]}" for name in order]
    axes.set_xticks(range(len(order)), labels)
    axes.set_xlim(-0.5, len(BINS) + 0.5)
    axes.axvline(len(BINS) - 0.5, color="black", linewidth=0.8)
    axes.grid(axis="y", linewidth=0.5, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
