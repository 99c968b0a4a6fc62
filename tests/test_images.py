import cv2
import numpy as np
import pytest

from pgfl.errors import UserError
from pgfl.images import image_batches, read_image, resized


@pytest.fixture
def picture():
    """A smooth picture whose colours all differ: red grows down, green across, blue is 40."""
    rows, columns = np.mgrid[:32, :16]
    blue = np.full_like(rows, 40)
    return np.stack([rows * 8, columns * 16, blue], axis=2).astype(np.uint8)


def write(path, picture):
    assert cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return path


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [("png", 0), ("tif", 0), ("bmp", 0), ("jpg", 12)]
)
def test_every_format_gives_rgb(tmp_path, picture, suffix, tolerance):
    found = read_image(write(tmp_path / f"a.{suffix}", picture))
    assert found.dtype == np.uint8 and found.shape == (32, 16, 3)
    assert np.abs(found.astype(int) - picture).max() <= tolerance


def test_grey_and_transparent_images_become_rgb(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "grey.png"), picture[..., 0])
    grey = read_image(tmp_path / "grey.png")
    assert all(np.array_equal(grey[..., channel], picture[..., 0]) for channel in range(3))
    cv2.imwrite(str(tmp_path / "alpha.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGRA))
    assert np.array_equal(read_image(tmp_path / "alpha.png"), picture)


def test_the_name_does_not_decide_the_format(tmp_path, picture):
    path = write(tmp_path / "a.png", picture).rename(tmp_path / "ümlaut.jpg")
    assert np.array_equal(read_image(path), picture)


@pytest.mark.parametrize("name", ["none.png", "."])
def test_a_missing_file_is_an_error(tmp_path, name):
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("content", [b"not an image", b"\xff\xd8\xff\xe0"])
def test_a_file_that_is_no_image_is_an_error(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"a.jpg: not an image, or damaged"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_truncated_image_is_an_error(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    path = write(tmp_path / f"a.{suffix}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="not an image, or damaged"):
        read_image(path)


def test_resizing_ignores_the_aspect_ratio(picture):
    assert resized(picture, 20, 48).shape == (20, 48, 3)
    assert resized(picture, 32, 16) is picture


def test_shrinking_averages():
    stripes = np.zeros((32, 16, 3), np.uint8)
    stripes[::4] = 200
    assert (resized(stripes, 8, 4) == 50).all()


def test_growing_interpolates(picture):
    grown = resized(picture, 64, 32)
    red = grown[:, 0, 0].astype(int)
    assert (np.diff(red) >= 0).all() and len(set(red)) > 32


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 100])
def test_batches_keep_the_order_of_the_names(tmp_path, batch_size):
    names = []
    for value in (9, 4, 200, 77, 30, 5, 111):
        names.append(f"{value}.png")
        write(tmp_path / names[-1], np.full((6, 4, 3), value, np.uint8))
    found, starts = [], []
    for start, batch in image_batches(tmp_path, names, (8, 4), batch_size, "test"):
        assert batch.dtype == np.uint8 and batch.shape[1:] == (8, 4, 3)
        assert len(batch) == min(batch_size, len(names) - start)
        starts.append(start)
        found += [f"{image[0, 0, 0]}.png" for image in batch]
    assert found == names
    assert starts == list(range(0, len(names), batch_size))


def test_a_damaged_image_ends_the_batches_with_its_name(tmp_path, picture):
    write(tmp_path / "a.png", picture)
    (tmp_path / "b.png").write_bytes(b"no")
    batches = image_batches(tmp_path, ["a.png", "b.png"], (32, 16), 1, "test")
    assert next(batches)[0] == 0
    with pytest.raises(UserError, match=r"b.png: not an image"):
        next(batches)


def test_no_names_give_no_batches(tmp_path):
    assert list(image_batches(tmp_path, [], (8, 4), 2, "test")) == []
