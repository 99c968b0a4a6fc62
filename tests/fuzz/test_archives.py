"""A damaged or hostile archive is unpacked as it was packed, or refused; never half."""

import io
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.runtime.files import whole_folder
from pgfl.untrusted.obtain import Source, obtain
from pgfl.untrusted.packed import unpack

MEMBERS = {
    "set/train/0001_c1.jpg": b"first" * 30,
    "set/query/0002_c2.jpg": bytes(range(256)),
    "set/readme.txt": b"",
    "set/Occluded_Duke/train.list": b"0001_c1_f0000001.jpg\n" * 20,
}
TARS = ("w:gz", "w:bz2", "w:xz", "w")
"""The last one has no checksums of what is in it."""
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The bytes of a good archive in every way of packing."""
    contents = []
    for kind in KINDS:
        path = tmp_path_factory.mktemp("zip") / "set.zip"
        with zipfile.ZipFile(path, "w", kind) as packed:
            for name, content in MEMBERS.items():
                packed.writestr(name, content)
        contents.append(path.read_bytes())
    for mode in TARS:
        path = tmp_path_factory.mktemp("tar") / "set.tar"
        with tarfile.open(path, mode) as packed:
            for name, content in MEMBERS.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
        contents.append(path.read_bytes())
    return contents


def extract(archive, target):
    with whole_folder(target) as temporary:
        return unpack(archive, temporary)


def unpacked(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_extraction(clear, tmp_path, content, checksums=True):
    """Whatever is unpacked is what was packed, and all of it lies in its folder."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    archive, target = work / "set.zip", work / "deep" / "images"
    archive.write_bytes(content)
    count = clear(extract, archive, target, named=[archive])
    beside = {path for path in work.rglob("*") if path.is_file() and target not in path.parents}
    assert beside == {archive}
    if count is None:
        assert not target.exists()
        return
    found = unpacked(target)
    assert len(found) == count
    # A damaged name is a name; content has a checksum.
    assert not checksums or set(found.values()) <= set(MEMBERS.values())
    for path in sorted(target.parent.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


@given(st.data())
def test_a_damaged_archive_is_whole_or_refused(clear, damaged, archives, tmp_path, data):
    content = data.draw(damaged(data.draw(st.sampled_from(archives[:-1]))))
    check_extraction(clear, tmp_path, content)


@given(st.data())
def test_a_damaged_plain_tar_stays_in_its_folder(clear, damaged, archives, tmp_path, data):
    check_extraction(clear, tmp_path, data.draw(damaged(archives[-1])), checksums=False)


@given(st.data())
def test_a_damaged_directory_of_an_archive_is_whole_or_refused(
    clear, damaged, archives, tmp_path, data
):
    whole = data.draw(st.sampled_from(archives[: len(KINDS)]))
    start = whole.index(b"PK\x01\x02")
    check_extraction(clear, tmp_path, whole[:start] + data.draw(damaged(whole[start:])))


NAMES = st.lists(
    st.sampled_from(["..", ".", "/", "a", "A", "\\", "C:", " ", "\n", "\x00", "é", "e\u0301", ""])
    | st.text(max_size=3),
    max_size=4,
).map("/".join)


@given(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from([0, 0o120777, 0o020666, 0o100644]))
def test_members_of_any_name_stay_inside_or_are_refused(clear, tmp_path, names, mode):
    archive, target = tmp_path / "set.zip", tmp_path / "deep" / "down" / "images"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in names:
            member = zipfile.ZipInfo("placeholder")
            member.filename, member.external_attr = name, mode << 16
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("warnings.warn", lambda *_, **__: None)
                packed.writestr(member, b"evil")
    clear(extract, archive, target, named=[archive])
    for path in tmp_path.rglob("*"):
        assert not path.is_symlink()
        assert path == archive or path in target.parents or target in (path, *path.parents)


@given(st.data())
def test_a_damaged_container_yields_the_file_or_is_refused(
    clear, damaged, archives, tmp_path, data
):
    folder = tmp_path / "archives"
    folder.mkdir(exist_ok=True)
    content = data.draw(damaged(data.draw(st.sampled_from(archives[:-1]))))
    (folder / "outer.zip").write_bytes(content)
    name = "0002_c2.jpg"
    inner = Source(name, container=Source("outer.zip"))
    target = tmp_path / "out" / "inner.zip"

    def get():
        obtain(inner, target, folder=folder, file=None, url="")
        return target.read_bytes()

    found = clear(get, named=["outer.zip"])
    assert found in (None, MEMBERS[f"set/query/{name}"])
    assert not list((tmp_path / "out").glob(".*")) and not list(target.parent.glob("*outer*"))
    target.unlink(missing_ok=True)
