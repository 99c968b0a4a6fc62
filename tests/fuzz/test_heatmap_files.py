"""A damaged heatmap file gives the very same maps, or is refused with a line that names it.

In a process of its own: it is C that reads these files, and it must not crash or hang either.
"""

import hashlib
import multiprocessing
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.errors import UserError
from pgfl.pose.check import check_store
from pgfl.pose.store import USER_BLOCK, HeatmapReader, HeatmapWriter

NAMES = [f"images/{i}.jpg" for i in range(5)]
AT_ONCE = 8
"""Damaged files that one process reads."""
LONGEST_SECONDS = 120
FORK = multiprocessing.get_context("fork")


def content(path):
    """A digest of all that is read from a file."""
    reader = HeatmapReader(path)
    reader.require(NAMES)
    arrays = [*(reader[row] for row in range(len(reader))), reader.confidence(), reader.usable()]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def answer(pipe, paths):
    """In a process of its own: what each file says, or what is said of it."""
    signal.alarm(LONGEST_SECONDS)
    for path in paths:
        said = []
        for function in (content, lambda path: check_store(path, NAMES)):
            try:
                said.append(function(path))
            except UserError as error:
                said.append(str(error).split("\n"))
        pipe.send(said)


def read(paths):
    """What a process that reads some files says of each: [digest or lines, None or lines]."""
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=answer, args=(there, paths))
    process.start()
    there.close()
    answers = []
    try:
        while len(answers) < len(paths):
            answers.append(here.recv())
    except EOFError:
        pass
    process.join()
    assert process.exitcode == 0, f"{paths[len(answers)]}: ended with {process.exitcode}"
    return answers


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The bytes of a good file, and the digest of what is read from it."""
    path = tmp_path_factory.mktemp("store") / "train.h5"
    raw = np.random.default_rng(0).random((5, 8, 6, 4)).astype(np.float32) ** 4
    maps = raw / raw.sum(axis=(2, 3), keepdims=True)
    with HeatmapWriter(path, NAMES, (6, 4), {"estimator": "hrnet_small"}) as writer:
        writer.write(0, maps, np.ones((5, 17), np.float32))
    ((digest, checked),) = read([path])
    assert checked is None and len(digest) == hashlib.sha256().digest_size * 2
    return path.read_bytes(), digest


def check_copies(store, tmp_path, copies, sealed=True):
    """Prove that each damaged copy is refused or, with our checksum, read as if it were whole."""
    whole, digest = store
    paths = [tmp_path / f"{place}.h5" for place in range(len(copies))]
    for path, content in zip(paths, copies, strict=True):
        path.write_bytes(content)
    for path, said in zip(paths, read(paths), strict=True):
        for answer in said:
            if isinstance(answer, list):
                assert answer and all(str(path) in line and line.isprintable() for line in answer)
            elif sealed:
                assert answer in (digest, None), f"{path}: read, but as something else"


@given(st.data())
def test_a_damaged_file_is_read_as_it_was_or_refused(store, damaged, tmp_path, data):
    seal, content = store[0][:USER_BLOCK], store[0][USER_BLOCK:]
    copies = [seal + data.draw(damaged(content)) for _ in range(AT_ONCE)]
    check_copies(store, tmp_path, copies)


@given(st.data())
def test_without_a_checksum_nothing_crashes_either(store, damaged, tmp_path, data):
    """What another program wrote, or where the checksum itself is gone."""
    content = store[0][USER_BLOCK:]
    copies = [bytes(USER_BLOCK) + data.draw(damaged(content)) for _ in range(AT_ONCE)]
    check_copies(store, tmp_path, copies, sealed=False)


def test_a_file_cut_anywhere_is_refused(store, tmp_path):
    whole, _ = store
    sizes = range(0, len(whole), len(whole) // 40)
    check_copies(store, tmp_path, [whole[:size] for size in sizes])
