"""Ranked lists as one picture: a query in each row, beside it what was found, best first."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from pgfl.datasets.images import read_image
from pgfl.runtime.files import whole_file

CELL = (112, 224)
"""Width and height in pixels of the box that every image is fitted into."""
FRAME = 6
GAP = 14
LETTERS, TITLE_LETTERS = 17, 24
"""Heights of letters in pixels."""
DASH = 14
"""Length in pixels of the dashes of a wrong image's frame."""
RIGHT, WRONG, PLAIN = (0, 140, 60), (205, 20, 30), (190, 190, 190)
"""RGB of the frames; a wrong one is dashed too, for grey prints and for colour-blind readers."""


class Hit(NamedTuple):
    """One gallery image of a ranked list."""

    image: Path
    score: float
    """The higher, the more alike; a cosine similarity, for instance."""
    match: bool | None = None
    """Whether it shows the query's person; None where nobody knows, which gives no colour."""


class RankedList(NamedTuple):
    """A query and its gallery images, best first."""

    query: Path
    hits: Sequence[Hit]
    label: str = ""
    """Said over the row; empty: the query's file name."""


def draw_ranked_lists(rows: Sequence[RankedList], out: Path, title: str = "") -> None:
    """Write a PNG with a row for each query: the query, then its hits with rank and score.

    Frames are green (the query's person) or red and dashed (someone else) where that is known.

    Args:
        rows: at least one; plain tuples in this order do as well.
        out: the PNG, written whole.
        title: a line at the top.

    Raises:
        UserError: an image cannot be read.
        ValueError: there is nothing to draw.
    """
    if not rows:
        raise ValueError("no ranked list to draw")
    picture = ranked_lists_picture(rows, title)
    with whole_file(out) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def ranked_lists_picture(rows: Sequence[RankedList], title: str = "") -> Image.Image:
    """The same as an image in memory."""
    lists = [RankedList(query, [Hit(*hit) for hit in hits], *rest) for query, hits, *rest in rows]
    columns = 1 + max(len(row.hits) for row in lists)
    step, height = CELL[0] + 2 * FRAME + GAP, _row_height()
    top = 2 * GAP + TITLE_LETTERS if title else GAP
    # One gap more stands between the query and the rest.
    size = columns * step + 3 * GAP, top + len(lists) * height
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    if title:
        font = ImageFont.load_default(TITLE_LETTERS)
        pen.text((GAP, GAP), _shortened(title, font, size[0] - 2 * GAP), "black", font)
    for row in lists:
        _draw_row(sheet, pen, row, top, step)
        top += height
    return sheet


def fitted(path: Path, width: int, height: int) -> Image.Image:
    """An image as large as it fits into a box, its aspect ratio kept.

    Raises:
        UserError: it cannot be read.
    """
    image = Image.fromarray(read_image(path))
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _row_height() -> int:
    return CELL[1] + 2 * FRAME + 2 * (LETTERS + GAP // 2) + 2 * GAP


def _draw_row(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, row: RankedList, top: int, step: int
) -> None:
    font = ImageFont.load_default(LETTERS)
    label = _shortened(row.label or row.query.name, font, sheet.width - 2 * GAP)
    pen.text((GAP, top), label, "black", font)
    top += LETTERS + GAP // 2
    _draw_image(sheet, pen, row.query, (GAP, top), "black", dashed=False)
    below = top + CELL[1] + 2 * FRAME + GAP // 4
    middle = CELL[0] // 2 + FRAME
    pen.text((GAP + middle, below), "query", "black", font, anchor="ma")
    for rank, hit in enumerate(row.hits, start=1):
        left = 2 * GAP + rank * step
        colour = {True: RIGHT, False: WRONG, None: PLAIN}[hit.match]
        _draw_image(sheet, pen, hit.image, (left, top), colour, dashed=hit.match is False)
        text = f"{rank}:  {hit.score:.3f}"
        pen.text((left + middle, below), text, "black", font, anchor="ma")


def _draw_image(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    path: Path,
    place: tuple[int, int],
    colour: str | tuple[int, int, int],
    dashed: bool,
) -> None:
    """Paint an image in the middle of its cell, and a frame right around it."""
    image = fitted(path, *CELL)
    left = place[0] + FRAME + (CELL[0] - image.width) // 2
    top = place[1] + FRAME + (CELL[1] - image.height) // 2
    right, bottom = left + image.width, top + image.height
    outer = (left - FRAME, top - FRAME, right + FRAME - 1, bottom + FRAME - 1)
    pen.rectangle(outer, fill=colour)
    if dashed:
        # Gaps go across the frame; the image hides what of them lies within.
        for x in range(outer[0] + DASH, outer[2] - DASH, 2 * DASH):
            pen.rectangle((x, outer[1], x + DASH // 2, outer[3]), fill="white")
        for y in range(outer[1] + DASH, outer[3] - DASH, 2 * DASH):
            pen.rectangle((outer[0], y, outer[2], y + DASH // 2), fill="white")
    sheet.paste(image, (left, top))


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A text that is no wider than `width` pixels: what does not fit is replaced by dots."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
