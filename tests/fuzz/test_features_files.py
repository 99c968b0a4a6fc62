"""A damaged file of features holds what was written, or is refused with a line that names it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.student.features_file import TEXTS, read_features_file, write_features_file

NAMES = [f"{index}/ä {index}.jpg" for index in range(5)]
SAID = {"folder": "/people", "model_sha256": "ab" * 32, "precision": "fp32"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good file, and what is in it."""
    path = tmp_path_factory.mktemp("features") / "people.npz"
    features = np.random.default_rng(0).standard_normal((5, 4), dtype=np.float32)
    write_features_file(path, NAMES, 4, [features], SAID, {"bad.png": "an empty file"})
    return path, content(path)


def content(path):
    """All that is read from a file."""
    file = read_features_file(path)
    names = [file.image(row) for row in range(len(file.names))]
    said = [str(getattr(file, key)) for key in TEXTS]
    return names, said, file.unreadable, file.load().matrix.tolist()


@given(st.data())
def test_a_damaged_file_is_read_as_it_was_or_refused(whole, clear, damaged, tmp_path, data):
    path = tmp_path / "people.npz"
    path.write_bytes(data.draw(damaged(whole[0].read_bytes())))
    assert clear(content, path, named=[path]) in (whole[1], None)


TEXT = st.text(st.characters(codec=None), max_size=4) | st.sampled_from(["..", "/a", "a/../b"])
ARRAYS = st.one_of(
    TEXT.map(np.array),
    st.lists(TEXT, max_size=3).map(lambda texts: np.array(texts, dtype=str)),
    st.lists(st.integers(0, 9), max_size=3).map(np.array),
    st.sampled_from([np.array([[1.0, 2.0]], np.float32), np.array(["a"], "S"), np.zeros((0, 4))]),
)


@given(st.data())
def test_other_arrays_are_features_or_refused(whole, clear, tmp_path, data):
    with np.load(whole[0]) as file:
        arrays = dict(file)
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(arrays)), ARRAYS, max_size=3))
    path = tmp_path / "people.npz"
    np.savez(path, **{**arrays, **changed})
    found = clear(content, path, named=[path])
    for image in found[0] if found else ():
        assert ".." not in image.relative_to(Path(found[1][0])).parts
