import io
import os
import struct
import time
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from pgfl.datasets import images
from pgfl.datasets.images import image_batches, read_image, resized
from pgfl.errors import UserError


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


ORIENTED = {"JPEG": {"quality": 95}, "PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
"""Formats that say which way is up by EXIF, and how Pillow writes them."""
XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'


def by_pillow(path):
    """The oracle: Pillow's own upright RGB."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ORIENTED)
def test_every_format_is_turned_upright_by_exif(tmp_path, picture, kind, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, kind, exif=exif, **ORIENTED[kind])
    found = read_image(path)
    assert np.array_equal(found, by_pillow(path))
    assert found.shape == ((16, 32, 3) if orientation in (5, 6, 7, 8) else (32, 16, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_format_is_turned_upright_by_xmp(tmp_path, picture, kind, orientation):
    xmp = XMP.format(orientation)
    said = {"xmp": xmp.encode()}
    if kind == "PNG":
        said = {"pnginfo": PngImagePlugin.PngInfo()}
        said["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, kind, **said, **ORIENTED[kind])
    assert np.array_equal(read_image(path), by_pillow(path))


def test_damaged_exif_spoils_no_photograph(tmp_path, picture):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, exif=b"Exif\0\0nonsense", quality=100)
    assert read_image(path).shape == (32, 16, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "PPM"])
def test_every_mode_is_read_as_pillow_reads_it(tmp_path, picture, kind, mode):
    if mode == "LAB":
        image = Image.frombytes("LAB", (16, 32), picture.tobytes())
    else:
        image = Image.fromarray(picture).convert("L" if mode == "LA" else "RGB").convert(mode)
    path = tmp_path / "a.jpg"
    try:
        image.save(path, kind, **ORIENTED.get(kind, {}))
    except (OSError, KeyError, ValueError):
        pytest.skip(f"Pillow writes no {kind} of mode {mode}")
    assert np.array_equal(read_image(path), by_pillow(path))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_many_frames_the_first_is_read(tmp_path, picture, kind):
    first, more = Image.fromarray(picture), [Image.fromarray(255 - picture)]
    path = tmp_path / "a.jpg"
    first.save(path, kind, save_all=True, append_images=more, **ORIENTED.get(kind, {}))
    assert np.array_equal(read_image(path), by_pillow(path))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_of_sixteen_bits_the_upper_byte_counts(tmp_path, picture, suffix):
    """Documented: Pillow would make white of all above 255."""
    deep = picture[..., 0].astype(np.uint16) * 256 + 77
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), deep)
    found = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(found, np.repeat(picture[..., :1], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_without_a_known_range_are_refused(tmp_path, picture, dtype):
    Image.fromarray(picture[..., 0].astype(dtype)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: numbers without a known range \(mode [IF]\)"):
        read_image(tmp_path / "a.tif")


def with_size(content, kind, size):
    """The same file, whose header says another width and height."""
    width, height = size
    content = bytearray(content)
    if kind == "PNG":
        content[16:24] = struct.pack(">2I", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif kind == "BMP":
        content[18:26] = struct.pack("<2i", width, height)
    elif kind == "GIF":
        content[6:10] = struct.pack("<2H", width, height)
    elif kind == "JPEG":
        at = content.index(b"\xff\xc0")
        content[at + 5 : at + 9] = struct.pack(">2H", height, width)
    elif kind == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = content.index(struct.pack("<2HI", tag, 4, 1))
            content[at + 8 : at + 12] = struct.pack("<I", value)
    else:
        at = content.index(b"VP8L") + 9
        kept = struct.unpack_from("<I", content, at)[0] >> 28 << 28
        struct.pack_into("<I", content, at, kept | (width - 1) | (height - 1) << 14)
    return bytes(content)


@pytest.mark.parametrize("size", [(16_000, 16_000), (14_000, 12_800)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG", "TIFF", "WEBP"])
def test_a_bomb_is_refused_by_its_header(tmp_path, picture, kind, size):
    content = io.BytesIO()
    Image.fromarray(picture).save(content, kind, **ORIENTED.get(kind, {}))
    (tmp_path / "a.jpg").write_bytes(with_size(content.getvalue(), kind, size))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.jpg: too large \(.*\d pixels"):
        read_image(tmp_path / "a.jpg")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_what_opencv_refuses_by_an_error_is_one_line(tmp_path):
    """OpenCV raises above 2^30 pixels, where it returns nothing for other faults."""
    fields = (b"BM", 54, 0, 0, 54, 40, 2**20, 2**20, 1, 24, *[0] * 6)
    header = struct.pack("<2sIHHIIiiHHIIiiII", *fields)
    (tmp_path / "a.bmp").write_bytes(header)
    with pytest.raises(UserError, match=r"a\.bmp: too large \(Image size \(1099511627776 pixels"):
        read_image(tmp_path / "a.bmp")


def test_of_large_images_one_is_decoded_at_a_time(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(images, "LARGE", 100)
    write(tmp_path / "a.png", picture)
    write(tmp_path / "a.jpg", picture)
    at_work, most = [], []
    original = images.resized

    def slow(image, height, width):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.01)
        at_work.pop()
        return original(image, height, width)

    monkeypatch.setattr(images, "resized", slow)
    names = ["a.png", "a.jpg"] * 6
    found = [batch for _, batch in image_batches(tmp_path, names, (8, 4), 4, "test")]
    assert len(found) == 3 and len(most) == 12 and max(most) == 1


def test_the_size_changes_nothing_but_the_size(tmp_path, picture):
    path = write(tmp_path / "a.png", picture)
    assert np.array_equal(read_image(path, (8, 4)), resized(picture, 8, 4))


def test_large_images_leave_pillow_in_bands(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(images, "BAND", 50)
    assert np.array_equal(read_image(write(tmp_path / "a.png", picture)), picture)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read \(not a file\)"):
        read_image(tmp_path / "a.jpg")


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UserError, match=r"a\.jpg: an empty file"):
        read_image(tmp_path / "a.jpg")
