import numpy as np
import pytest

from pgfl.retrieval.obstacles import SIDES, covered, texture

HEIGHT, WIDTH = 60, 30


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def is_covered(row, column, share, side):
    """By the definition: is this pixel's distance from the side below the cover's depth?"""
    across = WIDTH if side in ("left", "right") else HEIGHT
    distance = {
        "left": column,
        "right": WIDTH - 1 - column,
        "top": row,
        "bottom": HEIGHT - 1 - row,
    }[side]
    return distance < round(share * across)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("share", [0.1, 0.33, 0.6, 1.0])
def test_exactly_this_share_is_covered_from_this_side(image, side, share):
    found = covered(image, share, side, "a.jpg")
    changed = (found != image).any(axis=2)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            if not is_covered(row, column, share, side):
                assert not changed[row, column]
    expected = sum(
        is_covered(row, column, share, side) for row in range(HEIGHT) for column in range(WIDTH)
    )
    # A pixel of the object may happen to have the image's own colour.
    assert 0.98 * expected <= changed.sum() <= expected


def test_the_object_is_the_images_own_and_grows(image):
    small, large = (covered(image, share, "left", "a.jpg") for share in (0.3, 0.6))
    assert (covered(image, 0.3, "left", "a.jpg") == small).all()
    inside = slice(None), slice(0, round(0.3 * WIDTH) - 1)  # without the edge
    assert (small[inside] == large[inside]).all()
    assert (covered(image, 0.3, "left", "b.jpg")[inside] != small[inside]).any()
    mirrored = covered(image, 0.3, "right", "a.jpg")[:, ::-1]
    assert (mirrored[inside] != small[inside]).any()


def test_nothing_is_covered_at_zero_and_the_image_itself_stays(image):
    before = image.copy()
    assert (covered(image, 0, "top", "a.jpg") == image).all()
    covered(image, 1, "top", "a.jpg")
    assert (image == before).all()


def test_it_is_the_same_object_on_every_machine():
    found = covered(np.zeros((8, 4, 3), np.uint8), 1, "bottom", "a.jpg")
    again = covered(np.full((8, 4, 3), 255, np.uint8), 1, "bottom", "a.jpg")
    assert (found == again).all() and found.std() > 0


def test_objects_differ_in_kind_and_colour():
    means = [texture(64, 32, np.random.default_rng(seed)).mean() for seed in range(40)]
    assert min(means) < 90 and max(means) > 165


@pytest.mark.parametrize(("share", "side"), [(-0.1, "left"), (1.1, "left"), (0.5, "behind")])
def test_what_cannot_be_is_refused(image, share, side):
    with pytest.raises(ValueError, match=r"must be (in|one of)"):
        covered(image, share, side, "a.jpg")
