"""What a search found, for people: a page, a picture, a table."""

import csv
import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import NamedTuple

from pgfl.reporting.more.ranked_list import RankedList, draw_ranked_lists, fitted
from pgfl.reporting.pages import embedded, html_page
from pgfl.runtime.files import whole_file, write_text
from pgfl.student.features_file import printed

BOX = (160, 240)
"""Width and height in pixels that pictures on the page are stored at, at most."""
JPEG_QUALITY = 88
MOST_ROWS = 30
"""Queries in a picture: beyond that no viewer shows it well."""

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; color: #111; background: #fff;
       max-width: 1500px; margin: 1.2em auto; padding: 0 1em; }
h1 { font-size: 1.4em; margin-bottom: .3em; }
h2 { font-size: 1em; font-weight: 600; margin: 0 0 .5em; overflow-wrap: anywhere; }
.about { color: #444; max-width: 60em; margin: .2em 0; }
section { border-top: 1px solid #ccc; padding: .9em 0 .4em; break-inside: avoid; }
.list { display: flex; gap: 1.1em; align-items: flex-start; }
.hits { flex: 1; display: grid; gap: .5em; align-items: end;
        grid-template-columns: repeat(auto-fill, minmax(5.8em, 1fr)); }
figure { margin: 0 0 .5em; }
figure img { display: block; max-width: 100%; max-height: 13em; margin: 0 auto;
             box-sizing: border-box; border: 1px solid #bbb; }
.query { flex: 0 0 8em; padding-right: 1.1em; border-right: 1px solid #ccc; }
.query img { border: 4px solid #000; }
.same img { border: 4px solid #008c3c; } .other img { border: 4px dashed #cd141e; }
figcaption { font-size: .8em; line-height: 1.3; text-align: center; overflow-wrap: anywhere; }
figcaption b { font-size: 1.2em; }
.name { color: #555; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } }
"""


class Results(NamedTuple):
    """Ranked lists and what is said about them."""

    title: str
    about: Sequence[str]
    """Sentences below the title."""
    rows: Sequence[RankedList]
    gallery: Path
    """Names are given from here where an image lies below it."""


def write_page(results: Results, out: Path) -> None:
    """One HTML file with all pictures in it: no script, nothing fetched, good to print.

    Raises:
        UserError: an image cannot be read.
    """
    picture = lru_cache(maxsize=4096)(_embedded)
    about = "\n".join(f'<p class="about">{escape(line)}</p>' for line in results.about)
    sections = "\n".join(_section(row, results.gallery, picture) for row in results.rows)
    write_text(out, html_page(results.title, STYLE, f"{about}\n{sections}"))


def write_picture(results: Results, out: Path) -> None:
    """A PNG with the first `MOST_ROWS` queries.

    Raises:
        UserError: an image cannot be read.
    """
    draw_ranked_lists(results.rows[:MOST_ROWS], out, results.title)


def write_table(results: Results, out: Path) -> None:
    """A CSV: query, rank, image, score; one line for each hit."""
    with whole_file(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query", "rank", "image", "score"])
        for row in results.rows:
            for rank, hit in enumerate(row.hits, start=1):
                name = _name(hit.image, results.gallery)
                writer.writerow([row.label, rank, name, f"{hit.score:.6f}"])


WRITERS: dict[str, Callable[[Results, Path], None]] = {
    ".html": write_page,
    ".png": write_picture,
    ".csv": write_table,
}
"""For each ending of a file's name, what writes it."""


def _section(row: RankedList, gallery: Path, picture: Callable[[Path], str]) -> str:
    figures = []
    for rank, hit in enumerate(row.hits, start=1):
        kind = {True: "same", False: "other", None: "hit"}[hit.match]
        caption = f"<b>{rank}</b> &nbsp; {hit.score:.3f}"
        name = escape(_name(hit.image, gallery))
        caption += f'<br><span class="name">{name}</span>'
        figures.append(_figure(kind, picture(hit.image), name, caption))
    label = escape(row.label)
    query = _figure("query", picture(row.query), label, "<b>query</b>")
    hits = "\n".join(figures)
    return (
        f'<section>\n<h2>{label}</h2>\n<div class="list">\n{query}\n'
        f'<div class="hits">\n{hits}\n</div>\n</div>\n</section>'
    )


def _figure(kind: str, source: str, alt: str, caption: str) -> str:
    """Source, alternative text and caption are HTML already."""
    return (
        f'<figure class="{kind}"><img src="{source}" alt="{alt}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _name(path: Path, folder: Path) -> str:
    return printed(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path)


def _embedded(path: Path) -> str:
    buffer = io.BytesIO()
    fitted(path, *BOX).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return embedded(buffer, "jpeg")
