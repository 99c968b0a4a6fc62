import re
from pathlib import Path

import pytest

from pgfl.errors import UserError
from pgfl.reporting.more.ranked_list import Hit, RankedList
from pgfl.student.results import Results, write_page, write_table


@pytest.fixture
def results(people):
    hits = [Hit(people / "00.png", 0.91, True), Hit(people / "more/a & <b>.jpeg", 0.5, False)]
    hits.append(Hit(people / "01.jpg", -0.25))
    rows = [RankedList(people / "02.jpg", hits, "<one>"), RankedList(people / "01.jpg", [], "two")]
    return Results("A & B", ["<i>said</i>"], rows, people)


def test_the_page_is_complete_in_itself(results, tmp_path):
    write_page(results, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page and "http" not in page and "@import" not in page
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="(.*?)"', page))
    assert "<title>A &amp; B</title>" in page and "&lt;i&gt;said&lt;/i&gt;" in page
    assert "&lt;one&gt;" in page and "<one>" not in page
    scores = re.findall(r"<b>(\d+)</b> &nbsp; (-?[\d.]+)", page)
    assert scores == [("1", "0.910"), ("2", "0.500"), ("3", "-0.250")]
    kinds = re.findall(r'<figure class="(\w+)">', page)
    assert kinds == ["query", "same", "other", "hit", "query"]


def test_the_table_gives_names_below_the_gallery(results, tmp_path):
    rows = [*results.rows, RankedList(Path("q.png"), [Hit(Path("/far/x.png"), 1)], "three")]
    write_table(results._replace(rows=rows), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "query,rank,image,score",
        "<one>,1,00.png,0.910000",
        "<one>,2,more/a & <b>.jpeg,0.500000",
        "<one>,3,01.jpg,-0.250000",
        "three,1,/far/x.png,1.000000",
    ]


def test_a_page_with_a_missing_image_is_not_written(results, people, tmp_path):
    (people / "00.png").unlink()
    with pytest.raises(UserError, match=r"00\.png: cannot be read"):
        write_page(results, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_browser_shows_the_page_without_complaint(results, tmp_path, browser):
    write_page(results, tmp_path / "page.html")
    seen = browser(tmp_path / "page.html")
    assert seen.console == [] and seen.requests == []
    assert seen.dom.count("<figure") == 5
