"""Small synthetic archives with the exact names, layouts, formats and traps of the real ones.

Everything downstream reads them with the loaders of the real data sets. Beside each archive
lies `<archive>.joints.npz` with the true joints of every image, for training and testing the
small HRNet and for nothing else.
"""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pgfl.datasets.synthetic.crops import Crop, Occlusion, render
from pgfl.datasets.synthetic.identity import Identity, sample_identity
from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.runtime.files import whole_file

JPEG_QUALITY = 92
STRANGERS = 6
"""Other identities that may walk through a picture."""


@dataclass(frozen=True)
class Shot:
    """One image to draw."""

    member: str
    """Path in the archive; its suffix decides the image format."""
    pid: int
    camera: int
    occlusion: Occlusion = "none"


Plan = Callable[[SyntheticSettings], list[Shot]]


def synthesize(dataset: str, target: Path, settings: SyntheticSettings) -> int:
    """Draw the archive of a data set; same settings, same bytes.

    Args:
        dataset: a key of `WRITERS`.
        target: the zip to write; the joints go beside it.
        settings: sizes, difficulty and seed.

    Returns:
        The number of images drawn.
    """
    writer = WRITERS[dataset]
    cv2.setNumThreads(1)  # Snakemake draws several archives at once
    with whole_file(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in writer.extras(settings).items():
            _store(archive, name, content)
        shots = writer.plan(settings)
        joints, visible = [], []
        for shot, crop in zip(shots, _draw(shots, settings, writer.number), strict=True):
            _store(archive, shot.member, _encode(crop.image, shot.member))
            joints.append(crop.joints)
            visible.append(crop.visible)
    with whole_file(target.with_name(target.name + ".joints.npz")) as temporary:
        np.savez(
            temporary,
            member=np.array([shot.member for shot in shots], dtype=str),
            joints=np.array(joints, dtype=np.float32).reshape(-1, 17, 2),
            visible=np.array(visible, dtype=bool).reshape(-1, 17),
        )
    return len(shots)


def _draw(shots: Sequence[Shot], settings: SyntheticSettings, number: int) -> Iterator[Crop]:
    """Each data set (`number`) has people and cameras of its own."""
    people = sorted({shot.pid for shot in shots})
    identities = {pid: _identity(settings.population, number, pid) for pid in people}
    for index, shot in enumerate(shots):
        rng = np.random.default_rng([settings.population, number, index])
        others = rng.choice(people, size=min(STRANGERS, len(people)), replace=False)
        yield render(
            identities[shot.pid],
            rng=rng,
            camera=shot.camera,
            camera_seed=settings.seed * 100 + number,
            size=(settings.height, settings.width),
            occlusion=shot.occlusion,
            strangers=[identities[int(pid)] for pid in others if pid != shot.pid],
            difficulty=settings.difficulty,
        )


def _identity(population: int, number: int, pid: int) -> Identity:
    return sample_identity(population, number * 100_000 + pid)


def _encode(image: np.ndarray, member: str) -> bytes:
    suffix = Path(member).suffix
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else []
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done, f"OpenCV cannot write {suffix}"
    return encoded.tobytes()


def _store(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A ZipInfo of our own carries a fixed date: the same settings must give the same bytes.
    archive.writestr(zipfile.ZipInfo(name), content)


def _split_people(settings: SyntheticSettings, number: int) -> tuple[list[int], list[int]]:
    """Train and test pids, mixed over one range as in the real sets."""
    total = settings.train_identities + settings.test_identities
    rng = np.random.default_rng([settings.population, number])
    mixed = [int(pid) + 1 for pid in rng.permutation(total)]
    return sorted(mixed[: settings.train_identities]), sorted(mixed[settings.train_identities :])


class View(NamedTuple):
    """One sighting of a person."""

    pid: int
    camera: int
    index: int
    """Counts the sightings by the same camera."""
    chance: float
    """In [0, 1); decides whether the person is occluded in it."""


def _views(settings: SyntheticSettings, number: int, pid: int) -> list[View]:
    rng = np.random.default_rng([settings.population, number, pid, 1])
    cameras = rng.permutation(settings.cameras)[: max(2, settings.images // 3)]
    return [
        View(pid, int(cameras[index % len(cameras)]), index // len(cameras), float(rng.random()))
        for index in range(settings.images)
    ]


def _train_query_gallery(
    settings: SyntheticSettings, number: int, shot: Callable[[str, View], Shot]
) -> list[Shot]:
    """The people of Market-1501 and DukeMTMC-reID: each camera's first sighting of a test
    person is a query, the others are gallery."""
    train, test = _split_people(settings, number)
    shots = [shot("bounding_box_train", v) for pid in train for v in _views(settings, number, pid)]
    for view in (view for pid in test for view in _views(settings, number, pid)):
        shots.append(shot("query" if view.index == 0 else "bounding_box_test", view))
    return shots


def _strangers(settings: SyntheticSettings, share: float) -> range:
    """Pids that are neither trained on nor asked for, as a share of the test people."""
    last = settings.train_identities + settings.test_identities
    return range(last + 1, last + 1 + round(share * settings.test_identities))


# Market-1501 ------------------------------------------------------------------------------------

MARKET, DUKE, OCCLUDED, PARTIAL, ILIDS = 1, 2, 3, 4, 5
MARKET_ROOT = "Market-1501-v15.09.15"
MARKET_CAMERAS = 6
"""The real set has no more, and its names no others."""
MARKET_OCCLUDED = 0.12
"""Share of occluded images; Market-1501 has few."""


def _market(settings: SyntheticSettings) -> list[Shot]:
    """Distractors (id 0000) are people nobody asks for; junk (id -1) is bad boxes."""
    settings = settings.model_copy(update={"cameras": min(settings.cameras, MARKET_CAMERAS)})
    shots = _train_query_gallery(settings, MARKET, _market_shot)
    for extra, pid in enumerate(_strangers(settings, 1.0)):
        view = View(pid, extra % settings.cameras, 0, 1.0)
        shots.append(_market_shot("bounding_box_test", view, "0000"))
        bad_box = view._replace(index=1, chance=0.0)
        shots.append(_market_shot("bounding_box_test", bad_box, "-1"))
    return shots


def _market_shot(folder: str, view: View, label: str = "") -> Shot:
    frame = view.pid * 50 + view.index
    name = f"{label or f'{view.pid:04d}'}_c{view.camera + 1}s1_{frame:06d}_01.jpg"
    occlusion: Occlusion = "mixed" if view.chance < MARKET_OCCLUDED else "none"
    return Shot(f"{MARKET_ROOT}/{folder}/{name}", view.pid, view.camera, occlusion)


def _market_extras(settings: SyntheticSettings) -> dict[str, bytes]:
    folders = ("", "bounding_box_train/", "bounding_box_test/", "query/")
    extras = {f"{MARKET_ROOT}/{folder}Thumbs.db": b"\xd0\xcf\x11\xe0" for folder in folders}
    return extras | {f"{MARKET_ROOT}/readme.txt": b"Synthetic people in Market-1501's layout.\n"}


# DukeMTMC-reID and Occluded-Duke ----------------------------------------------------------------

DUKE_ROOT = "DukeMTMC-reID"
DUKE_OCCLUDED = 0.3
GALLERY_ONLY = 408 / 702
"""Ids that only the gallery has, as a share of the queried ones, as in the real set."""


def _duke(settings: SyntheticSettings) -> list[Shot]:
    shots = _train_query_gallery(settings, DUKE, _duke_shot)
    for pid in _strangers(settings, GALLERY_ONLY):
        views = _views(settings, DUKE, pid)[: settings.images // 2]
        shots += [_duke_shot("bounding_box_test", view) for view in views]
    return shots


def _duke_shot(folder: str, view: View) -> Shot:
    frame = view.pid * 1_000 + view.index * 60 + view.camera
    name = f"{view.pid:04d}_c{view.camera + 1}_f{frame:07d}.jpg"
    occlusion: Occlusion = "mixed" if view.chance < DUKE_OCCLUDED else "none"
    return Shot(f"{DUKE_ROOT}/{folder}/{name}", view.pid, view.camera, occlusion)


def _duke_extras(settings: SyntheticSettings) -> dict[str, bytes]:
    return {f"{DUKE_ROOT}/.DS_Store": b"\x00\x00\x00\x01Bud1"}


def _occluded_duke_lists(settings: SyntheticSettings) -> dict[str, bytes]:
    """The occluded test images ask; all gallery images answer, occluded ones among them.

    As in the real lists, a query may stand in DukeMTMC-reID's gallery, and then it is listed
    both as query and as gallery; some training images are left out as too noisy.
    """
    shots = _duke(settings)
    queried = {shot.pid for shot in shots if "/query/" in shot.member}
    names: dict[str, list[str]] = {"train": [], "query": [], "gallery": []}
    for index, shot in enumerate(shots):
        _, folder, name = shot.member.split("/")
        if folder == "bounding_box_train" and index % 18:
            names["train"].append(name)
        if folder == "bounding_box_test":
            names["gallery"].append(name)
        if folder != "bounding_box_train" and shot.occlusion != "none" and shot.pid in queried:
            names["query"].append(name)
    root = "Occluded-DukeMTMC-Dataset-master"
    lists = {
        f"{root}/Occluded_Duke/{split}.list": "".join(f"{name}\n" for name in sorted(listed))
        for split, listed in names.items()
    }
    readme = {f"{root}/README.md": "# Synthetic lists in Occluded-Duke's layout\n"}
    return {name: text.encode() for name, text in (lists | readme).items()}


# Occluded-REID, Partial-REID and Partial-iLIDS --------------------------------------------------

SHOTS_EACH = 5


def _occluded_reid(settings: SyntheticSettings) -> list[Shot]:
    return [
        Shot(f"Occluded_REID/{folder}/{pid:03d}/{pid:03d}_{index:02d}.tif", pid, camera, occlusion)
        for pid in range(1, settings.test_identities + 1)
        for folder, camera, occlusion in (
            ("occluded_body_images", 0, "mixed"),
            ("whole_body_images", 1, "none"),
        )
        for index in range(1, SHOTS_EACH + 1)
    ]


def _partial_reid(settings: SyntheticSettings) -> list[Shot]:
    return [
        Shot(f"Partial-REID_Dataset/{folder}/{pid:03d}_{index:03d}.jpg", pid, camera, occlusion)
        for pid in range(1, settings.test_identities + 1)
        for folder, camera, occlusion in (
            ("occluded_body_images", 0, "object"),
            ("partial_body_images", 0, "cut"),
            ("whole_body_images", 1, "none"),
        )
        for index in range(1, SHOTS_EACH + 1)
    ]


def _partial_reid_extras(settings: SyntheticSettings) -> dict[str, bytes]:
    folders = ("", "occluded_body_images/", "whole_body_images/")
    extras = {f"Partial-REID_Dataset/{f}.DS_Store": b"\x00\x00\x00\x01Bud1" for f in folders}
    return extras | {"Partial-REID_Dataset/Readme.txt": b"Synthetic people.\n"}


def _partial_ilids(settings: SyntheticSettings) -> list[Shot]:
    return [
        Shot(f"Partial_iLIDS/{folder}/{pid}.jpg", pid, camera, occlusion)
        for pid in range(1, settings.test_identities + 1)
        for folder, camera, occlusion in (
            ("Probe", 0, "cut"),
            ("partial_iLIDS_Probe_nocrop", 0, "object"),
            ("Gallery", 1, "none"),
        )
    ]


def _partial_ilids_extras(settings: SyntheticSettings) -> dict[str, bytes]:
    names = [f"{pid}.jpg" for pid in range(1, settings.test_identities + 1)]
    lists = {f"{folder}.txt": "\n".join(names).encode() for folder in ("Probe", "Gallery")}
    folders = ("", "Probe/", "Gallery/")
    extras = {f"{folder}.DS_Store": b"\x00\x00\x00\x01Bud1" for folder in folders}
    return {f"Partial_iLIDS/{name}": content for name, content in (lists | extras).items()}


# The data sets ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """How one data set's archive is drawn."""

    number: int
    """Sets people and cameras apart from those of the other data sets."""
    plan: Plan = lambda settings: []
    extras: Callable[[SyntheticSettings], dict[str, bytes]] = lambda settings: {}


WRITERS: dict[str, Writer] = {
    "market1501": Writer(MARKET, _market, _market_extras),
    "dukemtmc_reid": Writer(DUKE, _duke, _duke_extras),
    "occluded_duke": Writer(DUKE, extras=_occluded_duke_lists),
    "occluded_reid": Writer(OCCLUDED, _occluded_reid),
    "partial_reid": Writer(PARTIAL, _partial_reid, _partial_reid_extras),
    "partial_ilids": Writer(ILIDS, _partial_ilids, _partial_ilids_extras),
}
