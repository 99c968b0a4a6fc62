import zipfile
from collections import Counter

import cv2
import numpy as np
import pytest

from pgfl.datasets import (
    archives,
    dukemtmc_reid,
    market1501,
    occluded_duke,
    occluded_reid,
    partial_ilids,
    partial_reid,
)
from pgfl.datasets.images import read_image
from pgfl.datasets.manifest import build_manifest
from pgfl.datasets.registry import DATASETS, SOURCES
from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.crops import render
from pgfl.datasets.synthetic.people import People
from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.errors import UserError
from pgfl.runtime.files import file_hash

SMALL = SyntheticSettings(
    train_identities=4, test_identities=5, images=6, height=48, width=24, cameras=4
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """All archives at a tiny size, and each unpacked."""
    root = tmp_path_factory.mktemp("drawn")
    for dataset in SOURCES:
        path = root / SOURCES[dataset].name
        synthesize(dataset, path, SMALL)
        folder = "lists" if dataset == "occluded_duke" else "images"
        archives.extract(path, dataset, root / dataset / folder)
    occluded_duke.assemble(
        root / "occluded_duke" / "lists",
        root / "dukemtmc_reid" / "images",
        root / "occluded_duke" / "images",
    )
    return root


def planned(dataset, settings):
    """The images that are drawn of a data set."""
    drawing = DATASETS[dataset].drawing
    return drawing.shots(People(settings, drawing.number))


def manifest(drawn, module):
    folder = drawn / module.__name__.rpartition(".")[2]
    return build_manifest(module.read(folder / "images"), folder)[0]


def test_equal_settings_give_equal_bytes_and_another_seed_others(tmp_path, drawn):
    for name, settings in {"a": SMALL, "b": SMALL.model_copy(update={"seed": 1})}.items():
        synthesize("partial_reid", tmp_path / f"{name}.zip", settings)
    original = drawn / SOURCES["partial_reid"].name
    assert file_hash(tmp_path / "a.zip") == file_hash(original)
    assert file_hash(tmp_path / "b.zip") != file_hash(original)
    joints = [tmp_path / "a.zip.joints.npz", original.with_name(original.name + ".joints.npz")]
    assert file_hash(joints[0]) == file_hash(joints[1])


def test_other_people_come_before_the_same_cameras(tmp_path, monkeypatch):
    seen = []

    def look(identity, rng, camera, camera_seed, **options):
        seen.append((identity, rng.random(), camera_seed))
        return render(identity, rng=rng, camera=camera, camera_seed=camera_seed, **options)

    monkeypatch.setattr("pgfl.datasets.synthetic.archives.render", look)
    for people in (0, 1):
        settings = SMALL.model_copy(update={"people": people})
        synthesize("partial_reid", tmp_path / "a.zip", settings)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    for (person, chance, cameras), (other, other_chance, same_cameras) in zip(
        first, second, strict=True
    ):
        assert person != other and chance != other_chance
        assert cameras == same_cameras


@pytest.mark.parametrize(
    "module",
    [market1501, dukemtmc_reid, occluded_duke, occluded_reid, partial_reid, partial_ilids],
)
def test_the_real_loaders_read_it_and_every_image_decodes(drawn, module):
    table = manifest(drawn, module)
    folder = drawn / module.__name__.rpartition(".")[2]
    for image in table.image:
        assert read_image(folder / image).shape == (48, 24, 3)
    # A picture listed as query and as gallery is one picture; all others differ.
    names = set(table.image)
    if module is occluded_duke:
        names = {name.split("/")[-1] for name in names}
    assert table.sha256.nunique() == len(names)


def test_market_has_junk_distractors_and_thumbnails(drawn):
    names = zipfile.ZipFile(drawn / "Market-1501-v15.09.15.zip").namelist()
    kinds = Counter(name.split("/")[-1][:4] for name in names if "bounding_box_test" in name)
    assert kinds["-1_c"] == kinds["0000"] == SMALL.test_identities
    assert sum(name.endswith("Thumbs.db") for name in names) == 4
    table = manifest(drawn, market1501)
    assert table[table.split == "train"].pid.nunique() == SMALL.train_identities
    assert table[table.split == "query"].pid.nunique() == SMALL.test_identities
    assert 0 in set(table[table.split == "gallery"].pid) and -1 not in set(table.pid)


def test_duke_has_ids_that_only_the_gallery_has(drawn):
    table = manifest(drawn, dukemtmc_reid)
    query, gallery = (set(table.pid[table.split == s]) for s in ("query", "gallery"))
    assert len(gallery - query) == round(SMALL.test_identities * 408 / 702)


def test_occluded_duke_asks_with_occluded_images_that_may_stand_in_the_gallery_too(drawn):
    table = manifest(drawn, occluded_duke)
    names = {s: {n.split("/")[-1] for n in table.image[table.split == s]} for s in table.split}
    occluded = {
        shot.member.split("/")[-1]
        for shot in planned("dukemtmc_reid", SMALL)
        if shot.occlusion != "none"
    }
    assert names["query"] and names["query"] <= occluded
    assert names["query"] & names["gallery"] and names["query"] - names["gallery"]


def test_occluded_reid_is_tiff(drawn):
    path = next((drawn / "occluded_reid" / "images").rglob("001_01.tif"))
    assert path.read_bytes()[:4] in (b"II*\0", b"MM\0*")


def test_true_joints_lie_beside_each_archive(drawn):
    path = drawn / SOURCES["market1501"].name
    with np.load(path.with_name(path.name + ".joints.npz")) as side:
        members = {n for n in zipfile.ZipFile(path).namelist() if n.endswith(".jpg")}
        assert set(side["member"].tolist()) == members
        assert side["joints"].shape == (len(members), 17, 2)
        inside = ((side["joints"] > -0.5) & (side["joints"] < [23.5, 47.5])).all(axis=2)
        assert (side["visible"] <= inside).all() and 0.2 < side["visible"].mean() < 0.95


def test_people_of_different_data_sets_are_different(drawn):
    first = next((drawn / "partial_reid/images").rglob("whole_body_images/001_001.jpg"))
    second = next((drawn / "occluded_reid/images").rglob("whole_body_images/001/001_01.tif"))
    difference = cv2.absdiff(read_image(first), read_image(second))
    assert difference.mean() > 10


LARGEST = SyntheticSettings(
    train_identities=6000, test_identities=999, images=4, height=48, width=24, cameras=8
)


@pytest.mark.parametrize(
    "module", [market1501, dukemtmc_reid, occluded_reid, partial_reid, partial_ilids]
)
def test_the_largest_sets_that_can_be_asked_for_have_names_that_their_loaders_read(module):
    shots = planned(module.__name__.rpartition(".")[2], LARGEST)
    below = "/".join(shots[0].member.split("/")[:2])
    names = [shot.member.removeprefix(f"{below}/") for shot in shots if below in shot.member]
    assert len(names) >= 999
    assert all(module.NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    "wrong", [{"train_identities": 6001}, {"test_identities": 1000}, {"images": 100}]
)
def test_larger_ones_are_refused(wrong):
    with pytest.raises(UserError, match="at most"):
        SyntheticSettings.parse(wrong)
