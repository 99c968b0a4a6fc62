import numpy as np
import pytest
import torch

from pgfl.datasets.images import read_image, resized
from pgfl.errors import UserError
from pgfl.retrieval.embed import embed

NAMES = ["03.png", "00.png", "11.png", "05.png", "00.png"]


@pytest.mark.parametrize("after_norm", [True, False])
def test_rows_are_the_students_features_in_the_order_of_the_names(student, data, after_norm):
    model, settings = student
    found = embed(*student, data.parent, NAMES, after_norm=after_norm)
    assert found.shape == (5, 512) and found.dtype == np.float32
    for name, row in zip(NAMES, found, strict=True):
        pixels = resized(read_image(data.parent / name), settings.height, settings.width)
        with torch.inference_mode():
            expected = model(torch.from_numpy(pixels)[None], after_norm)[0]
        np.testing.assert_allclose(row, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert np.array_equal(found[1], found[4]) and not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_the_size_of_batches_does_not_matter(student, data, batch_size):
    found = embed(*student, data.parent, NAMES, batch_size=batch_size)
    np.testing.assert_allclose(found, embed(*student, data.parent, NAMES), rtol=1e-4, atol=1e-5)


def test_the_normalisation_is_applied_on_request(student, data):
    before, after = (
        embed(*student, data.parent, NAMES, after_norm=flag) for flag in (False, True)
    )
    np.testing.assert_allclose(after, (before - 0.5) / np.sqrt(1 + 1e-5), rtol=1e-4, atol=1e-5)


def test_a_missing_image_is_named(student, data):
    with pytest.raises(UserError, match=r"none\.png"):
        embed(*student, data.parent, ["00.png", "none.png"], batch_size=1)
