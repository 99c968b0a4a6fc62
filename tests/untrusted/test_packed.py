"""Archives of strangers: unpacked as they were packed, or refused before anything is written."""

import io
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from pgfl.errors import UserError
from pgfl.untrusted import packed
from pgfl.untrusted.packed import check_members, names_in, opened, unpack

ZIPS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
TARS = ("w", "w:gz", "w:bz2", "w:xz")


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, content)
    return path


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(params=[*ZIPS, *TARS])
def pack(request, tmp_path):
    """Writes the given members in one of eight ways and returns the archive's path."""
    kind = request.param
    write = write_tar if isinstance(kind, str) else write_zip
    return lambda members: write(tmp_path / "set.any", members, kind)


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "deep" / "images"
    folder.mkdir(parents=True)
    return folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_was_packed_is_unpacked(pack, target):
    members = {"a/b.jpg": os.urandom(3000), "c.jpg": b"", "a/d/é.jpg": b"2" * 100}
    archive = pack(members)
    assert unpack(archive, target) == 3 and contents(target) == members
    assert sorted(names_in(archive)) == sorted(members)


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("../evil.jpg", "leads outside"),
        ("a/../../evil.jpg", "leads outside"),
        ("/etc/evil.jpg", "leads outside"),
        ("C:/evil.jpg", "leads outside"),
        ("./..", "leads outside"),
        ("GOOD.jpg", "stands for two files"),
        ("./good.jpg", "stands for two files"),
        ("good.jpg/evil.jpg", "stands for two files"),
        ("a\nb.jpg", "a name that file systems refuse"),
        ("x" * 300, "a name that file systems refuse"),
        ("d/" * 5000 + "x", "a name that file systems refuse"),
    ],
)
def test_unsafe_names_are_refused_before_anything_is_written(pack, target, tmp_path, member, why):
    with pytest.raises(UserError, match=why):
        unpack(pack({"good.jpg": b"1", member: b"target"}), target)
    assert not list(target.iterdir()) and not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("name", ["..\\evil.jpg", "C:\\evil.jpg", "\\\\host\\share\\evil.jpg", ""])
def test_windows_own_ways_out_of_a_zip_are_refused(tmp_path, target, name):
    with pytest.raises(UserError, match="leads outside"):
        unpack(write_zip(tmp_path / "set.zip", {name: b"x"}), target)


def test_a_zip_with_backslashes_has_folders(tmp_path, target):
    unpack(write_zip(tmp_path / "set.zip", {"set\\query\\1.jpg": b"x"}), target)
    assert contents(target) == {"set/query/1.jpg": b"x"}


def zip_special(kind):
    info = zipfile.ZipInfo("a/special.jpg")
    info.external_attr = (kind | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("kind", "why"),
    [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device"), (stat.S_IFIFO, "a device")],
)
def test_links_and_devices_in_a_zip_are_refused(tmp_path, target, kind, why):
    with pytest.raises(UserError, match=why):
        unpack(write_zip(tmp_path / "set.zip", {zip_special(kind): b"good.jpg"}), target)
    assert not list(target.iterdir())


def tar_special(kind, linkname=""):
    info = tarfile.TarInfo("a/special.jpg")
    info.type, info.linkname = kind, linkname
    return info


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (tar_special(tarfile.SYMTYPE, "/etc/passwd"), "a link"),
        (tar_special(tarfile.SYMTYPE, "good.jpg"), "a link"),
        (tar_special(tarfile.LNKTYPE, "/etc/passwd"), "a link"),
        (tar_special(tarfile.LNKTYPE, "../../x"), "a link"),
        (tar_special(tarfile.LNKTYPE, "a/special.jpg"), "a link"),
        (tar_special(tarfile.CHRTYPE), "a device"),
        (tar_special(tarfile.BLKTYPE), "a device"),
        (tar_special(tarfile.FIFOTYPE), "a device"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, target, member, why):
    with pytest.raises(UserError, match=rf"unsafe members: 'a/special\.jpg' \({why}\)"):
        unpack(write_tar(tmp_path / "set.tar", {"good.jpg": b"1", member: b""}), target)
    assert not list(target.iterdir())


def test_a_tars_hard_link_is_a_file_of_its_own(tmp_path, target):
    """`tar` writes one for each further name of a file, as Occluded-Duke laid out by links has."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"content")
    os.link(folder / "1.jpg", folder / "2.jpg")
    archive = tmp_path / "set.tgz"
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path, "set"], check=True)
    assert unpack(archive, target) == 2
    assert contents(target) == {"set/1.jpg": b"content", "set/2.jpg": b"content"}
    assert not (target / "set/1.jpg").samefile(target / "set/2.jpg")


def test_a_sparse_file_is_refused(tmp_path, target):
    with (tmp_path / "1.jpg").open("wb") as file:
        file.truncate(1 << 30)
    archive = tmp_path / "set.tar"
    subprocess.run(["tar", "-cSf", archive, "-C", tmp_path, "1.jpg"], check=True)
    assert archive.stat().st_size < 20_000
    with pytest.raises(UserError, match=r"a bomb|a device"):
        unpack(archive, target)
    assert not list(target.iterdir())


def test_the_same_name_twice_is_refused(tmp_path, target):
    twice = {zipfile.ZipInfo("a.jpg"): b"1", zipfile.ZipInfo("./a.jpg"): b"2"}
    with pytest.raises(UserError, match=r"'a\.jpg' \(stands for two files"):
        unpack(write_zip(tmp_path / "set.zip", twice), target)


def test_members_that_share_their_bytes_are_refused(tmp_path):
    path = write_zip(tmp_path / "set.zip", {f"{name}.jpg": b"1" * 500 for name in "abcdefgh"})
    with opened(path) as archive:
        members = archive.members
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="its members overlap"):
        check_members(path, members, tmp_path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, *TARS[1:]])
def test_a_bomb_is_refused(tmp_path, target, kind):
    write = write_tar if isinstance(kind, str) else write_zip
    bomb = write(tmp_path / "set.any", {"zeros.jpg": bytes(32 << 20)}, kind)
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UserError, match="bomb"):
        unpack(bomb, target)
    assert not list(target.iterdir())


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_in_a_tars_header_does_not_fill_the_memory(tmp_path, target, kind):
    info = tarfile.TarInfo("././@LongLink")
    info.type = kind
    bomb = write_tar(tmp_path / "set.tgz", {info: bytes(64 << 20)}, "w:gz")
    with pytest.raises(UserError, match=r"set\.tgz: damaged.*a header of an impossible size"):
        unpack(bomb, target)


def test_an_archive_larger_than_allowed_or_than_the_disk_is_refused(pack, target, monkeypatch):
    path = pack({"a.jpg": b"12345678"})
    monkeypatch.setattr(packed, "MAX_BYTES", 7)
    with pytest.raises(UserError, match=r"unpacks to 8 bytes|unpacks to more than 7 bytes"):
        unpack(path, target)
    monkeypatch.undo()
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda path: SimpleNamespace(free=7))
    with pytest.raises(UserError, match="needs 8 bytes of disk, 7 are free"):
        unpack(path, target)
    monkeypatch.undo()
    monkeypatch.setattr(packed, "MAX_FILES", 0)
    with pytest.raises(UserError, match=r"refused, 1 files \(allowed: 0\)|more than 0 files"):
        unpack(path, target)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "nothing", "end"])
def test_a_damaged_archive_is_named_with_the_way_out(pack, target, damage):
    path = pack({f"{number}.jpg": os.urandom(2000) for number in range(20)})
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "text": b"<html>not found</html>",
            "empty": b"",
            "nothing": b"",
            # On the border of two members, where a tar that was cut short looks whole.
            "end": content[: 3 * 512 + 2000],
        }[damage]
    )
    if damage == "nothing":
        pack({})
    with pytest.raises(UserError, match=r"set\.any: .*(unpack it yourself and name|no files)"):
        unpack(path, target)


def test_a_tar_cut_between_two_members_is_refused(tmp_path, target):
    path = write_tar(tmp_path / "set.tar", {"a.jpg": bytes(512), "b.jpg": bytes(512)})
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(UserError, match="its end is missing"):
        unpack(path, target)


@pytest.mark.parametrize("mode", TARS[1:])
def test_a_changed_byte_of_a_compressed_tar_is_noticed(tmp_path, target, mode):
    path = write_tar(tmp_path / "set.any", {"a.jpg": os.urandom(5000)}, mode)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"set\.any: .*unpack it yourself"):
        unpack(path, target)


def test_kinds_that_cannot_be_read_are_named(tmp_path, target):
    for content, kind in (
        (b"Rar!\x1a\x07\x00", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    ):
        (tmp_path / "set.zip").write_bytes(content)
        with pytest.raises(UserError, match=rf"{kind}.* unpack it yourself and name the folder"):
            unpack(tmp_path / "set.zip", target)
    with pytest.raises(UserError, match=r"none\.zip: no such file"):
        unpack(tmp_path / "none.zip", target)


def test_a_zip_in_a_tar_is_a_tar(tmp_path, target):
    inner = write_zip(tmp_path / "inner.zip", {"a.jpg": b"1"})
    outer = write_tar(tmp_path / "outer.tar", {"inner.zip": inner.read_bytes()})
    unpack(outer, target)
    assert list(contents(target)) == ["inner.zip"]


@pytest.mark.skipif(shutil.which("zip") is None, reason="the program zip is not here")
@pytest.mark.parametrize("options", [["-0"], ["-9"], ["-fz"], ["-Z", "bzip2"], ["-e", "-P", "x"]])
def test_archives_of_the_program_zip(tmp_path, target, options):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.jpg").write_bytes(b"content" * 100)
    command = ["zip", "-q", "-r", *options, "set.zip", "set"]
    if subprocess.run(command, cwd=tmp_path).returncode != 0:
        pytest.skip("this zip has not been built with it")
    if "-e" in options:
        with pytest.raises(UserError, match="encrypted"):
            unpack(tmp_path / "set.zip", target)
    else:
        unpack(tmp_path / "set.zip", target)
        assert contents(target) == {"set/1.jpg": b"content" * 100}
