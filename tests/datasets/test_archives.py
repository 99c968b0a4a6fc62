import stat
import subprocess
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from pgfl import zips
from pgfl.datasets.archives import SOURCES, extract
from pgfl.errors import UserError


@pytest.fixture
def pack(tmp_path):
    """Writes a zip of the given members and returns its path."""

    def write(members, compression=zipfile.ZIP_STORED):
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w", compression) as packed:
            for name, content in members.items():
                info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
                info.compress_type = compression
                packed.writestr(info, content)
        return path

    return write


def test_members_land_in_the_folder_which_replaces_an_old_one(tmp_path, pack):
    target = tmp_path / "data" / "images"
    target.mkdir(parents=True)
    (target / "stale.jpg").touch()
    assert extract(pack({"a/b.jpg": b"1", "c.jpg": b"2"}), "market1501", target) == 2
    found = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert found == {"a/b.jpg", "c.jpg"}


def special(kind):
    info = zipfile.ZipInfo("a/special.jpg")
    info.external_attr = (kind | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("../evil.jpg", "leads outside"),
        ("a/../../evil.jpg", "leads outside"),
        ("/etc/evil.jpg", "leads outside"),
        ("..\\evil.jpg", "leads outside"),
        ("C:\\evil.jpg", "leads outside"),
        ("\\\\host\\share\\evil.jpg", "leads outside"),
        ("", "leads outside"),
        ("./..", "leads outside"),
        (special(stat.S_IFLNK), "a link"),
        (special(stat.S_IFCHR), "a device"),
        (special(stat.S_IFIFO), "a device"),
        ("GOOD.jpg", "stands for two files"),
        ("good.jpg/evil.jpg", "stands for two files"),
        ("a\nb.jpg", "a name that file systems refuse"),
        ("x" * 300, "a name that file systems refuse"),
        ("d/" * 5000 + "x", "a name that file systems refuse"),
    ],
)
def test_unsafe_members_are_refused_before_anything_is_written(tmp_path, pack, member, why):
    target = tmp_path / "deep" / "images"
    with pytest.raises(UserError, match=why):
        extract(pack({"good.jpg": b"1", member: b"target"}), "market1501", target)
    assert not target.exists()
    assert not list(tmp_path.rglob("evil*"))


def test_the_same_name_twice_is_refused(tmp_path, pack):
    twice = {zipfile.ZipInfo("a.jpg"): b"1", zipfile.ZipInfo("./a.jpg"): b"2"}
    with pytest.raises(UserError, match=r"'a\.jpg' \(stands for two files"):
        extract(pack(twice), "market1501", tmp_path / "images")


def test_members_that_share_their_bytes_are_refused(tmp_path, pack, monkeypatch):
    path = pack({f"{name}.jpg": b"1" * 500 for name in "abcdefgh"})
    with zipfile.ZipFile(path) as packed:
        members = packed.infolist()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="its members overlap"):
        zips.check_members(path, members, tmp_path)


def test_another_kind_of_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "set.zip", "w:gz") as packed:
        packed.add(__file__, "../evil.py")
    with pytest.raises(UserError, match="damaged or not a zip archive"):
        extract(tmp_path / "set.zip", "market1501", tmp_path / "images")


def test_a_zip_bomb_is_refused(tmp_path, pack):
    bomb = pack({"zeros.jpg": bytes(8 << 20)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(UserError, match="zip bomb"):
        extract(bomb, "market1501", tmp_path / "images")


def test_an_archive_larger_than_allowed_or_than_the_disk_is_refused(tmp_path, pack, monkeypatch):
    path = pack({"a.jpg": b"12345678"})
    monkeypatch.setattr(zips, "MAX_BYTES", 7)
    with pytest.raises(UserError, match="unpacks to 8 bytes"):
        extract(path, "market1501", tmp_path / "images")
    monkeypatch.undo()
    monkeypatch.setattr(zips.shutil, "disk_usage", lambda path: SimpleNamespace(free=7))
    with pytest.raises(UserError, match="needs 8 bytes of disk, 7 are free"):
        extract(path, "market1501", tmp_path / "images")
    monkeypatch.undo()
    monkeypatch.setattr(zips, "MAX_FILES", 0)
    with pytest.raises(UserError, match=r"refused, 1 files \(allowed: 0\)"):
        extract(path, "market1501", tmp_path / "images")


@pytest.mark.parametrize("damage", ["truncated", "text", "flipped", "empty", "nothing"])
def test_a_damaged_archive_is_named_and_nothing_is_left(tmp_path, pack, damage):
    path = pack({"a.jpg": b"12345678" * 100})
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "text":
        content = b"<html>not found</html>"
    elif damage == "flipped":
        content[200] ^= 1
    elif damage == "empty":
        content = b""
    else:
        content = pack({}).read_bytes()
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"set\.zip: "):
        extract(path, "market1501", tmp_path / "images")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.zip"]


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.zip: no such file"):
        extract(tmp_path / "none.zip", "market1501", tmp_path / "images")


def test_of_the_occluded_duke_repository_only_the_lists_are_taken(tmp_path, pack):
    path = pack({"repo/Occluded_Duke/train.list": b"", "repo/paper.pdf": b"x"})
    assert extract(path, "occluded_duke", tmp_path / "lists") == 1


def test_archive_names_are_distinct():
    assert len({source.name for source in SOURCES.values()}) == len(SOURCES)


def test_a_disk_that_runs_full_is_one_line_and_leaves_nothing(pack, small_disk):
    """Other files may take what was free at the start; here it is the many small files."""
    path = pack({f"{index}.jpg": bytes(100) for index in range(80)})
    disk = small_disk("200k")
    command = [sys.executable, "-m", "pgfl", "archive", "extract", str(path), "market1501"]
    command += ["--out", str(disk / "images")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and list(disk.iterdir()) == []
    assert result.stderr == (
        f"error: {disk}/images: No space left on device; free some space, then run the same "
        "command again\n"
    )
    small_disk("2m", disk)
    assert subprocess.run(command).returncode == 0
    assert len(list((disk / "images").iterdir())) == 80
