"""What the names of a folder's images say, by a pattern such as `{pid}_c{camid}_{}.jpg`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from pgfl.errors import UserError
from pgfl.runtime.messages import shown


class Named(NamedTuple):
    """An image and what its name says; None where the pattern does not ask for it."""

    image: str
    """Path below the folder, with forward slashes."""
    pid: str
    camid: str | None = None
    split: str | None = None
    """As in `SPLIT_WORDS`: train, query, gallery or test."""


class Layout(NamedTuple):
    """A usual way to name images."""

    words: str
    pattern: str


LAYOUTS = (
    Layout("a folder for each split, names as in Market-1501", "{split}/{pid:d}_c{camid:d}{}"),
    Layout("a folder for each split, in it one for each person", "{split}/{pid}/{}"),
    Layout("names as in Market-1501 and DukeMTMC-reID", "{pid:d}_c{camid:d}{}"),
    Layout("person, camera, number", "{pid}_c{camid:d}_{}"),
    Layout("person, camera, number", "{pid}_cam{camid:d}_{}"),
    Layout("a folder for each camera, in it one for each person", "cam{camid}/{pid}/{}"),
    Layout("a folder for each person, in it one for each camera", "{pid}/{camid}/{}"),
    Layout("a folder for each person, names begin with the camera", "{pid}/c{camid:d}{}"),
    Layout("a folder for each person, names begin with the camera", "{pid}/cam{camid:d}{}"),
    Layout("a folder for each person, its name again in names", "{pid}/{pid}_c{camid:d}{}"),
    Layout("a folder for each person", "{pid}/{}"),
    Layout("person and number", "{pid}_{:d}.{}"),
)
"""The first that nearly all images of a folder follow is taken."""
ENOUGH = 0.9
"""The share of images that must follow a layout."""

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "bounding_box_train", "image_train"), "train"),
    **dict.fromkeys(("query", "probe", "image_query"), "query"),
    **dict.fromkeys(("gallery", "bounding_box_test", "image_test"), "gallery"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What `{split}` may stand for, in small letters."""

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
DIGITS = "[0-9]+(?![0-9])"
SHAPES = {
    "": "[^/]*?",
    "*": "[^/]*?",
    ":d": DIGITS,
    "pid": "(?P<pid>[^/]+?)",
    "pid:d": f"(?P<pid>-?{DIGITS})",
    "camid": "(?P<camid>[^/]+?)",
    "camid:d": f"(?P<camid>{DIGITS})",
    "split": "(?P<split>[^/]+?)",
}
"""What a placeholder stands for: as few characters as possible, or all digits that follow."""


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression that must match the whole path below the folder.

    Text between placeholders is matched whatever its case: `.jpg` is `.JPG` as well.

    Raises:
        UserError: an unknown placeholder, no `{pid}`, or two placeholders with nothing between.
    """
    where = f"--pattern {shown(pattern)}"
    known = ", ".join(f"{{{name}}}" for name in SHAPES)
    parts = PLACEHOLDER.split(pattern)
    names = parts[1::2]
    expression = re.escape(parts[0])
    for place, (name, text) in enumerate(zip(names, parts[2::2], strict=True)):
        if name not in SHAPES:
            raise UserError(f"{where}: no placeholder {shown('{' + name + '}')}; known: {known}")
        is_last = place == len(names) - 1
        if not text and not is_last and not name.endswith(":d"):
            raise UserError(
                f"{where}: nothing between {{{name}}} and {{{names[place + 1]}}} tells where the "
                "first ends; :d after a name takes all digits, as in {pid:d}"
            )
        field = name.partition(":")[0]
        again = field in ("pid", "camid", "split") and f"(?P<{field}>" in expression
        expression += (f"(?P={field})" if again else SHAPES[name]) + re.escape(text)
    if any(brace in text for text in parts[0::2] for brace in "{}"):
        raise UserError(f"{where}: a brace without its partner; known placeholders: {known}")
    if "(?P<pid>" not in expression:
        raise UserError(f"{where}: must say where the person stands: {{pid}}")
    return re.compile(expression, re.IGNORECASE | re.DOTALL)


def read_names(images: Sequence[str], pattern: str) -> tuple[list[Named], list[str]]:
    """What the names say by a pattern, and the names that do not fit it.

    Raises:
        UserError: the pattern is none, or a name's split is none.
    """
    expression = compiled(pattern)
    fits, others = [], []
    for image in images:
        match = expression.fullmatch(image)
        if match is None:
            others.append(image)
            continue
        said = match.groupdict()
        split = said.get("split")
        fits.append(
            Named(image, said["pid"], said.get("camid"), split and _split(pattern, image, split))
        )
    return fits, others


def _split(pattern: str, image: str, word: str) -> str:
    if word.lower() not in SPLIT_WORDS:
        raise UserError(
            f"--pattern {shown(pattern)}: the split of {shown(image)} is {shown(word)}; known: "
            f"{', '.join(SPLIT_WORDS)}"
        )
    return SPLIT_WORDS[word.lower()]


def recognised(images: Sequence[str]) -> Layout | None:
    """The usual layout that the names of a folder's images follow, if it is one of `LAYOUTS`."""
    return next((layout for layout in LAYOUTS if _follow(images, layout.pattern)), None)


def _follow(images: Sequence[str], pattern: str) -> bool:
    try:
        fits, _ = read_names(images, pattern)
    except UserError:  # folders that are called otherwise than a split
        return False
    people = {one.pid for one in fits}
    sightings = {(one.pid, one.camid) for one in fits}
    cameras = {one.camid for one in fits}
    return (
        len(fits) >= ENOUGH * len(images)
        # Numbers of images would be people of one image each, or cameras of one person each.
        and 2 <= len(people) <= len(fits) / 2
        and (len(cameras) < len(sightings) or cameras == {None})
    )
