"""`pgfl search`: queries and a gallery in, pages, pictures and tables out."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pgfl.errors import UserError
from pgfl.reporting.more.ranked_list import Hit, RankedList
from pgfl.student.embedder import Embedder
from pgfl.student.features_file import FeaturesFile, read_features_file, stored_name
from pgfl.student.folder import MOST_SAID, embed_folder
from pgfl.student.results import MOST_ROWS, WRITERS, Results
from pgfl.student.search import Nearest, nearest

ABOUT_SCORE = (
    "Beside each rank: the cosine similarity of the two features. 1 is the most alike that there "
    "is; what counts as the same person depends on the model and on the cameras."
)
ABOUT_PARTS_SCORE = (
    "Beside each rank: the mean of the cosine similarities of the two images' parts, weighted by "
    "how far both show them. 1 is the most alike that there is; -1 also stands for images that "
    "show no part in common."
)


def search(
    student: Embedder,
    query: Path,
    gallery: Path,
    outs: Sequence[Path],
    *,
    top: int = 10,
    shown: int = 100,
    query_images: Path | None = None,
    gallery_images: Path | None = None,
    batch_size: int = 64,
) -> Results:
    """Find the gallery images that are most like each query, and write what was found.

    A gallery image that is the query's own file is left out of its list.

    Args:
        student: from `pgfl.load`.
        query: an image, a folder, or a file of features.
        gallery: likewise.
        outs: .html, .png and .csv files; pages and pictures show only the first queries.
        top: images in each list.
        shown: queries on a page.
        query_images: where queries of features have their images now, if they have moved; said
            of one of two files that were made of one folder, it holds for both.
        gallery_images: likewise.
        batch_size: images at a time.

    Returns:
        All lists.

    Raises:
        UserError: an input cannot be used.
    """
    for out in outs:
        if out.suffix not in WRITERS:
            raise UserError(f"{out}: the name must end with one of {', '.join(WRITERS)}")
    with tempfile.TemporaryDirectory() as temporary:
        queries = _features(student, query, Path(temporary) / "query.npz", batch_size)
        everyone = _features(student, gallery, Path(temporary) / "gallery.npz", batch_size)
        if query.suffix == gallery.suffix == ".npz" and queries.folder == everyone.folder:
            query_images = query_images or gallery_images
            gallery_images = gallery_images or query_images
        queries = replace(queries, folder=query_images or queries.folder)
        everyone = replace(everyone, folder=gallery_images or everyone.folder)
        _spare_images(outs, queries)
        _spare_images(outs, everyone)
        try:
            most = min(top, len(everyone.names))
            own_rows = _own_rows(queries, everyone)
            found = nearest(queries.load(), everyone.chunks(), most, own_rows)
        except ValueError as error:
            raise UserError(f"{query} cannot be searched for in {gallery}: {error}") from None
    results = _results(queries, everyone, found)
    for out in outs:
        WRITERS[out.suffix](_shortened(results, out, shown), out)
    return results


def _features(student: Embedder, given: Path, out: Path, batch_size: int) -> FeaturesFile:
    """Features of what was given, computed unless it holds them already."""
    if given.suffix == ".npz":
        file = read_features_file(given)
        if file.model_sha256 != student.sha256:
            raise UserError(
                f"{given}: made with another model (sha256 {file.model_sha256[:12]}..., --model "
                f"has {student.sha256[:12]}...); embed the images again with this one"
            )
        return file
    if given.is_dir():
        return embed_folder(student, given, out, batch_size=batch_size)
    if given.is_file():
        return embed_folder(student, given.parent, out, [given.name])
    raise UserError(f"{given}: no such file or folder")


def _spare_images(outs: Sequence[Path], file: FeaturesFile) -> None:
    """Refuse to write over an image that was searched for or in."""
    for place, row in _same_files(outs, file):
        image = file.image(row)
        raise UserError(f"{outs[place]}: would replace the image {image}; choose another name")


def _own_rows(queries: FeaturesFile, gallery: FeaturesFile) -> list[list[int]]:
    """For each query the rows of the gallery that are the same file."""
    paths = [queries.image(row) for row in range(len(queries.names))]
    rows: list[list[int]] = [[] for _ in paths]
    for place, row in _same_files(paths, gallery):
        rows[place].append(row)
    return rows


def _same_files(paths: Sequence[Path], file: FeaturesFile) -> Iterator[tuple[int, int]]:
    """Which paths lead to images in a file of features: the path's place, and the row."""
    places = defaultdict(list)
    for place, path in enumerate(paths):
        places[path.resolve()].append(place)
    last_parts = {stored_name(path.name) for path in [*paths, *places]}
    for row, name in enumerate(file.names):
        # Asking the file system about each of a million images would take a minute.
        if name.rpartition("/")[2] in last_parts:
            for place in places.get(file.image(row).resolve(), ()):
                yield place, row


def _results(queries: FeaturesFile, gallery: FeaturesFile, found: Nearest) -> Results:
    rows = []
    for row, (places, scores) in enumerate(zip(found.rows, found.scores, strict=True)):
        hits = [
            Hit(gallery.image(place), float(score))
            for place, score in zip(places, scores, strict=True)
            if place >= 0
        ]
        rows.append(RankedList(queries.image(row), hits, str(queries.names[row])))
    counts = f"{_counted(len(queries.names), 'query', 'queries')} in a gallery of " + _counted(
        len(gallery.names), "image", "images"
    )
    about = [
        ABOUT_SCORE if gallery.parts is None else ABOUT_PARTS_SCORE,
        f"Student: sha256 {gallery.model_sha256[:12]}.",
    ]
    about += _unreadable(queries, gallery)
    return Results(f"The most alike: {counts}", about, rows, gallery.folder)


def _unreadable(queries: FeaturesFile, gallery: FeaturesFile) -> list[str]:
    """What is said of files that took no part: how many, and the first ten with their reasons."""
    lines = [
        f"{name}: {reason}" if reason else name
        for file in (queries, gallery)
        for name, reason in zip(file.unreadable, file.reasons, strict=True)
    ]
    if not lines:
        return []
    more = [f"and {len(lines) - MOST_SAID:,} more"] if len(lines) > MOST_SAID else []
    head = f"{_counted(len(lines), 'file', 'files')} could not be read and took no part:"
    return [head, *lines[:MOST_SAID], *more]


def _shortened(results: Results, out: Path, shown: int) -> Results:
    """As many lists as such a file should hold; it says so where some are missing."""
    most = {".html": shown, ".png": min(shown, MOST_ROWS)}.get(out.suffix, len(results.rows))
    if len(results.rows) <= most:
        return results
    note = f"The first {most} of {len(results.rows)} queries are shown; a .csv holds all."
    return results._replace(
        title=f"{results.title}; the first {most}",
        about=[*results.about, note],
        rows=results.rows[:most],
    )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
