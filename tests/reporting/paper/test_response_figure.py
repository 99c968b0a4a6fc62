import csv

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from pgfl.errors import UserError
from pgfl.pose.store import HeatmapReader
from pgfl.reporting.paper.response_figure import COLOURS, draw_responses, overlay, spread
from pgfl.reporting.paper.responses import response_maps, share_on_parts

NAMES = ["0.png", "1.png", "2.png"]


@pytest.fixture(scope="module")
def students(save_run):
    """Two methods with two seeds each."""
    models = [save_run(seed)[0] for seed in range(4)]
    return {"Baseline": models[:2], "PGFL-KD": models[2:]}


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [
        (118, 8, [7, 22, 36, 51, 66, 81, 95, 110]),
        (3, 8, [0, 1, 2]),
        (10, 1, [5]),
        (8, 8, range(8)),
    ],
)
def test_queries_are_spread_over_the_list(count, wanted, places):
    assert spread(count, wanted) == list(places)


def test_a_picture_is_drawn_and_the_same_one_again(students, queries, tmp_path):
    manifest, heatmaps = queries
    for name in ("a.png", "b.png"):
        draw_responses(students, manifest, "demo", tmp_path / name, heatmaps)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    both = Image.open(tmp_path / "a.png").convert("RGB")
    colours = {tuple(pixel) for pixel in np.asarray(both)[::7, ::7].reshape(-1, 3)}
    assert len(colours) > 100
    baseline = {"Baseline": students["Baseline"]}
    draw_responses(baseline, manifest, "demo", tmp_path / "c.png")
    assert Image.open(tmp_path / "c.png").height < both.height


def test_the_table_holds_means_over_queries_and_seeds(students, queries, tmp_path):
    manifest, heatmaps = queries
    table = tmp_path / "figure4.csv"
    draw_responses(students, manifest, "study", tmp_path / "figure4.png", heatmaps, table)
    with table.open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["Baseline", "PGFL-KD"]
    maps = HeatmapReader(heatmaps).read(slice(None))
    for method, models in students.items():
        shares = [
            share_on_parts(response_maps(model, manifest.parent, NAMES), maps)[0].mean()
            for model in models
        ]
        row = rows[method]
        assert row["on_parts"] == f"{100 * np.mean(shares):.1f}"
        assert row["on_parts.std"] == f"{100 * np.std(shares, ddof=1):.1f}"
        uniform = share_on_parts(np.ones((3, 4, 2), np.float32), maps)[1]
        assert row["area"] == f"{100 * uniform.mean():.1f}"
        assert (row["source"], row["queries"], row["seeds"]) == ("reproduced", "3", "2")
        assert row["experiment"] == "study"
    one = {method: models[:1] for method, models in students.items()}
    draw_responses(one, manifest, "study", tmp_path / "figure4.png", heatmaps, table)
    with table.open() as file:
        assert [row["on_parts.std"] for row in csv.DictReader(file)] == ["", ""]


def test_without_detail_the_colours_are_those_of_the_scale():
    response = np.linspace(0, 1, 32 * 16).reshape(32, 16)
    found = overlay(np.full((32, 16, 3), 90, np.uint8), response)
    expected = 255 * colormaps[COLOURS](response)[..., :3]
    assert np.abs(found - expected).max() <= 0.5
    # Brighter means stronger, so the picture can be printed in grey.
    luminance = expected @ (0.299, 0.587, 0.114)
    assert (np.diff(luminance.ravel()) > -0.5).all()


def test_outlines_show_and_a_dark_side_is_no_weak_response():
    image = np.full((40, 60, 3), 40, np.uint8)
    image[:, 30:] = 220
    found = overlay(image, np.full((40, 60), 0.5)).astype(int).sum(axis=2)
    assert found[20, 31] - found[20, 28] > 60  # at the edge
    assert abs(found[20, 5] - found[20, 55]) < 12  # far from it


def test_heatmaps_of_other_images_are_refused(students, queries, tmp_path):
    manifest, heatmaps = queries
    text = manifest.read_text().replace("1.png", "3.png")
    other = tmp_path / "manifest.csv"
    other.write_text(text)
    with pytest.raises(UserError, match=r"query\.h5: row 1 is 1\.png, the manifest has 3\.png"):
        draw_responses(students, other, "demo", tmp_path / "x.png", heatmaps)
    assert not (tmp_path / "x.png").exists()
