"""The failure report: the worst queries, what was seen of them, and what the baseline made of it.

One HTML file in the style of the pose report: no script, nothing fetched, good to print.
"""

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from pgfl.pose.keypoints import KEYPOINTS
from pgfl.pose.quality import CONFIDENCE
from pgfl.reporting.more.outcomes import Outcomes, Queries, numbers, read_outcomes
from pgfl.reporting.more.pose_page import STYLE, section
from pgfl.reporting.more.ranked_list import RankedList, ranked_lists_picture
from pgfl.reporting.more.ranked_lists import reduced
from pgfl.reporting.more.visibility import visible_keypoints
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.pages import embedded, html_page
from pgfl.reporting.styles import marked
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.files import write_text

SHOWN = 12
"""Queries on the page."""
LARGEST = 1_500_000
"""Characters of the page. Snakemake's report shows it by an address that holds all of it, a third
longer, and browsers show nothing for an address of more than 2 MiB."""
QUALITIES = (88, 80, 70, 60, 50, 40, 30)
"""Of the JPEG pictures: the first with which the page is small enough."""


def write_failures(
    files: Queries, manifest: Path, heatmaps: Path, experiment: str, out: Path | Outputs
) -> None:
    """Write the page and its trace.

    Args:
        files: what the evaluations noted of each query, one per seed; the last method's worst
            queries are shown, by its first seed. The others' lists stand beside its own.
        manifest: of the test set.
        heatmaps: the store of its split `query`.
        experiment: where the models are from; anything but `paper` is marked as such.
        out: the HTML file; its trace lies beside it unless it is named.

    Raises:
        UserError: an input cannot be used.
    """
    outcomes = read_outcomes(files, manifest)
    visible = visible_keypoints(heatmaps, list(outcomes.queries["image"]))
    method = list(files)[-1]
    places = worst(outcomes.first(method)["AP"].to_numpy(), SHOWN)
    title = marked(f"Worst queries of {method} on {outcomes.test_set}", experiment)
    pictures = [reduced(ranked_lists_picture(_lists(outcomes, place, method))) for place in places]
    for quality in QUALITIES:
        body = [_summary(outcomes, visible, places, method)]
        for rank, (place, picture) in enumerate(zip(places, pictures, strict=True), start=1):
            body.append(_query(outcomes, visible[place], place, rank, method, picture, quality))
        text = html_page(title, STYLE, "\n".join(body))
        if len(text) <= LARGEST:
            break
    outputs = Outputs.of(out)
    write_text(outputs.main, text)
    cells = [
        Cell(name, "worst queries", "", (*some[:1], heatmaps, manifest))
        for name, some in files.items()
    ]
    save_trace(outputs.trace, [outputs.main], experiment, cells)


def worst(precision: np.ndarray, count: int) -> list[int]:
    """Places of the queries with the least AP, the least first; those without a match left out.

    Of equal ones the first comes first.
    """
    order = np.argsort(precision, kind="stable")  # NaN last
    return order[: min(count, int(np.isfinite(precision).sum()))].tolist()


def _summary(outcomes: Outcomes, visible: np.ndarray, places: Sequence[int], method: str) -> str:
    """What the worst queries have in common, as a table beside all queries."""
    counts = visible.sum(axis=1)
    valid = np.isfinite(outcomes.first(method)["AP"].to_numpy())
    rows = [
        ("", f"these {len(places)}", f"all {valid.sum():,} queries with a match"),
        (
            f"visible keypoints, of {len(KEYPOINTS)}: mean",
            f"{counts[places].mean():.1f}",
            f"{counts[valid].mean():.1f}",
        ),
    ]
    for name, tables in outcomes.found.items():
        precision = tables[0]["AP"]
        rows.append(
            (
                f"mean AP of {name}, percent",
                f"{precision[places].mean():.1f}",
                f"{precision[valid].mean():.1f}",
            )
        )
    table = "\n".join(
        "<tr><th>"
        + escape(first)
        + "</th>"
        + "".join(f"<td>{escape(v)}</td>" for v in rest)
        + "</tr>"
        for first, *rest in rows
    )
    about = (
        f"The queries with the least average precision (AP) of {method}, the worst first, with "
        "the ten nearest gallery images of each model. A solid green frame shows the query's "
        "person, a dashed red one somebody else; below it are the rank and the cosine similarity. "
        "First seed. Being the worst of many, their mean AP says little by itself: compare the "
        "models and what was visible.",
        f"A keypoint is visible where the pose network's peak response reaches {CONFIDENCE:g}. "
        "Few visible keypoints speak for occlusion as the reason, many for people who look alike "
        "or a model that does not look there.",
    )
    return section("What they have in common", about, f"<table>\n{table}\n</table>")


def _lists(outcomes: Outcomes, place: int, method: str) -> list[RankedList]:
    """A query's ranked lists: the method's own comes last."""
    others = [name for name in outcomes.found if name != method]
    return [outcomes.ranked(name, place) for name in (*others, method)]


def _query(
    outcomes: Outcomes,
    visible: np.ndarray,
    place: int,
    rank: int,
    method: str,
    picture: Image.Image,
    quality: int,
) -> str:
    """One query: what of it is visible, and each model's ranked list."""
    row = outcomes.queries.iloc[place]
    own = outcomes.first(method).iloc[place]
    words = [f"{method}: {numbers(own)}."]
    for name, tables in outcomes.found.items():
        if name != method:
            theirs = tables[0].iloc[place]
            words.append(f"{name}: {numbers(theirs)} ({_verdict(theirs['AP'], own['AP'])}).")
    seen = ", ".join(np.array(KEYPOINTS)[visible]).replace("_", " ") or "none"
    keypoints = f"{visible.sum()} of {len(KEYPOINTS)} keypoints visible: {seen}."
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    alt = escape(f"The ranked lists of {row['image']}")
    figure = f'<img class="wide" src="{embedded(buffer, "jpeg")}" alt="{alt}">'
    heading = f"{rank}. {row['image']} (person {row['pid']}, camera {row['camid']})"
    return section(heading, [" ".join(words), keypoints], figure)


def _verdict(theirs: float, own: float) -> str:
    if theirs == own:
        return "the same"
    return "better" if theirs > own else "worse"
