"""How the curves of two models are told apart: in colour, in greyscale and by their marks."""

from collections.abc import Iterable
from itertools import cycle
from typing import Any

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
