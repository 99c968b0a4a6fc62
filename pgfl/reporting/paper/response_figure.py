"""Figures 1 and 4: the responses of trained models on occluded queries."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from pgfl.datasets.images import read_image, resized
from pgfl.datasets.manifest import read_manifest
from pgfl.networks.saved import load_student
from pgfl.pose.check import open_store
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.responses import enlarged, response_maps, share_on_parts, stretched
from pgfl.reporting.styles import marked, save_figure
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.files import write_text

TITLE = "Responses to occluded queries"
QUERIES = 8
COLOURS = "inferno"
"""Perceptually uniform, from dark to light, so it reads in greyscale, too."""
DETAIL = 0.5
"""Of the image's detail below the colours."""
COLUMN, ROW_LABEL, HEAD, FOOT = 1.15, 1.35, 0.55, 0.8
"""Inches."""

Students = dict[str, list[Path]]
"""For each method: its `model.safetensors`, one per seed."""


def draw_responses(
    students: Students,
    manifest: Path,
    experiment: str,
    out: Path | Outputs,
    heatmaps: Path | None = None,
    table: Path | None = None,
) -> None:
    """Draw queries and, below them, the responses of each method's first seed.

    Args:
        students: methods in the order of their rows.
        manifest: of the occluded test set.
        experiment: where the models are from; anything but `paper` is marked as such.
        out: a PNG; its trace lies beside it unless it is named.
        heatmaps: the store of split `query`; with it the labels say how much of the response,
            over all queries and seeds, lies on visible body parts.
        table: a CSV for these shares; needs `heatmaps`.

    Raises:
        UserError: an input cannot be used.
    """
    names = list(read_manifest(manifest, "query")["image"])
    labels = {method: method for method in students}
    cells = [
        Cell(method, "responses", "", (*models[:1], manifest))
        for method, models in students.items()
    ]
    files = Outputs.of(out)
    written = [files.main]
    if heatmaps is not None:
        shares = measure_shares(students, manifest, names, heatmaps, experiment)
        for row in shares.itertuples():
            labels[row.method] += f"\n{row.on_parts} % on parts\n({row.area} % of area)"
        cells += [
            Cell(row.method, "on_parts", row.on_parts, (*students[row.method], manifest, heatmaps))
            for row in shares.itertuples()
        ]
        if table is not None:
            write_text(table, shares.to_csv(index=False, lineterminator="\n"))
            written.append(table)
    chosen = [names[place] for place in spread(len(names), QUERIES)]
    _, settings = load_student(next(iter(students.values()))[0])
    size = (settings.height, settings.width)
    queries = [resized(read_image(manifest.parent / name), *size) for name in chosen]
    rows = {"Query": queries}
    for method, models in students.items():
        maps = stretched(enlarged(response_maps(models[0], manifest.parent, chosen), size))
        rows[labels[method]] = [
            overlay(query, own) for query, own in zip(queries, maps, strict=True)
        ]
    figure = draw_grid(
        rows,
        size,
        marked(TITLE, experiment),
        _caption(len(chosen), len(names), heatmaps is not None),
    )
    save_figure(figure, files.main, dpi=150)
    save_trace(files.trace, written, experiment, cells)


def measure_shares(
    students: Students, manifest: Path, names: list[str], heatmaps: Path, experiment: str
) -> pd.DataFrame:
    """The share of the response on visible body parts, over all queries: one row per method.

    Returns:
        Text columns: method, source, on_parts (percent: mean over queries, then over seeds),
        on_parts.std (over seeds; empty for one), area (percent of the image that the parts take
        up), queries, experiment, seeds.

    Raises:
        UserError: a model, an image or the store cannot be used.
    """
    maps = open_store(heatmaps, names).read(slice(None))
    rows = []
    for method, models in students.items():
        found = [share_on_parts(response_maps(m, manifest.parent, names), maps) for m in models]
        means = pd.Series([100 * share.mean() for share, _ in found])
        rows.append(
            {
                "method": method,
                "source": "reproduced",
                "on_parts": f"{means.mean():.1f}",
                "on_parts.std": f"{means.std(ddof=1):.1f}" if len(means) > 1 else "",
                "area": f"{100 * found[0][1].mean():.1f}",
                "queries": str(len(names)),
                "experiment": experiment,
                "seeds": str(len(models)),
            }
        )
    return pd.DataFrame(rows)


def spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` places spread evenly over `count`: the middles of equal parts."""
    parts = min(wanted, count)
    return [(2 * part + 1) * count // (2 * parts) for part in range(parts)]


def overlay(image: np.ndarray, response: np.ndarray) -> np.ndarray:
    """A response in colours, with the image's outlines in them.

    Only what differs from the image's surroundings is laid over the colours: they stay those of
    the scale, and a dark coat does not pass for a weak response where colours are printed in grey.

    Args:
        image: uint8 (H, W, 3).
        response: (H, W) in [0, 1].

    Returns:
        uint8 (H, W, 3).
    """
    grey = image.mean(axis=2)
    detail = grey - cv2.GaussianBlur(grey, None, sigmaX=grey.shape[1] / 10)
    colours = 255 * colormaps[COLOURS](response)[..., :3]
    return (colours + DETAIL * detail[..., None]).clip(0, 255).round().astype(np.uint8)


def draw_grid(
    rows: dict[str, list[np.ndarray]], size: tuple[int, int], title: str, caption: str
) -> Figure:
    """Rows of equally large images with labels to their left and a colour scale to the right.

    Args:
        rows: uint8 (H, W, 3) images by the row's label.
        size: (H, W).
        title: above.
        caption: below.
    """
    columns = max(len(images) for images in rows.values())
    height = COLUMN * size[0] / size[1]
    width = ROW_LABEL + columns * COLUMN + 0.9
    whole = HEAD + len(rows) * height + FOOT
    figure = Figure(figsize=(width, whole))
    grid = figure.subplots(
        len(rows),
        columns,
        squeeze=False,
        gridspec_kw={
            "left": ROW_LABEL / width,
            "right": 1 - 0.9 / width,
            "bottom": FOOT / whole,
            "top": 1 - HEAD / whole,
            "wspace": 0.06,
            "hspace": 0.03,
        },
    )
    for axes, (label, images) in zip(grid, rows.items(), strict=True):
        for place in axes:
            place.set_axis_off()
        for place, image in zip(axes, images, strict=False):
            place.imshow(image, interpolation="nearest", aspect="auto")
        box = axes[0].get_position()
        figure.text(0.15 / width, (box.y0 + box.y1) / 2, label, va="center", fontsize=9)
    scale = figure.add_axes((1 - 0.75 / width, FOOT / whole, 0.12 / width, height / whole))
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), cax=scale)
    bar.set_label("response", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    figure.text(0.15 / width, 1 - 0.35 / whole, title, fontsize=12, weight="bold")
    figure.text(0.15 / width, 0.15 / whole, caption, fontsize=8, va="bottom", linespacing=1.4)
    return figure


def _caption(shown: int, queries: int, shares: bool) -> str:
    lines = [
        f"{shown} of {queries} queries, taken at equal distances through the list, not chosen by "
        "eye. Response: the L2 norm over channels of the last",
        "feature map, stretched from 0 to 1 in each image and interpolated; the image's outlines "
        "are laid over it.",
    ]
    if shares:
        lines.append(
            "On parts: the share of the response, over all queries, where a visible part's "
            "heatmap is high; of area: what a uniform response would have."
        )
    return "\n".join(lines)
