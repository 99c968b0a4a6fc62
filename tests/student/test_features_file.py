import zipfile

import numpy as np
import pytest

from pgfl.errors import UserError
from pgfl.nn.embedding import Embedding, joined
from pgfl.student import features_file
from pgfl.student.features_file import read_features_file, write_features_file, wrong_name

TEXTS = {"folder": "/people", "model_sha256": "ab" * 32, "precision": "fp32"}
BAD = {"bad.png": "an empty file"}


@pytest.fixture
def features():
    return np.random.default_rng(0).standard_normal((10, 6), dtype=np.float32)


@pytest.fixture
def names():
    return [f"{index}/ä{'b' * index}.jpg" for index in range(10)]


@pytest.fixture
def file(tmp_path, features, names):
    path = tmp_path / "features.npz"
    write_features_file(path, names, 6, iter([features[:3], features[3:]]), TEXTS, BAD)
    return path


def test_plain_numpy_reads_it_without_pickle(file, features, names):
    with np.load(file, allow_pickle=False) as content:
        assert np.array_equal(content["features"], features)
        assert content["names"].tolist() == names
        assert content["unreadable"].tolist() == ["bad.png"]
        assert content["reasons"].tolist() == ["an empty file"]
        assert {key: str(content[key]) for key in TEXTS} == TEXTS


@pytest.mark.parametrize("rows", [1, 4, 10, 99, None])
def test_pieces_make_the_whole(file, features, names, rows):
    found = read_features_file(file)
    assert found.names.tolist() == names and found.unreadable == ("bad.png",)
    assert found.reasons == ("an empty file",)
    assert (str(found.folder), found.model_sha256) == ("/people", "ab" * 32)
    pieces = [piece.vectors.copy() for piece in found.chunks(rows)]
    assert all(len(piece) <= (rows or 10) for piece in pieces)
    assert np.array_equal(np.concatenate(pieces), features)
    assert np.array_equal(found.load().vectors, features)


def test_a_file_of_an_older_version_says_no_reasons(file, tmp_path, features):
    older = tmp_path / "older.npz"
    with zipfile.ZipFile(file) as new, zipfile.ZipFile(older, "w") as old:
        for name in new.namelist():
            if name != "reasons.npy":
                old.writestr(name, new.read(name))
    found = read_features_file(older)
    assert (found.unreadable, found.reasons) == (("bad.png",), ("",))
    assert np.array_equal(found.load().vectors, features)


@pytest.mark.parametrize(
    ("name", "elsewhere", "on_windows"),
    [
        ("a/b.jpg", True, True),
        ("../b.jpg", False, False),
        ("/b.jpg", False, False),
        ("a\\b.jpg", True, False),
        ("a\\..\\..\\b.jpg", True, False),
        ("c:b.jpg", True, False),
    ],
)
def test_names_that_lead_out_of_the_folder(monkeypatch, name, elsewhere, on_windows):
    assert wrong_name(name) == ("" if elsewhere else "leads out of the folder")
    with monkeypatch.context() as patch:
        patch.setattr(features_file.os, "name", "nt")
        found = wrong_name(name)
    assert found == ("" if on_windows else "leads out of the folder")


def test_equal_contents_make_equal_files(file, tmp_path, features, names):
    again = tmp_path / "again.npz"
    write_features_file(again, names, 6, [features], TEXTS, BAD)
    assert again.read_bytes() == file.read_bytes()


@pytest.fixture(params=[True, False])
def parts(request):
    """Three vectors per image, with visibilities and without."""
    rng = np.random.default_rng(1)
    seen = rng.random((10, 3), dtype=np.float32) if request.param else None
    return Embedding(rng.standard_normal((10, 3, 6), dtype=np.float32), seen)


@pytest.fixture
def parts_file(tmp_path, names, parts):
    path = tmp_path / "parts.npz"
    write_features_file(path, names, 6, iter([parts[:3], parts[3:]]), TEXTS, BAD, parts=3)
    return path


def same(found, expected):
    return np.array_equal(found.vectors, expected.vectors) and (
        np.array_equal(found.visibility, expected.visibility)
        if expected.visibility is not None
        else found.visibility is None
    )


@pytest.mark.parametrize("rows", [1, 4, 99, None])
def test_several_vectors_come_back_in_pieces(parts_file, parts, names, rows):
    found = read_features_file(parts_file)
    assert (found.parts, found.channels, found.names.tolist()) == (3, 6, names)
    pieces = [piece.mapped(np.copy) for piece in found.chunks(rows)]
    assert all(len(piece) <= (rows or 10) for piece in pieces)
    assert same(joined(pieces), parts) and same(found.load(), parts)
    with np.load(parts_file, allow_pickle=False) as content:
        assert np.array_equal(content["features"], parts.vectors)
        assert ("visibility" in content) == (parts.visibility is not None)


@pytest.mark.parametrize(
    "arrays",
    [
        {"visibility": np.ones((10, 2), np.float32)},
        {"visibility": np.ones((9, 3), np.float32)},
        {"visibility": np.ones((10, 3))},
        {"visibility": np.array([[{}] * 3] * 10)},
        {"visibility": np.ones((10, 1), np.float32), "features": np.ones((10, 6), np.float32)},
        {"features": np.ones((10, 0, 6), np.float32)},
    ],
)
def test_visibilities_that_do_not_fit_are_refused(parts_file, tmp_path, arrays):
    with pytest.raises(UserError, match=r"odd\.npz: not a file of features, or damaged"):
        read_features_file(odd(parts_file, tmp_path / "odd.npz", **arrays))


@pytest.mark.parametrize(
    ("pieces", "parts"),
    [
        (lambda x: [x[:4]], 3),
        (lambda x: [x[:4], Embedding(x.vectors[4:])], 3),
        (lambda x: [x], None),
        (lambda x: [x], 2),
    ],
)
def test_pieces_that_do_not_fit_write_nothing(tmp_path, names, pieces, parts):
    x = Embedding(np.ones((10, 3, 6), np.float32), np.ones((10, 3), np.float32))
    path = tmp_path / "none.npz"
    with pytest.raises(ValueError, match=r"features of \(3, 6\)|10 names, "):
        write_features_file(path, names, 6, pieces(x), TEXTS, BAD, parts=parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.97])
def test_a_truncated_file_is_refused(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"features\.npz: not a file of features, or damaged"):
        read_features_file(file)


def test_a_changed_number_is_noticed(file, features):
    content = bytearray(file.read_bytes())
    content[content.index(features[5].tobytes()) + 1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_features_file(file).load()


def test_other_files_are_refused(tmp_path, features):
    with pytest.raises(UserError, match=r"none\.npz: no such file"):
        read_features_file(tmp_path / "none.npz")
    np.savez(tmp_path / "foreign.npz", features=features)
    with pytest.raises(UserError, match="not written by `pgfl embed`"):
        read_features_file(tmp_path / "foreign.npz")


@pytest.mark.parametrize("shape", [(10, 6, 1, 1), (9, 6), (9, 6, 1), (10,)])
def test_features_of_other_shapes_are_refused(file, tmp_path, shape):
    with np.load(file) as content:
        arrays = dict(content)
    arrays["features"] = np.zeros(shape, np.float32)
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(UserError, match="not a file of features"):
        read_features_file(tmp_path / "odd.npz")


def test_compressed_features_are_refused(file, tmp_path):
    with np.load(file) as content:
        np.savez_compressed(tmp_path / "small.npz", **content)
    with pytest.raises(UserError, match="features are compressed"):
        read_features_file(tmp_path / "small.npz")


def test_what_numpy_has_written_is_read_too(file, tmp_path, features):
    with np.load(file) as content:
        np.savez(tmp_path / "again.npz", **content)
    assert np.array_equal(read_features_file(tmp_path / "again.npz").load().vectors, features)


def test_arrays_of_objects_are_never_unpickled(file, tmp_path):
    with np.load(file) as content:
        arrays = dict(content)
    arrays["names"] = np.array([{}] * 10, dtype=object)
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(UserError, match="not a file of features"):
        read_features_file(tmp_path / "odd.npz")


def odd(file, path, **arrays):
    """A file with other arrays in it."""
    with np.load(file) as content:
        np.savez(path, **{**content, **arrays})
    return path


@pytest.mark.parametrize(
    "arrays",
    [
        {"names": np.arange(10)},
        {"names": np.array([b"a"] * 10)},
        {"names": np.array([["a"]] * 10)},
        {"unreadable": np.zeros(2)},
        {"folder": np.array(["/people"])},
        {"folder": np.array("/peo\0ple")},
        {"precision": np.array(1.5)},
        {"names": np.empty(0, "<U1"), "features": np.empty((0, 6), np.float32)},
    ],
)
def test_arrays_of_another_kind_are_refused(file, tmp_path, arrays):
    with pytest.raises(UserError, match=r"odd\.npz: not a file of features, or damaged"):
        read_features_file(odd(file, tmp_path / "odd.npz", **arrays))


def test_features_that_are_said_to_be_longer_than_the_file_are_refused(file, features):
    content, shape, huge = file.read_bytes(), b"(10, 6), }", b"(10, 6000000000000), }"
    more = len(huge) - len(shape)
    file.write_bytes(content.replace(shape + b" " * more, huge))
    with pytest.raises(UserError, match="it ends too early"):
        read_features_file(file)


@pytest.mark.parametrize("bits", range(8))
def test_any_flipped_bit_is_noticed_or_harmless(file, features, names, bits):
    """Zip, zlib and NumPy raise many kinds of errors, syntax errors of Python among them."""
    whole = file.read_bytes()
    for place in range(bits, len(whole), 8):
        content = bytearray(whole)
        content[place] ^= 1 << bits
        file.write_bytes(content)
        try:
            found = read_features_file(file)
            assert np.array_equal(found.load().vectors, features) and found.names.tolist() == names
        except UserError as error:
            assert str(error).startswith(f"{file}: not ") and str(error).isprintable()


@pytest.mark.parametrize("name", ["/etc/a.png", "../a.png", "a/../../b.png", "..", "a\0b.png"])
def test_names_that_lead_elsewhere_are_never_followed(file, tmp_path, names, name):
    found = read_features_file(odd(file, tmp_path / "odd.npz", names=np.array([name, *names[1:]])))
    with pytest.raises(UserError, match=r"odd\.npz: the name .* (leads out|is not UTF-8)"):
        found.image(0)
    assert str(found.image(1)) == f"/people/{names[1]}"
