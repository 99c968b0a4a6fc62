import base64
import html.parser
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pgfl.pose.keypoints import KEYPOINTS
from pgfl.reporting.more import failures
from pgfl.reporting.more.failures import SHOWN, worst, write_failures
from pgfl.runtime.files import read_json


def test_the_worst_come_first_and_queries_without_a_match_never():
    assert worst(np.array([3.0, np.nan, 1, 2, 1]), 3) == [2, 4, 3]
    assert worst(np.array([3.0, np.nan, 1]), 9) == [2, 0]


@pytest.fixture(scope="module")
def page(ranked, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "failures.html"
    write_failures(ranked.files, ranked.manifest, ranked.heatmaps, "demo", out)
    trace = read_json(out.with_suffix("").with_suffix(".trace.json"))
    assert {str(ranked.heatmaps), str(ranked.manifest)} <= set(trace["sources"])
    return out.read_text()


def test_every_query_has_its_numbers_its_keypoints_and_the_baselines(ranked, page):
    own, theirs = (pd.read_csv(ranked.files[name][0]) for name in ("PGFL-KD", "Baseline"))
    sections = page.split("<section>")[2:]
    order = sorted(range(14), key=lambda place: (own.AP[place], place))[:SHOWN]
    assert len(sections) == SHOWN
    for rank, (place, section) in enumerate(zip(order, sections, strict=True), start=1):
        assert f"<h2>{rank}. {own.image[place]} (person {1 + place % 6}, camera 0)</h2>" in section
        mine = f"PGFL-KD: AP {own.AP[place]:.1f} %, first match at rank {own.first_hit[place]:.0f}"
        assert mine in section
        verdict = "better" if theirs.AP[place] > own.AP[place] else "worse"
        base = f"AP {theirs.AP[place]:.1f} %, first match at rank {theirs.first_hit[place]:.0f}"
        assert f"Baseline: {base} ({verdict})" in section
        seen = [
            name.replace("_", " ")
            for name, value in zip(KEYPOINTS, ranked.confidence[place], strict=True)
            if value >= 0.3
        ]
        listed = ", ".join(seen) or "none"
        assert f"<p>{len(seen)} of 17 keypoints visible: {listed}.</p>" in section


def test_the_summary_compares_them_with_all_queries(ranked, page):
    own = pd.read_csv(ranked.files["PGFL-KD"][0])
    some = sorted(range(14), key=lambda place: (own.AP[place], place))[:SHOWN]
    counts = (ranked.confidence >= 0.3).sum(axis=1)
    assert f"<td>{counts[some].mean():.1f}</td><td>{counts[:14].mean():.1f}</td>" in page
    assert f"<td>{own.AP[some].mean():.1f}</td><td>{own.AP[:14].mean():.1f}</td>" in page
    assert "all 14 queries with a match" in page


class Checker(html.parser.HTMLParser):
    """Collects what a browser would have to fetch, and tags that are left open."""

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "link":  # no icon, so that a browser asks for none
            assert dict(attrs) == {"rel": "icon", "href": "data:,"}
            return
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_its_pictures_open(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == [] and len(checker.sources) == SHOWN
    for source in checker.sources:
        data = re.fullmatch(r"data:image/jpeg;base64,(.+)", source).group(1)
        assert Image.open(io.BytesIO(base64.b64decode(data))).width > 500
    assert "<script" not in page and "http" not in page
    assert "<title>Worst queries of PGFL-KD on ranked" in page
    assert "demo: not the paper&#x27;s experiment" in page


def test_names_are_escaped(ranked, tmp_path):
    manifest = ranked.manifest.parent / "escaped.csv"
    manifest.write_text(ranked.manifest.read_text())
    files = {"<b>A&B": ranked.files["Baseline"], "PGFL-KD": ranked.files["PGFL-KD"]}
    write_failures(files, manifest, ranked.heatmaps, "paper", tmp_path / "f.html")
    text = (tmp_path / "f.html").read_text()
    assert "<b>" not in text.split("<body>")[1] and "&lt;b&gt;A&amp;B: AP" in text


def test_a_page_that_browsers_would_not_show_gets_coarser_pictures(
    ranked, page, tmp_path, monkeypatch
):
    monkeypatch.setattr(failures, "LARGEST", int(0.9 * len(page)))
    write_failures(ranked.files, ranked.manifest, ranked.heatmaps, "demo", tmp_path / "f.html")
    text = (tmp_path / "f.html").read_text()
    assert len(text) <= 0.9 * len(page) and text.count("<h2>") == page.count("<h2>")
    assert len(page) <= 1_500_000
