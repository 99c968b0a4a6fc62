"""What the charts have in common: how curves are told apart, the title's warning, the file."""

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pgfl.runtime.files import whole_file

METRICS = {"rank1": "Rank-1", "mAP": "mAP"}
"""What the curves are of, and what it is called beside them."""

STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#e08214", "linestyle": "--", "marker": "s"},
    {"color": "#08306b", "linestyle": "-", "marker": "o"},
    {"color": "#5aae61", "linestyle": ":", "marker": "^"},
    {"color": "#762a83", "linestyle": "-.", "marker": "D"},
)
"""Light and dark, dashed and solid; Figure 3 has the first two."""


def styled(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The style of each method's curve, by their order: the baseline comes first."""
    return dict(zip(methods, cycle(STYLES), strict=False))


def marked(title: str, experiment: str) -> str:
    """A picture's title, with a word of warning where it is not the paper's experiment."""
    if experiment == "paper":
        return title
    return f"{title} ({experiment}: not the paper's experiment)"


def save_figure(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Write a PNG whole or not at all; equal figures give equal bytes.

    Args:
        figure: what was drawn.
        path: the picture; what stands there is replaced.
        dpi: pixels per inch of the figure's size.

    Raises:
        OSError: the picture cannot be written.
    """
    with whole_file(path) as temporary:
        # Without matplotlib's version, which would make equal pictures differ.
        figure.savefig(temporary, dpi=dpi, metadata={"Software": None})
