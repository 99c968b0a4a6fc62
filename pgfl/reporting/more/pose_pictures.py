"""Pictures of a pose cache: part maps over photographs, a legend, histograms of confidence."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from PIL import Image, ImageDraw, ImageFont

from pgfl.pose.keypoints import KEYPOINTS, PARTS
from pgfl.pose.quality import competing, find_modes, person_score, rise, visibility

COLOURS = {
    "head": (250, 225, 60),
    "left_lower_arm": (70, 200, 250),
    "right_lower_arm": (250, 160, 40),
    "left_knee": (70, 225, 130),
    "right_knee": (255, 100, 80),
    "left_ankle": (115, 155, 255),
    "right_ankle": (255, 115, 210),
    "torso": (245, 245, 245),
}
"""RGB. The person's own left is cold, the right is warm; numbers stand for them in grey prints."""

HEIGHT = 256
"""Pixels that every photograph is drawn high."""
WIDTHS = (64, 256)
"""Least and most pixels it is drawn wide."""
DIM = 0.45
BLOB = 0.02
"""Blur of a drawn map, as a share of the height: a peak of one cell must be seen, too."""
TAGGED = 0.5
"""Least visibility of a part that gets its number."""
TAG, LETTERS = 15, 12
"""Diameter of a number's disc, and height of its letters, in pixels."""
GAP = 4

HISTOGRAM_ROWS, HISTOGRAM_COLUMNS = 3, 6
# The whole image's panel fills the row of the five keypoints of the head.
PANELS = (*KEYPOINTS[:5], "", *KEYPOINTS[5:])
BINS = 25
LINES = (("0.1", "-"), ("0.45", "--"), ("0.6", ":"))
"""Grey and style of each split's line, where there are several."""

FIGURE_WIDTH = 13
SHEET_WIDTH, SPACE = 1970, 18
"""Pixels of the figure's sheet, and between its pictures."""
ROW = HEIGHT + 2 * SPACE + 6
"""Height of a row with its notes, in pixels."""
HEAD, HISTOGRAMS = 0.95, 5.0
"""Heights in inches of the title with the legend, and of the histograms."""


def photo_and_parts(photo: np.ndarray, maps: np.ndarray, scale: float) -> np.ndarray:
    """A photograph, and beside it the same one dimmed with its eight part maps.

    A map is drawn as strongly as its peak rises over its background (`quality.visibility`), so
    a flat one leaves no trace. The number of a part that is plainly seen stands in a disc at its
    peak. Where two people compete for a part, it does so too, and a black disc with the number
    marks the second mode.

    Args:
        photo: uint8 (H, W, 3), RGB.
        maps: (8, h, w), each summing to one.
        scale: of their softmax.

    Returns:
        uint8 (256, w, 3), RGB.
    """
    width = int(np.clip(round(HEIGHT * photo.shape[1] / photo.shape[0]), *WIDTHS))
    method = cv2.INTER_AREA if photo.shape[0] > HEIGHT else cv2.INTER_CUBIC
    photo = cv2.resize(photo, (width, HEIGHT), interpolation=method)
    strengths = visibility(rise(maps, scale))
    picture = Image.fromarray(blend(photo, maps, strengths))
    modes = find_modes(maps[None], scale)
    second = competing(modes, maps.shape[1])[0]
    pen, taken = ImageDraw.Draw(picture), []
    cell = np.array(picture.size[::-1]) / maps.shape[1:]
    for part in range(len(PARTS)):
        if strengths[part] >= TAGGED or second[part]:
            _number(pen, part, (modes.first[0, part] + 0.5) * cell, taken, picture.size)
        if second[part]:
            _number(
                pen, part, (modes.second[0, part] + 0.5) * cell, taken, picture.size, dark=True
            )
    gap = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    return np.hstack([photo, gap, np.asarray(picture)])


def blend(photo: np.ndarray, maps: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Part maps (8, h, w) of strengths (8,) in [0, 1] over a dimmed grey uint8 photograph."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32) * DIM
    alphas = np.stack([_blob(part, grey.shape) for part in maps]) * strengths[:, None, None]
    colours = np.array([COLOURS[part] for part in PARTS], np.float32)
    mixed = np.einsum("khw,kc->hwc", alphas, colours)
    mixed /= np.maximum(alphas.sum(axis=0), 1e-6)[..., None]
    cover = 1 - np.prod(1 - alphas, axis=0)[..., None]
    return (grey[..., None] * (1 - cover) + mixed * cover).astype(np.uint8)


def _blob(part: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) resized to (height, width) and scaled to a maximum of one."""
    height, width = size
    smooth = cv2.resize(part.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    smooth = cv2.GaussianBlur(smooth, (0, 0), BLOB * height)
    return smooth / max(smooth.max(), 1e-12)


def _number(
    pen: ImageDraw.ImageDraw,
    part: int,
    where: np.ndarray,
    taken: list[np.ndarray],
    size: tuple[int, int],
    dark: bool = False,
) -> None:
    """Write a part's number at (y, x), or beside it where another one is, and take that place."""
    y, x = place = _free_place(where, taken, size)
    taken.append(place)
    box = (x - TAG / 2, y - TAG / 2, x + TAG / 2, y + TAG / 2)
    colour = COLOURS[PARTS[part]]
    fill, edge, ink = ("black", colour, colour) if dark else (colour, "black", "black")
    pen.ellipse(box, fill, edge, width=2 if dark else 1)
    pen.text((x, y), str(part + 1), ink, ImageFont.load_default(LETTERS), anchor="mm")


def _free_place(where: np.ndarray, taken: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The place (y, x) nearest to one that is inside the picture and on no other number."""
    steps = np.stack(np.meshgrid(*[np.arange(-3, 4) * TAG] * 2), axis=-1).reshape(-1, 2)
    steps = steps[np.argsort((steps**2).sum(axis=1), kind="stable")]
    margin = TAG / 2 + 1
    places = np.clip(where + steps, margin, np.array(size[::-1]) - margin)
    apart = [all(np.hypot(*(place - other)) >= TAG for other in taken) for place in places]
    return places[np.argmax(apart)]


def draw_histograms(
    figure: Figure | SubFigure, confidences: Mapping[str, np.ndarray], threshold: float
) -> None:
    """A small histogram for each keypoint, and one for the third-best keypoint of the image.

    Args:
        figure: is filled.
        confidences: (N, 17) for each split.
        threshold: marked; each panel says which share of the images lies below it.
    """
    low, high = np.percentile(np.concatenate(list(confidences.values())), [0.1, 99.9])
    edges = np.linspace(min(0.0, low), max(1.1, high), BINS + 1)
    panels = figure.subplots(HISTOGRAM_ROWS, HISTOGRAM_COLUMNS, sharex=True, sharey=True)
    for axes, name in zip(panels.flat, PANELS, strict=True):
        values = {
            split: confidence[:, KEYPOINTS.index(name)] if name else person_score(confidence)
            for split, confidence in confidences.items()
        }
        _histogram(axes, values, edges, threshold)
        title = name.replace("_", " ") if name else "third best of the image"
        axes.set_title(title, fontsize=9, pad=3, fontweight="normal" if name else "bold")
    figure.supxlabel("confidence (peak response of the raw map)", fontsize=9)
    figure.supylabel("share of the images in %", fontsize=9)
    if len(confidences) > 1:
        lines = panels[0, 0].get_legend_handles_labels()
        place = {"loc": "outside upper right", "ncols": len(confidences), "frameon": False}
        figure.legend(*lines, fontsize=9, **place)
    figure.suptitle(
        f"Confidence of the keypoints: below {threshold:g} (dashed) one counts as not found",
        fontsize=11,
    )


def _histogram(
    axes: Axes, values: Mapping[str, np.ndarray], edges: np.ndarray, threshold: float
) -> None:
    for (split, given), (grey, style) in zip(values.items(), LINES, strict=False):
        # What lies outside is counted at the edge.
        counts, _ = np.histogram(np.clip(given, edges[0], edges[-1]), edges)
        shares = 100 * counts / len(given)
        if len(values) == 1:
            axes.stairs(shares, edges, fill=True, color="0.6")
        axes.stairs(shares, edges, color=grey, linestyle=style, linewidth=1, label=split)
    axes.axvline(threshold, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
    below = " / ".join(f"{100 * (given < threshold).mean():.0f}" for given in values.values())
    # Right of the line, for left of it is where the highest bars are.
    beside = axes.get_xaxis_transform()
    axes.text(
        threshold + 0.02 * (edges[-1] - edges[0]), 0.97, f"{below} % below",
        transform=beside, va="top", fontsize=8,
    )  # fmt: skip
    axes.tick_params(labelsize=7.5, length=2)
    axes.spines[["top", "right"]].set_visible(False)


def histogram_page(confidences: Mapping[str, np.ndarray], threshold: float) -> Figure:
    """The histograms alone, as a figure to save."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    draw_histograms(figure, confidences, threshold)
    return figure


def sheet_figure(
    title: str,
    lines: Sequence[str],
    pictures: Sequence[tuple[np.ndarray, str, str]],
    confidences: Mapping[str, np.ndarray],
    threshold: float,
) -> Figure:
    """One picture: photographs with their part maps above, histograms of confidence below.

    Args:
        title: its first line.
        lines: more text, below the title.
        pictures: uint8 (256, w, 3), a name and a note each; the notes are written over them.
        confidences: (N, 17) for each split.
        threshold: of the confidence.
    """
    rows = _rows([picture.shape[1] for picture, _, _ in pictures])
    heights = HEAD + 0.22 * len(lines), len(rows) * ROW * FIGURE_WIDTH / SHEET_WIDTH, HISTOGRAMS
    figure = Figure(figsize=(FIGURE_WIDTH, sum(heights)), layout="constrained")
    head, sheet, histograms = figure.subfigures(3, 1, height_ratios=heights)
    head.suptitle(title, fontsize=15, fontweight="bold")
    head.text(0.5, 0.36, "\n".join(lines), ha="center", va="bottom", fontsize=9.5, linespacing=1.4)
    _legend(head.add_axes((0.03, 0, 0.96, 0.3)))
    _sheet(sheet.add_axes((0, 0, 1, 1)), pictures, rows)
    draw_histograms(histograms, confidences, threshold)
    return figure


def _rows(widths: Sequence[int]) -> list[list[int]]:
    """Places of pictures in rows that are at most `SHEET_WIDTH` wide, as words in lines."""
    rows: list[list[int]] = [[]]
    used = SPACE
    for place, width in enumerate(widths):
        if rows[-1] and used + width + SPACE > SHEET_WIDTH:
            rows.append([])
            used = SPACE
        rows[-1].append(place)
        used += width + SPACE
    return rows


def _sheet(
    axes: Axes, pictures: Sequence[tuple[np.ndarray, str, str]], rows: list[list[int]]
) -> None:
    """Paint the rows of pictures onto one canvas, each row centred, notes above."""
    canvas = np.full((len(rows) * ROW, SHEET_WIDTH, 3), 255, np.uint8)
    axes.set_axis_off()
    for line, row in enumerate(rows):
        widths = [pictures[place][0].shape[1] for place in row]
        left = (SHEET_WIDTH - sum(widths) - SPACE * (len(row) - 1)) // 2
        bottom = (line + 1) * ROW - SPACE // 2
        for place, width in zip(row, widths, strict=True):
            picture, _, note = pictures[place]
            canvas[bottom - HEIGHT : bottom, left : left + width] = picture
            where = left + width / 2, bottom - HEIGHT - 6
            axes.text(*where, note, ha="center", va="bottom", fontsize=8.5)
            left += width + SPACE
    axes.imshow(canvas, aspect="auto")


def _legend(axes: Axes) -> None:
    """The eight parts with their numbers and colours, in a row."""
    axes.set_axis_off()
    axes.set(xlim=(0, len(PARTS)), ylim=(0, 1))
    for place, part in enumerate(PARTS):
        colour = np.array(COLOURS[part]) / 255
        disc = {"boxstyle": "circle,pad=0.25", "facecolor": colour, "edgecolor": "black"}
        middle = {"va": "center", "fontsize": 9.5}
        axes.text(place + 0.1, 0.5, str(place + 1), ha="center", bbox=disc, **middle)
        axes.text(place + 0.22, 0.5, part.replace("_", " "), **middle)
