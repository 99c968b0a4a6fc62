import io
import pickle
import zipfile

import pytest
import torch
from torch import nn

from pgfl.untrusted.torch_files import LegacyFile, ZipFile, open_torch_file

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn),
]
BASE = torch.arange(24.0)
VIEWS = {
    "whole": BASE,
    "part": BASE[3:9],
    "transposed": BASE.view(4, 6).t(),
    "every second": BASE[::2],
    "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "number": torch.tensor(2.5),
    "empty": torch.empty(0, 3),
    "parameter": nn.Parameter(torch.rand(3)),
}


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    """Writes a file in one of torch's two formats and returns it opened."""

    def write(content):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=request.param)
        return open_torch_file(tmp_path / "a.pth")

    return write


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_number_is_read(save, dtype):
    values = torch.tensor([0.0, 1.0, 2.0, 100.0]).to(dtype)
    file = save({"a": values})
    found = file.tensor(file.content["a"])
    assert found.dtype == dtype and torch.equal(found.float(), values.float())


@pytest.mark.parametrize("name", VIEWS)
def test_every_way_to_lie_in_memory_is_read(save, name):
    file = save(VIEWS)
    found = file.tensor(file.content[name])
    assert torch.equal(found, VIEWS[name]) and found.stride() == VIEWS[name].stride()
    assert type(found) is torch.Tensor


def test_tensors_that_share_memory_do_so_again(save):
    file = save([BASE, BASE[3:]])
    whole, part = (file.tensor(value) for value in file.content)
    whole[3] = -1
    assert part[0] == -1


def test_only_what_is_asked_for_is_read(save):
    file = save({"a": torch.ones(10), "optimizer": torch.ones(1000)})
    before = file.left
    file.tensor(file.content["a"])
    assert before - file.left == 40


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(2, 2).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "_rebuild_qtensor"),
        (torch.ones(2, device="meta"), "_rebuild_meta_tensor_no_storage"),
    ],
)
def test_other_kinds_of_tensors_are_named(save, value, kind):
    file = save({"a": value})
    with pytest.raises(ValueError, match=kind):
        file.tensor(file.content["a"])


def test_an_old_file_with_the_class_of_a_network_is_read(save):
    # torch then stores the class's source text, too.
    file = save({"network": nn.Linear(2, 2), "a": torch.ones(3)})
    assert torch.equal(file.tensor(file.content["a"]), torch.ones(3))


def test_the_two_formats_are_told_apart(tmp_path):
    for new, kind in [(True, ZipFile), (False, LegacyFile)]:
        torch.save({}, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        assert type(open_torch_file(tmp_path / "a.pth")) is kind


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """The same zip archive with its members' contents changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            changed = change(name.partition("/")[2], content)
            if changed is not None:
                archive.writestr(name, changed)
    return path


@pytest.fixture
def path(tmp_path):
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def read_a(path):
    file = open_torch_file(path)
    return file.tensor(file.content["a"])


def test_an_archive_packed_again_is_read(path):
    assert torch.equal(read_a(rewritten(path, lambda _, content: content)), torch.arange(1000.0))


@pytest.mark.parametrize(
    ("change", "compression", "said"),
    [
        (lambda _, content: content, zipfile.ZIP_DEFLATED, "not written by torch"),
        (lambda name, c: c[:-4] if name == "data/0" else c, 0, "has 3996 bytes, not 4000"),
        (lambda name, c: b"big" if name == "byteorder" else c, 0, "big-endian"),
        (lambda name, c: None if name == "data.pkl" else c, 0, "that torch.save did not write"),
        (
            lambda name, c: c.replace(b"K\x00M\xe8\x03\x85", b"K\x01M\xe8\x03\x85"),
            0,
            "out of bounds",
        ),
    ],
)
def test_a_changed_archive_is_refused(path, change, compression, said):
    with pytest.raises((ValueError, RuntimeError), match=said):
        read_a(rewritten(path, change, compression))


def test_a_tensor_larger_than_its_bytes_is_refused(save):
    file = save({"a": torch.ones(1).expand(10**9)})
    with pytest.raises(ValueError, match="larger than its bytes"):
        file.tensor(file.content["a"])


def test_a_flipped_bit_in_a_tensor_is_noticed(path):
    content = bytearray(path.read_bytes())
    at = content.find(torch.arange(1000.0).numpy().tobytes())
    content[at + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        read_a(path)


def test_parts_of_a_file_cannot_be_read_many_times(tmp_path):
    """Ten keys over one member's bytes: more tensors than the file is long."""
    torch.save(
        {str(key): torch.full((1000,), float(key)) for key in range(10)}, tmp_path / "a.pth"
    )
    file = open_torch_file(tmp_path / "a.pth")
    names = file.archive.NameToInfo
    for key in range(10):
        names[f"a/data/{key}"] = names["a/data/0"]
    file.left = 20_000
    with pytest.raises(ValueError, match="was not written by torch"):
        [file.tensor(value) for value in file.content.values()]


def test_a_program_is_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "a.pth"))
    with pytest.raises(ValueError, match="a TorchScript program"):
        open_torch_file(tmp_path / "a.pth")


def test_a_plain_pickle_is_refused(tmp_path):
    stream = io.BytesIO()
    for value in (1, 2, 3):
        pickle.dump(value, stream)
    (tmp_path / "a.pkl").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match="a plain pickle"):
        open_torch_file(tmp_path / "a.pkl")
