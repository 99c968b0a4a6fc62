"""The HTML of the pose report: one file, no script, nothing fetched, good to print."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pgfl.pose import quality
from pgfl.pose.keypoints import KEYPOINTS, PARTS
from pgfl.reporting.more.pose_pictures import COLOURS, histogram_page
from pgfl.reporting.pages import embedded, html_page

JPEG_QUALITY = 88
HEIGHT_EM = 16
"""Height of a picture on the page, in letters' heights."""
ATTRIBUTES = {
    "estimator": "estimator",
    "checkpoint_sha256": "checkpoint (sha256)",
    "input_size": "input, height x width",
    "softmax_scale": "softmax scale",
}

EXPLANATION = (
    "Each image, and its eight part maps over it, drawn as strongly as their peaks stand out "
    "from their own backgrounds: a hidden part, whose map is flat, is not drawn.",
    "Images at even steps from the most to the least confident of all (mean of 17 keypoints).",
)

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff;
       max-width: 1120px; margin: 1.5em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 1.8em; break-after: avoid; }
p { max-width: 46em; }
table { border-collapse: collapse; } td, th { padding: .2em .9em .2em 0; text-align: left;
       vertical-align: top; } td { overflow-wrap: anywhere; }
figure { display: inline-block; vertical-align: top; margin: 0 .7em .9em 0;
       break-inside: avoid; } figure img { display: block; width: 100%; }
.wide { max-width: 100%; }
figcaption { font-size: .75em; line-height: 1.3; overflow-wrap: anywhere; }
.legend { padding: 0; } .legend li { display: inline-block; margin-right: 1.2em; }
.legend b { display: inline-block; width: 1.4em; border: 1px solid #000; border-radius: 1em;
       text-align: center; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } }
"""


class Picture(NamedTuple):
    """A photograph with its part maps."""

    pixels: np.ndarray
    """uint8 (h, w, 3), RGB."""
    name: str
    """The image's name in the manifest."""
    note: str
    """A number or two about it."""


class Sheets(NamedTuple):
    """The pictures of the page's sections."""

    sample: Sequence[Picture]
    least_confident: Sequence[Picture]
    most_competing: Sequence[Picture]


@dataclass(frozen=True)
class Numbers:
    """How many images there are."""

    images: dict[str, int]
    """For each split."""
    nobody: int
    """In which nobody is found."""
    competing: int
    """In which two people compete."""

    @property
    def all(self) -> int:
        """Of all splits."""
        return sum(self.images.values())


def page(
    title: str,
    numbers: Numbers,
    attributes: Mapping[str, Mapping[str, Any]],
    sheets: Sheets,
    confidences: Mapping[str, np.ndarray],
    threshold: float,
    unusable: Sequence[str],
    warning: str = "",
) -> str:
    """The whole page.

    Args:
        title: plain text; this and all other text is escaped here.
        numbers: of images.
        attributes: of each split's file; any may be missing.
        sheets: the pictures.
        confidences: (N, 17) for each split.
        threshold: a keypoint with a lower confidence counts as not found.
        unusable: names of the photographs that could not be used.
        warning: stands before all else.
    """
    sections = [
        *([section("Warning", [warning], "")] if warning else []),
        _summary(numbers, attributes),
        section("The maps", EXPLANATION, _legend() + _sheet(sheets.sample)),
        section(
            "Confidence of each keypoint",
            _about_confidence(threshold),
            _histograms(confidences, threshold),
        ),
        section(
            f"Nobody found: {_of(numbers.nobody, numbers)}",
            _about_nobody(threshold, len(sheets.least_confident)),
            _sheet(sheets.least_confident),
        ),
        section(
            f"Two people compete: {_of(numbers.competing, numbers)}",
            _about_competing(numbers, len(sheets.most_competing)),
            _sheet(sheets.most_competing),
        ),
    ]
    if unusable:
        sections.append(
            section(
                f"Photographs that could not be used: {_of(len(unusable), numbers)}",
                ["Damaged or too small; their maps are flat.", ", ".join(unusable)],
                "",
            )
        )
    return html_page(title, STYLE, "\n".join(sections))


def _of(count: int, numbers: Numbers) -> str:
    return f"{count:,} of {numbers.all:,} images ({100 * count / numbers.all:.1f} %)"


def _about_confidence(threshold: float) -> list[str]:
    return [
        "The peak response of each keypoint's raw map, before any softmax: near one where the "
        f"keypoint is seen, near zero where it is not. Below {threshold:g} (dashed) it counts as "
        "not found; each panel says which share of the images that is. A keypoint that is "
        "missing far more often than its neighbours, or responses without a gap between the two "
        "ends, speak against the estimator or its input size.",
    ]


def _about_nobody(threshold: float, shown: int) -> list[str]:
    return [
        f"Fewer than {quality.PERSON_KEYPOINTS} of {len(KEYPOINTS)} keypoints reach "
        f"{threshold:g}: one stray peak makes no person, so an image's third-best keypoint "
        f"decides. The {shown} images in which it is least confident, whether or not it reaches "
        f"{threshold:g}:",
    ]


def _about_competing(numbers: Numbers, shown: int) -> list[str]:
    single = ", ".join(part.replace("_", " ") for part in quality.SINGLE_PARTS)
    criterion = (
        f"The map of a part that one person has in one place ({single}) has a second mode at "
        f"least {quality.SEPARATION:g} of the image's height away from the first, at most "
        f"{quality.LARGEST_GAP:g} weaker in response and at least {quality.LEAST_RISE:g} over "
        f"the background, with a valley of at least {quality.LEAST_DIP:g} between the two. A "
        "second mode where the other leg's map has its peak is left out: that is left and right "
        "of one person."
    )
    if not numbers.competing:
        return [criterion, "There is no such image."]
    which = "These" if shown == numbers.competing else f"The {shown} clearest of these"
    return [
        criterion,
        f"{which} images, those with the most such parts first. A black disc marks the second "
        "mode; the number beside each part says how much weaker it is.",
    ]


def _summary(numbers: Numbers, attributes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [("split", list(attributes)), ("images", [f"{n:,}" for n in numbers.images.values()])]
    for name, label in ATTRIBUTES.items():
        rows.append((label, [as_text(found.get(name)) for found in attributes.values()]))
    cells = (
        f"<tr><th>{escape(label)}</th>{''.join(f'<td>{escape(v)}</td>' for v in values)}</tr>"
        for label, values in rows
    )
    return f"<table>\n{chr(10).join(cells)}\n</table>"


def as_text(value: Any) -> str:
    """An attribute of an HDF5 file, whatever its type, as text."""
    if value is None:
        return "not said"
    values = np.ravel(value).tolist()
    return " x ".join(
        v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values
    )


def summary_line(numbers: Numbers, attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's main numbers in one line."""
    names = dict.fromkeys(as_text(found.get("estimator")) for found in attributes.values())
    return (
        f"Estimator: {', '.join(names)}. Nobody found in {_of(numbers.nobody, numbers)}, "
        f"two people compete in {_of(numbers.competing, numbers)}."
    )


def section(title: str, paragraphs: Sequence[str], body: str) -> str:
    """A part of a page: its title and paragraphs are plain text, its body is HTML."""
    text = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
    return f"<section>\n<h2>{escape(title)}</h2>\n{text}\n{body}\n</section>"


def _legend() -> str:
    items = (
        f'<li><b style="background: rgb{COLOURS[part]}">{number}</b> {part.replace("_", " ")}</li>'
        for number, part in enumerate(PARTS, start=1)
    )
    return f'<ul class="legend">{"".join(items)}</ul>\n'


def _sheet(pictures: Sequence[Picture]) -> str:
    return f"<div>\n{chr(10).join(map(_figure, pictures))}\n</div>"


def _figure(picture: Picture) -> str:
    name, note = escape(picture.name), escape(picture.note)
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    height, width = picture.pixels.shape[:2]
    return (
        f'<figure style="width: {HEIGHT_EM * width / height:.1f}em">'
        f'<img src="{embedded(buffer, "jpeg")}" alt="{name} and its part maps">'
        f"<figcaption>{note}<br>{name}</figcaption></figure>"
    )


def _histograms(confidences: Mapping[str, np.ndarray], threshold: float) -> str:
    buffer = io.BytesIO()
    histogram_page(confidences, threshold).savefig(buffer, format="png", dpi=120)
    alt = "Histograms of confidence, one for each keypoint"
    return f'<img class="wide" src="{embedded(buffer, "png")}" alt="{alt}">'
