"""A picture of what is in Partial-Duke: the same people whole, cut in half and cut to a third."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from pgfl.datasets.images import read_image
from pgfl.datasets.manifest import read_manifest
from pgfl.datasets.partial_duke import QUARTERS
from pgfl.errors import UserError
from pgfl.runtime.files import whole_file

PEOPLE = 8
WIDTH = 128
"""Pixels that every image is drawn wide."""
MOST_HEIGHT = 3 * WIDTH
GAP = 16
LABELS = 220
"""Width in pixels of the labels left of the rows."""
TEXT, CAPTION = 28, 18
"""Heights of letters in pixels."""

Examples = dict[tuple[str, int], tuple[Image.Image, str]]
"""An image and its caption, for a crop and an identity."""


def contact_sheet(manifest: Path, out: Path) -> int:
    """Draw examples of each crop: a row for each crop, a column for each of up to 8 people.

    All images are drawn equally wide, so that a crop looks as much shorter as it is. The people
    are taken evenly from those of whom there are images in the most crops, usually in all.

    Args:
        manifest: Partial-Duke's.
        out: a PNG.

    Returns:
        The number of images drawn.

    Raises:
        UserError: the manifest is not Partial-Duke's, or an image cannot be read.
    """
    table = read_manifest(manifest)
    if "crop" not in table or not table["crop"].isin(QUARTERS).all():
        raise UserError(f"{manifest}: column crop must hold one of {', '.join(QUARTERS)}")
    people = choose_people(table)
    chosen = table[table["pid"].isin(people)].drop_duplicates(["pid", "crop"])
    examples = {
        (row.crop, row.pid): (_fit(manifest.parent / row.image), f"{row.split} c{row.camid}")
        for row in chosen.itertuples()
    }
    shares = table["crop"].value_counts()
    labels = {
        crop: f"{crop.replace('_', ' ')}\n{number:,} images\n{100 * number / len(table):.1f} %"
        for crop in QUARTERS
        if (number := shares.get(crop, 0))
    }
    sheet = draw_sheet(labels, people, examples)
    with whole_file(out) as temporary:
        sheet.save(temporary, format="PNG")
    return len(examples)


def choose_people(table: pd.DataFrame) -> list[int]:
    """Up to `PEOPLE` identities, spread evenly over those that show the most kinds of crops."""
    kinds = table.groupby("pid")["crop"].nunique()
    best = kinds.index[kinds == kinds.max()]
    places = np.linspace(0, len(best) - 1, min(PEOPLE, len(best))).astype(int)
    return best[places].tolist()


def draw_sheet(labels: dict[str, str], people: list[int], examples: Examples) -> Image.Image:
    """Lay the examples out, with the label of each row and the identity over each column.

    Args:
        labels: a text for each row's crop.
        people: the identity of each column.
        examples: what there is to show; the other places stay empty.
    """
    heights = dict.fromkeys(labels, TEXT * 4)  # room for the label itself
    for (crop, _), (image, _) in examples.items():
        heights[crop] = max(heights[crop], image.height + GAP // 2 + CAPTION)
    width = LABELS + GAP + len(people) * (WIDTH + GAP)
    height = TEXT + 3 * GAP + sum(heights.values()) + 2 * GAP * len(heights)
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    text, caption = ImageFont.load_default(TEXT), ImageFont.load_default(CAPTION)
    lefts = {pid: LABELS + GAP + place * (WIDTH + GAP) for place, pid in enumerate(people)}
    for pid, left in lefts.items():
        pen.text((left, GAP), f"id {pid:04d}", "black", text)
    top = TEXT + 3 * GAP
    for crop, label in labels.items():
        pen.multiline_text((GAP, top), label, "black", text)
        for pid, left in lefts.items():
            if (crop, pid) in examples:
                image, below = examples[crop, pid]
                sheet.paste(image, (left, top))
                pen.text((left, top + image.height + GAP // 2), below, "black", caption)
        top += heights[crop] + 2 * GAP
    return sheet


def _fit(path: Path) -> Image.Image:
    """An image drawn `WIDTH` wide, or less where it would be taller than `MOST_HEIGHT`."""
    image = Image.fromarray(read_image(path))
    scale = min(WIDTH / image.width, MOST_HEIGHT / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
