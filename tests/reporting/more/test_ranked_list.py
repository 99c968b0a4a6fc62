from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pgfl.errors import UserError
from pgfl.reporting.more.ranked_list import (
    RIGHT,
    WRONG,
    Hit,
    RankedList,
    draw_ranked_lists,
    fitted,
    ranked_lists_picture,
)

COLOURS = {"blue": (0, 0, 255), "cyan": (0, 255, 255), "pink": (255, 0, 255), "ink": (9, 9, 200)}


@pytest.fixture
def images(tmp_path):
    """A PNG of one colour for each name, of different shapes."""
    sizes = {"blue": (64, 32), "cyan": (50, 60), "pink": (300, 100), "ink": (5, 40)}
    for name, colour in COLOURS.items():
        pixels = np.full((*sizes[name], 3), colour, np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), pixels[..., ::-1])
    return {name: tmp_path / f"{name}.png" for name in COLOURS}


def places(picture, colour):
    """Rows and columns of the pixels of exactly this colour."""
    return np.nonzero((np.asarray(picture) == colour).all(axis=2))


def test_the_query_comes_first_and_hits_follow_in_their_order(images):
    hits = [(images[name], score, None) for name, score in (("ink", 0.9), ("pink", 0.2))]
    picture = ranked_lists_picture([(images["blue"], hits)])
    columns = [places(picture, COLOURS[name])[1] for name in ("blue", "ink", "pink")]
    assert all(len(column) for column in columns)
    assert columns[0].max() < columns[1].min() and columns[1].max() < columns[2].min()


def test_each_query_has_a_row_of_its_own(images):
    rows = [RankedList(images[name], [Hit(images["ink"], 0.5)]) for name in ("cyan", "pink")]
    picture = ranked_lists_picture(rows, "a title")
    upper, lower = (places(picture, COLOURS[name])[0] for name in ("cyan", "pink"))
    assert upper.max() < lower.min()


@pytest.mark.parametrize(
    ("match", "colour", "other"), [(True, RIGHT, WRONG), (False, WRONG, RIGHT), (None, None, None)]
)
def test_frames_say_whether_it_is_the_same_person(images, match, colour, other):
    picture = ranked_lists_picture([(images["blue"], [(images["cyan"], 0.5, match)])])
    rows, columns = places(picture, COLOURS["cyan"])
    if colour is None:
        assert not len(places(picture, RIGHT)[0]) and not len(places(picture, WRONG)[0])
        return
    framed = places(picture, colour)
    assert framed[0].min() < rows.min() and framed[0].max() > rows.max()
    assert framed[1].min() < columns.min() and framed[1].max() > columns.max()
    assert not len(places(picture, other)[0])


def test_a_wrong_image_can_be_told_without_colours(images):
    def frame_pixels(match, colour):
        row = (images["blue"], [(images["cyan"], 0.5, match)])
        return len(places(ranked_lists_picture([row]), colour)[0])

    assert 0 < frame_pixels(False, WRONG) < 0.9 * frame_pixels(True, RIGHT)


@pytest.mark.parametrize("name", COLOURS)
def test_images_keep_their_aspect_ratio(images, name):
    height, width = cv2.imread(str(images[name])).shape[:2]
    found = fitted(images[name], 60, 120)
    assert found.width == 60 or found.height == 120
    assert found.width <= 60 and found.height <= 120
    assert found.width / found.height == pytest.approx(width / height, rel=0.15)


def test_rows_of_different_lengths_and_long_names_fit(images, tmp_path):
    rows = [
        RankedList(images["blue"], [], "nothing found " * 40),
        RankedList(images["pink"], [Hit(images["cyan"], -0.25, False)] * 3),
    ]
    draw_ranked_lists(rows, tmp_path / "lists.png", "a long title " * 30)
    with Image.open(tmp_path / "lists.png") as picture:
        assert picture.format == "PNG" and picture.width < 4 * 200


def test_a_missing_image_is_named_and_nothing_is_written(images, tmp_path):
    with pytest.raises(UserError, match=r"none\.png"):
        draw_ranked_lists([(images["blue"], [(Path("none.png"), 1, None)])], tmp_path / "o.png")
    assert not (tmp_path / "o.png").exists()
    with pytest.raises(ValueError, match="no ranked list"):
        draw_ranked_lists([], tmp_path / "o.png")
