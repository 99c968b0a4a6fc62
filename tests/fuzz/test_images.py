"""A damaged picture is read or named, by every stage in the same way."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.datasets.images import read_image
from pgfl.datasets.inspection import Inspected, inspect_images


@pytest.fixture(scope="module")
def pictures():
    """A small picture in each format that the data sets come in, by its ending."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (6, 3, 3), dtype=np.uint8), (24, 48))
    return {kind: cv2.imencode(kind, picture)[1].tobytes() for kind in (".jpg", ".png", ".tif")}


@given(st.data())
def test_a_damaged_picture_is_read_or_named(clear, damaged, pictures, tmp_path, data):
    kind = data.draw(st.sampled_from(sorted(pictures)))
    path = tmp_path / f"picture{kind}"
    path.write_bytes(data.draw(damaged(pictures[kind])))
    image = clear(read_image, path, named=[path])
    assert image is None or (image.dtype == np.uint8 and image.ndim == 3 and image.size > 0)
    (found,) = inspect_images(tmp_path, [path.name])
    if isinstance(found, Inspected):
        # What the check lets through, every stage can read, and sees at the size that was noted.
        assert image is not None and found.width * found.height == image.shape[0] * image.shape[1]
    else:
        assert path.name in found and found.isprintable()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_picture_or_named(clear, tmp_path, content):
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    clear(read_image, path, named=[path])
    (found,) = inspect_images(tmp_path, [path.name])
    assert isinstance(found, Inspected) or path.name in found
