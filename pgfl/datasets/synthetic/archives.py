"""Small synthetic archives with the exact names, layouts, formats and traps of the real ones.

Everything downstream reads them with the loaders of the real data sets. Beside each archive
lies `<archive>.joints.npz` with the true joints of every image, for training and testing the
small HRNet and for nothing else.
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from pgfl.datasets.registry import DATASETS
from pgfl.datasets.synthetic.crops import Crop, render
from pgfl.datasets.synthetic.identity import Identity, sample_identity
from pgfl.datasets.synthetic.people import People, Shot
from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.runtime.files import whole_file

JPEG_QUALITY = 92
STRANGERS = 6
"""Other identities that may walk through a picture."""


def synthesize(
    dataset: str, target: Path, settings: SyntheticSettings, joints_file: Path | None = None
) -> int:
    """Draw the archive of a data set; same settings, same bytes.

    Args:
        dataset: one with a drawing; its module plans what is drawn.
        target: the zip to write.
        settings: sizes, difficulty and seed.
        joints_file: the true joints; default: `.joints.npz` added to the zip's name.

    Returns:
        The number of images drawn.
    """
    drawing = DATASETS[dataset].drawing
    assert drawing is not None, f"{dataset} has no archive"
    people = People(settings, drawing.number)
    cv2.setNumThreads(1)  # Snakemake draws several archives at once
    with whole_file(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in drawing.extras(people).items():
            _store(archive, name, content)
        shots = drawing.shots(people)
        joints, visible = [], []
        for shot, crop in zip(shots, _draw(shots, people), strict=True):
            _store(archive, shot.member, _encode(crop.image, shot.member))
            joints.append(crop.joints)
            visible.append(crop.visible)
    with whole_file(joints_file or target.with_name(f"{target.name}.joints.npz")) as temporary:
        np.savez(
            temporary,
            member=np.array([shot.member for shot in shots], dtype=str),
            joints=np.array(joints, dtype=np.float32).reshape(-1, 17, 2),
            visible=np.array(visible, dtype=bool).reshape(-1, 17),
        )
    return len(shots)


def _draw(shots: Sequence[Shot], people: People) -> Iterator[Crop]:
    settings, number = people.settings, people.number
    pids = sorted({shot.pid for shot in shots})
    identities = {pid: _identity(settings.population, number, pid) for pid in pids}
    for index, shot in enumerate(shots):
        rng = np.random.default_rng([settings.population, number, index])
        others = rng.choice(pids, size=min(STRANGERS, len(pids)), replace=False)
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
