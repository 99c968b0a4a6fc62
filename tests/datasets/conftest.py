import cv2
import numpy as np
import pytest


@pytest.fixture
def lay_out(tmp_path):
    """Makes empty files below an `images` folder, as an unpacked archive would have them."""

    def make(*names):
        images = tmp_path / "set" / "images"
        for name in names:
            path = images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return images

    return make


@pytest.fixture
def lay_out_pictures(lay_out):
    """The same with small pictures, each with other pixels, as the files' content."""

    def make(*names):
        images = lay_out(*names)
        for seed, name in enumerate(names):
            pixels = np.random.default_rng(seed).integers(0, 256, (40, 20, 3), np.uint8)
            cv2.imwrite(str(images / name), pixels)
        return images

    return make
