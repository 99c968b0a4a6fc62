"""A data set in whatever form it lies about is laid out as its published archive would be."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pgfl.datasets import archives, market1501
from pgfl.datasets.archives import extract, holds_lists, stamp
from pgfl.datasets.manifest import build_manifest, write_manifest
from pgfl.datasets.origin import read_origin
from pgfl.datasets.registry import DATASETS, SOURCES
from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.errors import UserError
from pgfl.untrusted.obtain import find, plain_name

SMALL = SyntheticSettings(
    train_identities=4, test_identities=4, images=4, cameras=3, height=32, width=16
)
ROOT = "Market-1501-v15.09.15"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawn images in an archive with Market-1501's own names."""
    path = tmp_path_factory.mktemp("drawn") / f"{ROOT}.zip"
    synthesize("market1501", path, SMALL)
    return path


@pytest.fixture
def unpacked(drawn, tmp_path):
    """What a user has who has unpacked it."""
    with zipfile.ZipFile(drawn) as packed:
        packed.extractall(tmp_path / "mine")
    return tmp_path / "mine" / ROOT


def manifest_of(source, folder):
    extract(source, "market1501", folder / "images")
    write_manifest(
        *build_manifest(market1501.read(folder / "images"), folder), folder / "manifest.csv"
    )
    return (folder / "manifest.csv").read_bytes()


def run(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


def as_folder(mine):
    return mine


def below_wrappers(mine):
    shutil.copytree(mine, mine.parent / "data/reid/market1501" / ROOT)
    return mine.parent / "data"


def with_extras(mine):
    """What other programs and code bases leave in it."""
    for extra in ("gt_bbox", "gt_query", "pytorch/query/0001", "pytorch/gallery/0001"):
        (mine / extra).mkdir(parents=True)
        (mine / extra / "0001_c1s1_000151_01.jpg").write_bytes(b"not to be read")
    for extra in (".DS_Store", "query/._0001_c1s1_000151_01.jpg", "query/desktop.ini"):
        (mine / extra).write_bytes(b"x")
    (mine / "bounding_box_test" / "@eaDir").mkdir()
    (mine / "bounding_box_test" / "@eaDir" / "x@SynoEAStream").write_bytes(b"x")
    return mine


def of_links(mine):
    """A folder, and the images in it, that are links to elsewhere."""
    there = mine.parent / "links" / "market1501"
    (there / "query").mkdir(parents=True)
    for name in ("bounding_box_train", "bounding_box_test"):
        (there / name).symlink_to(mine / name)
    for image in (mine / "query").iterdir():
        (there / "query" / image.name).symlink_to(image)
    (there / "loop").symlink_to(there)
    return there.parent


def beside_duke(mine):
    """DukeMTMC-reID has the same folders."""
    duke = {"bounding_box_train": 1, "query": 2, "bounding_box_test": 3}
    for folder, frame in duke.items():
        place = mine.parent / "DukeMTMC-reID" / folder
        place.mkdir(parents=True)
        (place / f"0001_c1_f000000{frame}.jpg").write_bytes(b"x")
    return mine.parent


def in_other_letters(mine):
    (mine / "query").rename(mine / "Query")
    return mine


def rezipped(mine):
    run("zip", "-q", "-r", "-9", "../again.zip", ROOT, cwd=mine.parent)
    return mine.parent.parent / "again.zip"


def rezipped_without_wrapper(mine):
    run("zip", "-q", "-r", "-0", "../../again.zip", ".", cwd=mine)
    return mine.parent.parent / "again.zip"


def rezipped_on_a_mac(mine):
    (mine.parent / "__MACOSX").mkdir()
    shutil.copytree(mine / "query", mine.parent / "__MACOSX" / ROOT / "query")
    for name in ("bounding_box_train", "bounding_box_test"):
        (mine.parent / "__MACOSX" / ROOT / name).mkdir()
    return rezipped_of(mine.parent, "__MACOSX", ROOT)


def rezipped_of(folder, *names):
    run("zip", "-q", "-r", "../again.zip", *names, cwd=folder)
    return folder.parent / "again.zip"


def zip64(mine):
    """Written to a pipe, the program does not know how large it will be."""
    with (mine.parent / "again.zip").open("wb") as file:
        subprocess.run(["zip", "-q", "-r", "-fz", "-", ROOT], cwd=mine.parent, stdout=file)
    return mine.parent / "again.zip"


def zip_of_python(mine):
    return Path(
        shutil.make_archive(
            str(mine.parent / "again"), "zip", mine.parent.parent, mine.parent.name
        )
    )


def tarred(option, ending, *names):
    def make(mine):
        archive = mine.parent / f"again{ending}"
        run("tar", option, archive, "-C", mine.parent, *(names or [ROOT]), cwd=mine)
        return archive

    make.__name__ = f"tarred_{ending}"
    return make


FORMS = [
    *(as_folder, below_wrappers, with_extras, of_links, beside_duke, in_other_letters),
    *(rezipped, rezipped_without_wrapper, rezipped_on_a_mac, zip64, zip_of_python),
    *(tarred("-cf", ".tar"), tarred("-czf", ".tgz"), tarred("-cjf", ".tar.bz2")),
    *(tarred("-cJf", ".tar.xz"), tarred("-czf", ".tar.gz", f"./{ROOT}")),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_the_same_manifest_comes_from_every_form(drawn, unpacked, tmp_path, form):
    program = {"rezipped": "zip", "zip64": "zip", "tarred": "tar"}.get(form.__name__.split("_")[0])
    if program and shutil.which(program) is None:
        pytest.skip(f"the program {program} is not here")
    expected = manifest_of(drawn, tmp_path / "published")
    assert expected.count(b"\n") > 20 and f"images/{ROOT}/query/".encode() in expected
    source = form(unpacked)
    assert manifest_of(source, tmp_path / "here") == expected
    kind = "folder" if source.is_dir() else "archive"
    assert read_origin(tmp_path / "here" / "images").startswith(kind)


def state(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_mode)
        for path in folder.rglob("*")
    }


def test_a_folder_is_only_read_and_its_images_are_not_copied(unpacked, tmp_path):
    before = state(unpacked.parent)
    extract(unpacked.parent, "market1501", tmp_path / "images")
    extract(unpacked.parent, "market1501", tmp_path / "images")
    assert state(unpacked.parent) == before
    laid_out = tmp_path / "images" / ROOT / "query"
    assert all((unpacked / "query" / p.name).samefile(p) for p in laid_out.iterdir())
    assert not (laid_out / "Thumbs.db").exists()


def test_a_folder_on_another_file_system_is_copied(unpacked, tmp_path, small_disk):
    disk = small_disk("4m")
    shutil.copytree(unpacked, disk / ROOT)
    assert manifest_of(disk, tmp_path / "a") == manifest_of(unpacked, tmp_path / "b")


def test_a_folder_is_never_replaced_by_itself(unpacked):
    with pytest.raises(UserError, match=r"holds .* itself and would be replaced"):
        extract(unpacked, "market1501", unpacked.parent)
    assert unpacked.is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mine: shutil.rmtree(mine / "query"), rf"{ROOT} lacks query\)"),
        (lambda mine: [shutil.rmtree(p) for p in mine.iterdir() if p.is_dir()], "nor any of them"),
        (
            lambda mine: shutil.rmtree(mine),
            r"bounding_box_test beside each other \(it is empty\)",
        ),
        (
            lambda mine: shutil.copytree(mine, mine.parent / "copy"),
            r"2 folders hold .* beside each other: .*copy; name one",
        ),
    ],
)
def test_a_folder_without_the_set_or_with_two_says_what_is_there(
    unpacked, tmp_path, change, message
):
    change(unpacked)
    for ask in (
        lambda: extract(unpacked.parent, "market1501", tmp_path / "x"),
        lambda: stamp("market1501", unpacked.parent),
    ):
        with pytest.raises(UserError, match=message):
            ask()
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_read_is_named(unpacked, monkeypatch):
    def scandir(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("pgfl.runtime.files.os.scandir", scandir)
    with pytest.raises(UserError, match=rf"{unpacked}: cannot be read \(Permission denied\)"):
        stamp("market1501", unpacked)


def remove(mine):
    next((mine / "query").glob("*.jpg")).unlink()


def add(mine):
    (mine / "query" / "0999_c1s1_000151_01.jpg").write_bytes(b"x")


def replace(mine):
    image = next((mine / "query").glob("*.jpg"))
    other = image.with_name("other")
    other.write_bytes(bytes(image.stat().st_size))
    os.replace(other, image)


@pytest.mark.parametrize("change", [remove, add, replace])
def test_a_changed_folder_has_another_stamp(unpacked, change):
    before = stamp("market1501", unpacked.parent)
    (unpacked / "gt_bbox").mkdir()
    (unpacked / "query" / "Thumbs.db").write_bytes(b"newer")
    assert stamp("market1501", unpacked) == before
    change(unpacked)
    assert stamp("market1501", unpacked) != before


def test_the_published_archive_is_recognised(drawn, unpacked, tmp_path, monkeypatch):
    digest = archives.file_hash(drawn, "md5")
    monkeypatch.setitem(
        SOURCES,
        "market1501",
        SOURCES["market1501"].__class__("a.zip", f"md5:{digest}", holds=(("query",),)),
    )
    extract(drawn, "market1501", tmp_path / "images")
    assert read_origin(tmp_path / "images") == f"published archive (md5 {digest})"


# Occluded-Duke: lists, or images ----------------------------------------------------------------

DUKE = "0001_c1_f0000001.jpg"


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{DUKE}\n")
    return folder


def packed_forms(folder, tmp_path):
    """A folder, and a zip and a tar of it."""
    archive = shutil.make_archive(str(tmp_path / "again"), "gztar", folder)
    return folder, Path(shutil.make_archive(str(tmp_path / "again"), "zip", folder)), Path(archive)


def test_occluded_duke_may_be_lists(tmp_path):
    lists = [f"repo/Occluded_Duke/{name}.list" for name in ("train", "query", "gallery")]
    folder = write(tmp_path / "mine", *lists, "repo/paper.pdf")
    for source in packed_forms(folder, tmp_path):
        assert holds_lists("occluded_duke", source)
        assert extract(source, "occluded_duke", tmp_path / "lists") == 3
        found = {path.name for path in (tmp_path / "lists").iterdir()}
        assert found == {"train.list", "query.list", "gallery.list", "origin.json"}
    (folder / lists[0]).unlink()
    with pytest.raises(UserError, match=r"mine: .*train\.list, query\.list and gallery\.list"):
        extract(folder, "occluded_duke", tmp_path / "lists")


def test_occluded_duke_may_be_laid_out_already(tmp_path):
    images = [
        f"Occluded_Duke/{name}/{DUKE}"
        for name in DATASETS["occluded_duke"].layout.folders.values()
    ]
    folder = write(tmp_path / "mine", *images)
    for source in packed_forms(folder, tmp_path):
        assert not holds_lists("occluded_duke", source)
        assert extract(source, "occluded_duke", tmp_path / "images") == 3
        assert (tmp_path / "images" / "query" / DUKE).is_file()


def test_what_is_neither_lists_nor_images_of_occluded_duke_is_said(tmp_path):
    for source in packed_forms(write(tmp_path / "mine", "a/b.txt"), tmp_path):
        with pytest.raises(UserError, match=r"holds no bounding_box_train, .*, or train\.list"):
            holds_lists("occluded_duke", source)


# Found by themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "names"),
    {
        "market1501": [
            ROOT,
            "market1501",
            "Market-1501",
            "Market1501",
            "Market",
            f"{ROOT}.tar.gz",
        ],
        "dukemtmc_reid": ["DukeMTMC-reID", "dukemtmc-reid", "dukemtmcreid", "DukeMTMC-reID.tgz"],
        "occluded_duke": ["Occluded_Duke", "Occluded-Duke", "occluded_duke", "Occluded_Duke.zip"],
        "occluded_reid": ["Occluded_REID", "OccludedREID", "occluded-reid", "Occluded_REID.tar"],
        "partial_reid": ["Partial-REID_Dataset", "PartialREID", "Partial_REID", "partial-reid"],
        "partial_ilids": ["Partial_iLIDS", "PartialiLIDS", "PartialILIDS", "partial_ilids.zip"],
    }.items(),
)
def test_the_usual_names_are_found(tmp_path, dataset, names):
    source = SOURCES[dataset]
    assert find(source, tmp_path / "nowhere", None) is None
    for name in names:
        path = tmp_path / name
        if "." in name.removeprefix(ROOT):
            path.touch()
        else:
            # As torchreid does: the archive's own folder in one of the data set's name.
            for folder in source.holds[0]:
                (path / "inner" / folder).mkdir(parents=True)
        assert find(source, tmp_path, None) == path
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_name_belongs_to_one_data_set():
    known = [alias for source in SOURCES.values() for alias in source.aliases]
    assert len(known) == len(set(known))
    for source in SOURCES.values():
        assert plain_name(source.name) in source.aliases
        assert all(plain_name(alias) == alias for alias in source.aliases)


def test_of_two_candidates_the_published_name_wins_or_the_user_is_asked(unpacked, tmp_path):
    source = SOURCES["market1501"]
    folder = unpacked.parent
    (folder / "market1501").symlink_to(unpacked)
    assert find(source, folder, None) == unpacked  # twice the same
    (folder / "market1501").unlink()
    (folder / "market1501").mkdir()
    assert find(source, folder, None) == unpacked  # nothing is in it
    (folder / "Market-1501.tar").touch()
    with pytest.raises(UserError) as caught:
        find(source, folder, None)
    assert str(caught.value) == (
        f"Market-1501 may be any of {folder}/Market-1501-v15.09.15, {folder}/Market-1501.tar: "
        "name one in archives.files"
    )
    (folder / source.name).touch()
    assert find(source, folder, None) == folder / source.name
    assert find(source, folder, tmp_path) == tmp_path


def test_archive_names_are_distinct():
    assert len({source.name for source in SOURCES.values()}) == len(SOURCES)


def test_a_disk_that_runs_full_is_one_line_and_leaves_nothing(tmp_path, small_disk):
    """Other files may take what was free at the start; here it is the many small files."""
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for folder in DATASETS["market1501"].layout.folders.values():
            for index in range(30):
                packed.writestr(f"{folder}/{index}.jpg", bytes(100))
    disk = small_disk("200k")
    command = [sys.executable, "-m", "pgfl", "archive", "extract", str(path), "market1501"]
    command += ["--out", str(disk / "images")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and list(disk.iterdir()) == []
    assert re.fullmatch(
        rf"error: {disk}/images\S*: No space left on device; free some space, then run the same "
        "command again\n",
        result.stderr,
    )
    small_disk("2m", disk)
    assert subprocess.run(command).returncode == 0
    assert len(list((disk / "images").rglob("*.jpg"))) == 90
