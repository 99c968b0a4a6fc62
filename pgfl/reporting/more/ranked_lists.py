"""Ranked lists of a test set's best, median and worst queries, method below method."""

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.Image import Dither

from pgfl.reporting.more.outcomes import Outcomes, Queries, read_outcomes
from pgfl.reporting.more.ranked_list import ranked_lists_picture
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.styles import marked
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.files import whole_file

COLOURS = 256
KINDS = ("best", "median", "worst")
EACH = 2
"""Queries of each kind, of different people."""
SCALE = 0.7
"""The picture's size, as a share of what `ranked_list` draws: a report holds one per test set."""


def draw_ranked_lists_of(
    files: Queries, manifest: Path, experiment: str, out: Path | Outputs
) -> None:
    """Draw the ranked lists of some queries, as the first seed's models made them.

    The queries are chosen by the average precision that the last method reaches; the other
    methods' lists of the same queries stand above its own.

    Args:
        files: what the evaluations noted of each query, one per seed.
        manifest: of the test set.
        experiment: where the models are from; anything but `paper` is marked as such.
        out: a PNG; its trace lies beside it unless it is named.

    Raises:
        UserError: an input cannot be used.
    """
    outcomes = read_outcomes(files, manifest)
    last = list(files)[-1]
    rows = []
    for kind, places in chosen(outcomes, last).items():
        for place in places:
            name = outcomes.queries["image"].iloc[place].rpartition("/")[2]
            rows += [
                outcomes.ranked(method, place, f"{kind.capitalize()} query {name}: ")
                for method in files
            ]
    title = f"{outcomes.test_set}: best, median and worst queries by the AP of {last}"
    # 256 colours look the same and take a third of the space.
    picture = reduced(ranked_lists_picture(rows, marked(title, experiment)))
    picture = picture.quantize(COLOURS, dither=Dither.NONE)
    outputs = Outputs.of(out)
    with whole_file(outputs.main) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
    cells = [
        Cell(method, "ranked lists", "", (*some[:1], manifest)) for method, some in files.items()
    ]
    save_trace(outputs.trace, [outputs.main], experiment, cells)


def reduced(picture: Image.Image) -> Image.Image:
    """A picture of ranked lists at the size that it has in a report."""
    size = round(SCALE * picture.width), round(SCALE * picture.height)
    return picture.resize(size, Image.Resampling.LANCZOS)


def chosen(outcomes: Outcomes, method: str) -> dict[str, list[int]]:
    """Places of the best, the median and the worst queries of a method's first seed.

    Queries without a match are left out. Of equal ones the first in the manifest comes first; a
    person is shown once, and so a small test set may have fewer than `EACH` of a kind.
    """
    precision = outcomes.first(method)["AP"].to_numpy()
    order = np.argsort(-precision, kind="stable")[: np.isfinite(precision).sum()]
    middle = len(order) // 2
    # From the middle outwards: 5, 4, 6, 3, ...
    outwards = sorted(range(len(order)), key=lambda place: (abs(place - middle), place))
    ways = {"best": order, "worst": order[::-1], "median": order[outwards]}
    shown: set[int] = set()
    found: dict[str, list[int]] = {}
    for kind, places in ways.items():
        found[kind] = []
        for place in places:
            pid = int(outcomes.queries["pid"].iloc[place])
            if pid not in shown and len(found[kind]) < EACH:
                shown.add(pid)
                found[kind].append(int(place))
    return {kind: found[kind] for kind in KINDS}
