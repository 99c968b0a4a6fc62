"""A folder of images and a pattern of their names to a table, with a split of one's own."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pgfl.datasets.manifest import SPLITS
from pgfl.datasets.name_patterns import Named, read_names, recognised
from pgfl.errors import UserError
from pgfl.runtime.files import text_hash, whole_file
from pgfl.runtime.messages import few, shown

JUNK = "-1"
"""The person of Market-1501's boxes that show nobody well."""


@dataclass(frozen=True)
class FolderTable:
    """A table, and what is to be said of how it came about."""

    table: pd.DataFrame
    """Columns image, split, pid and, if cameras are known, camid; all text."""
    understood: list[str]
    """The pattern, three examples, and what was left out."""


def table_of_folder(
    folder: Path,
    images: Sequence[str],
    pattern: str = "",
    train: float | None = None,
    seed: int = 0,
) -> FolderTable:
    """Read people, cameras and splits from the names of images.

    Where the pattern has no `{split}`, a share of the people is for training. Of the others, one
    image per person and camera is a query, as long as the gallery keeps an image of this person
    from another camera; all other images are the gallery.

    Args:
        folder: named in messages.
        images: paths below it.
        pattern: see `name_patterns`; empty: a usual layout is recognised.
        train: the share of people in train, from 0 to 1; None: half of them.
        seed: decides who is in train, and which images are queries.

    Raises:
        UserError: nothing fits, or no query can have a match.
    """
    said = []
    if not pattern:
        layout = recognised(images)
        if layout is None:
            wrapper = {image.partition("/")[0] for image in images}
            if len(wrapper) == 1 and "/" in images[0]:
                raise UserError(f"{folder}: all images are in {folder / wrapper.pop()}: name that")
            raise UserError(
                f"{folder}: the {len(images)} images are not named in a usual way "
                f"({_examples(images)}); say where person and camera stand, such as "
                "--pattern '{pid}_c{camid}_{}.jpg'"
            )
        said.append(f"{folder}: {layout.words}: --pattern '{layout.pattern}'")
        pattern = layout.pattern
    fits, others = read_names(images, pattern)
    if not fits:
        raise UserError(
            f"{folder}: none of the {len(images)} images fits --pattern {shown(pattern)}; they "
            f"are named {_examples(images)}"
        )
    said += [_understood(fits[place]) for place in sorted({0, len(fits) // 2, len(fits) - 1})]
    if others:
        said.append(f"warning: {len(others)} of {len(images)} images do not fit and are left out:")
        said += [f"    {line}" for line in few([shown(name) for name in others])]
    if junk := sum(one.pid == JUNK for one in fits):
        said.append(f"note: {junk} images of pid -1 are junk by Market-1501's names: left out")
        fits = [one for one in fits if one.pid != JUNK]
    cameras = {one.camid for one in fits}
    if len(fits) > 2 and None not in cameras and 2 * len(cameras) > len(fits):
        said.append(f"warning: {len(cameras)} cameras for {len(fits)} images: is {{camid}} right?")
    if len(cameras) == 1 and cameras != {None}:
        said.append(f"note: all images are of camera {cameras.pop()}: camid is left out")
        fits = [one._replace(camid=None) for one in fits]
    if train is not None and fits and fits[0].split:
        raise UserError("--train: the names have a split already; leave one of the two out")
    divided, distractors = _divided(fits, 0.5 if train is None else train, seed)
    _check(folder, divided)
    if distractors:
        said.append(
            "note: whoever has one image, or one camera only, is no query but in the gallery: "
            f"{distractors} of the test half"
        )
    return FolderTable(_frame(divided), said)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write the CSV whole."""
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _examples(images: Sequence[str]) -> str:
    more = ", ..." if len(images) > 3 else ""
    return ", ".join(shown(image) for image in images[:3]) + more


def _understood(one: Named) -> str:
    fields = {"pid": one.pid, "camid": one.camid, "split": one.split}
    said = ", ".join(f"{name} {shown(value)}" for name, value in fields.items() if value)
    return f"    {shown(one.image)}: {said}"


def _divided(images: list[Named], train: float, seed: int) -> tuple[list[Named], int]:
    """The images with their splits, and the number of test people who are no query."""
    halves = images
    if images and images[0].split is None:
        people = sorted({one.pid for one in images}, key=lambda pid: text_hash(f"{seed} {pid}"))
        chosen = set(people[: _share(train, len(people))])
        halves = [one._replace(split="train" if one.pid in chosen else "test") for one in images]
    if any(one.split == "query" for one in halves):
        # Then what is called test is the gallery.
        named = {"test": "gallery"}
        return [one._replace(split=named.get(str(one.split), one.split)) for one in halves], 0
    test = [one for one in halves if one.split != "train"]
    queries = _queries(test, seed)
    divided = [one for one in halves if one.split == "train"]
    divided += [one._replace(split="query" if one.image in queries else "gallery") for one in test]
    found = {one.pid for one in test if one.image in queries}
    return divided, len({one.pid for one in test} - found)


def _share(train: float, people: int) -> int:
    """How many of some people are for training: all, none, or some and not all."""
    if train in (0, 1) or people < 2:
        return round(train * people)
    return min(max(1, round(train * people)), people - 1)


def _queries(images: list[Named], seed: int) -> set[str]:
    """One image per person and camera, while each keeps a match in what is not chosen."""
    seen: dict[str, dict[str | None, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in images:
        seen[one.pid][one.camid].append(one.image)
    queries = set()
    for pid, cameras in seen.items():
        left = {camid: len(names) for camid, names in cameras.items()}
        asked: list[str | None] = []
        # By hash, not by drawing: the same on every machine, and for everybody who is added.
        for camid in sorted(cameras, key=lambda camid: text_hash(f"{seed} {pid} {camid}")):
            left[camid] -= 1
            if all(_has_match(one, left) for one in (*asked, camid)):
                asked.append(camid)
                names = cameras[camid]
                queries.add(min(names, key=lambda name: text_hash(f"{seed} {name}")))
            else:
                left[camid] += 1
    return queries


def _has_match(query: str | None, gallery: dict[str | None, int]) -> bool:
    """Whether an image of another camera is left; without cameras, of any."""
    return any(count for camid, count in gallery.items() if camid != query or camid is None)


def _check(folder: Path, images: list[Named]) -> None:
    splits = {one.split for one in images}
    if not images:
        raise UserError(f"{folder}: no image is left")
    if "gallery" in splits and "query" not in splits:
        raise UserError(
            f"{folder}: nobody of the test half has two images, of two cameras where cameras are "
            "known, so there can be no query; try another --seed, or --train 1 for training only"
        )


def _frame(images: list[Named]) -> pd.DataFrame:
    order = {split: place for place, split in enumerate(SPLITS)}
    rows = sorted(images, key=lambda one: (order[str(one.split)], one.image))
    table = pd.DataFrame(rows, columns=list(Named._fields))
    columns = ["image", "split", "pid", *(["camid"] if table["camid"].notna().all() else [])]
    return table[columns]
