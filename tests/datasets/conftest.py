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
