import cv2
import numpy as np
import pytest
import safetensors
import torch
from PIL import Image

import pgfl
from pgfl.datasets.images import read_image, resized
from pgfl.errors import UserError
from pgfl.networks.saved import load_student, save_tensors
from pgfl.retrieval.embed import embed
from pgfl.student.embedder import unit_length
from pgfl.student.folder import find_images
from pgfl.untrusted.weights import read_state


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_features_are_those_of_evaluation_to_the_bit(student, model_file, people, batch_size):
    names = find_images(people).names
    expected = embed(*load_student(model_file), people, names, batch_size=batch_size)
    found = student.embed([people / name for name in names], batch_size=batch_size)
    assert found.dtype == np.float32 and found.shape == (11, 512)
    assert np.array_equal(found, unit_length(expected))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    assert len(np.unique(found.round(4), axis=0)) == 11


def test_paths_pictures_and_arrays_mean_the_same(student, people):
    paths = [people / name for name in find_images(people).names]
    expected = student.embed(paths)
    assert np.array_equal(student.embed([str(path) for path in paths]), expected)
    assert np.array_equal(student.embed([Image.open(path) for path in paths]), expected)
    arrays = [read_image(path) for path in paths]
    assert np.array_equal(student.embed(arrays), expected)
    mixed = [*paths[:3], *arrays[3:6], *(Image.open(path) for path in paths[6:])]
    assert np.array_equal(student.embed(tuple(mixed)), expected)


def test_one_image_and_one_array_of_many(student, people):
    path = people / "01.jpg"
    expected = student.embed([path])
    for single in (path, str(path), Image.open(path), read_image(path)):
        assert np.array_equal(student.embed(single), expected)
    stacked = np.stack([resized(read_image(path), 70, 30)] * 3)
    assert student.embed(stacked).shape == (3, 512)
    assert student.embed([]).shape == (0, 512)


def test_arrays_that_are_not_contiguous(student, people):
    image = read_image(people / "04.jpg")
    assert np.array_equal(student.embed([image[:, ::-1]]), student.embed([image[:, ::-1].copy()]))


def test_pictures_are_turned_upright_as_files_are(student, people, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    path = tmp_path / "turned.jpg"
    Image.open(people / "04.jpg").save(path, exif=exif, quality=95)
    upright = student.embed([path])
    assert np.array_equal(student.embed([Image.open(path)]), upright)
    plain = Image.fromarray(np.asarray(Image.open(path)))
    assert not np.allclose(student.embed([plain]), upright, atol=1e-3)


def test_grey_and_transparent_pictures_are_colours_first(student, people):
    grey = Image.open(people / "01.jpg").convert("L")
    assert np.array_equal(student.embed([grey]), student.embed([grey.convert("RGB")]))
    seen = Image.open(people / "01.jpg").convert("RGBA")
    assert np.array_equal(student.embed([seen]), student.embed([people / "01.jpg"]))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_of_16_bits_are_read_as_their_files_are(student, tmp_path, suffix):
    path = tmp_path / f"deep.{suffix}"
    rng = np.random.default_rng(0)
    assert cv2.imwrite(str(path), rng.integers(0, 2**16, (80, 40), dtype=np.uint16))
    with Image.open(path) as picture:
        assert picture.mode.startswith("I;16")
        assert np.array_equal(student.prepare(picture), student.prepare(path))
    big = Image.frombytes("I;16B", (40, 80), np.full((80, 40), 0x7F10, ">u2").tobytes())
    assert (student.prepare(big) == 0x7F).all()


def test_a_picture_cut_short_is_named(student, people, tmp_path):
    for name in ("04.jpg", "03.png"):
        content = (people / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=r"images\[1\]: cannot be decoded \(.*truncated"):
            student.embed([people / "01.jpg", Image.open(tmp_path / name)])


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (np.zeros((8, 4, 3), np.float32), TypeError, r"images\[1\]: .* array of float32"),
        (torch.zeros(8, 4, 3).byte(), TypeError, r"images\[1\]: .*Tensor"),
        (np.zeros((8, 4), np.uint8), ValueError, r"images\[1\]: must be \(H, W, 3\)"),
        (np.zeros((8, 4, 4), np.uint8), ValueError, r"images\[1\]: must be"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"images\[1\]: must be"),
        (Image.new("I", (4, 8)), TypeError, r"images\[1\]: a Pillow image of mode I; scale it"),
        (Image.new("F", (4, 8)), TypeError, r"images\[1\]: a Pillow image of mode F"),
        (Image.new("La", (4, 8)), UserError, r"images\[1\]: cannot be decoded"),
        (Image.new("RGB", (0, 8)), ValueError, r"images\[1\]: must be"),
        ("none.png", UserError, r"none\.png: cannot be read"),
    ],
)
def test_what_is_no_image_is_named(student, people, image, kind, message):
    with pytest.raises(kind, match=message):
        student.embed([people / "01.jpg", image])


def test_wrong_arguments(student):
    with pytest.raises(ValueError, match="must be"):
        student.embed(np.zeros((8, 4), np.uint8))
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        student.embed([], batch_size=0)


def test_it_is_silent_unless_asked_and_leaves_opencv_as_it_was(student, people, capsys):
    threads = cv2.getNumThreads()
    student.embed([people / "01.jpg"])
    assert cv2.getNumThreads() == threads
    assert capsys.readouterr() == ("", "")
    student.embed([people / "01.jpg"], progress=True)
    assert "embedding" in capsys.readouterr().err


def test_the_file_says_how_images_are_prepared(student, model_file, people, tmp_path, changed):
    path = changed(model_file, tmp_path / "m.safetensors", mean=[1, 2, 3], std=[90, 80, 70])
    other = pgfl.load(path, device="cpu")
    image = resized(read_image(people / "01.jpg"), 64, 32)
    pixels = (image - np.array([1, 2, 3])) / np.array([90, 80, 70])
    pixels = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        feature = other.network.norm(other.network.backbone(pixels).mean(dim=(2, 3)))
    expected = unit_length(feature.numpy().copy())
    np.testing.assert_allclose(other.embed([people / "01.jpg"]), expected, atol=1e-5)
    assert not np.allclose(student.embed([people / "01.jpg"]), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"colours": "BGR"}, "setting colours: must be one of RGB"),
        ({"range": [0, 1]}, r"are \(64, 32, \(0, 1\)\), not \(64, 32, \(0, 255\)\)"),
        ({"mean": [1, 2]}, r"setting mean\.2: is missing"),
        ({"mean": None}, "setting mean: must be a list"),
        ({"mean": [[1], [2], [3]]}, r"setting mean\.0: must be a number"),
        ({"mean": [1e39, 1, 1]}, r"setting mean\.0: must be a number"),
        ({"std": ["a", "b", "c"]}, r"setting std\.2: must be a number"),
        ({"std": [0, 0, 0]}, r"setting std\.1: must be a number, at least"),
        ({"height": -4}, r"height, width and range are \(-4, 32"),
        ({"height": 10**9}, r"height, width and range are \(1000000000, 32"),
        ({"height": float("inf")}, "setting height: must be a whole number"),
        ({"sharpen": True}, "setting sharpen: no such setting"),
    ],
)
def test_preparations_that_are_unknown_are_refused(model_file, tmp_path, changed, stated, reason):
    path = changed(model_file, tmp_path / "m.safetensors", **stated)
    unknown = "prepared in a way that this version does not know"
    with pytest.raises(UserError, match=rf"m\.safetensors: .*{unknown} \(.*{reason}"):
        pgfl.load(path)


@pytest.mark.parametrize("words", [None, "", "[" * 9999, "1" * 5000])
def test_a_file_without_such_words_is_refused(model_file, tmp_path, words):
    path = tmp_path / "m.safetensors"
    with safetensors.safe_open(model_file, "pt") as file:
        metadata = file.metadata()
    metadata.pop("preprocessing")
    metadata |= {} if words is None else {"preprocessing": words}
    save_tensors(read_state(model_file), path, metadata)
    with pytest.raises(UserError, match="do not say how images are prepared"):
        pgfl.load(path)


def test_devices_and_precisions(model_file, student, people):
    with pytest.raises(UserError, match="no precision 'fp8'; known: fp32, half, auto"):
        pgfl.load(model_file, precision="fp8")
    with pytest.raises(UserError, match="device abacus: cannot be used here"):
        pgfl.load(model_file, device="abacus")
    with pytest.raises(UserError, match=r"device meta: cannot be used here \(known: cpu, cuda\)"):
        pgfl.load(model_file, device="meta")
    with pytest.raises(UserError, match="no such weights file"):
        pgfl.load("none.safetensors")
    path = people / "01.jpg"
    half = pgfl.load(str(model_file), device="cpu", precision="half").embed([path])
    assert half.dtype == np.float32
    likeness = (half @ student.embed([path]).T).item()
    assert 0.99 < likeness < 1


def test_rows_of_zeros_stay():
    rows = unit_length(np.array([[0, 0], [3, 4]], np.float32))
    np.testing.assert_array_equal(rows, np.array([[0, 0], [0.6, 0.8]], np.float32))
