"""File names that a shell would take for commands, in a real run of the workflow."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.pose.estimators import SMALL_WEIGHTS

EVIL = 'it\'s; touch pwned1 $(touch pwned2) `touch pwned3` | & "ü" *?~#!'
"""A folder's name: quotes of both kinds, commands, spaces, letters that are not English."""
IMAGES = [
    "$(touch pwned4).png",
    "'; touch pwned5 '.png",
    "-rf.png",
    "a b\\.png",
    "%s.png",
    "ü.png",
]


@pytest.fixture
def hostile(project, tmp_path):
    """A project in such a folder, with everything that can be named in such folders below it."""
    root = tmp_path / EVIL
    shutil.move(project.root, root)
    photos = root / EVIL
    photos.mkdir()
    rows = ["image,split,pid,camid"]
    for number, name in enumerate(IMAGES):
        picture = np.full((64, 32, 3), 40 * number, np.uint8)
        (photos / name).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        split = ("train", "train", "query", "gallery", "gallery", "gallery")[number]
        person = number if split == "train" else EVIL
        rows.append(
            ",".join(
                f'"{str(v).replace(chr(34), chr(34) * 2)}"' for v in (name, split, person, number)
            )
        )
    (photos / f"{EVIL}.csv").write_text("\n".join(rows) + "\n")
    tiny = SyntheticSettings(
        train_identities=4, test_identities=4, images=4, height=64, width=32, cameras=2
    )
    synthesize("partial_ilids", photos / f"{EVIL}.zip", tiny)
    shutil.copy(SMALL_WEIGHTS, photos / f"{EVIL}.safetensors")
    return replace(project, root=root)


def test_no_name_of_a_file_or_folder_is_a_command(hostile, tiny):
    hostile.write_config(
        tiny
        | {
            "datasets": {"mine": {"table": f"{EVIL}/{EVIL}.csv", "images": EVIL}},
            "archives": {"folder": EVIL, "files": {"partial_ilids": f"{EVIL}/{EVIL}.zip"}},
            "pose": tiny["pose"] | {"checkpoint": f"{EVIL}/{EVIL}.safetensors"},
            "training": tiny["training"] | {"identities": 2, "images": 2},
        }
    )
    wanted = [
        "data/demo/partial_ilids/images",
        "cache/demo/heatmaps/mine/train.h5",
        "runs/demo/mine/pgfl_kd/seed0/eval/mine.json",
    ]
    hostile.snakemake("--cores", "2", *wanted)
    assert all((hostile.root / target).exists() for target in wanted)
    listed = (hostile.root / "data/demo/mine/manifest.csv").read_text()
    assert all(f"images/{name}".replace('"', '""') in listed for name in IMAGES)
    assert not [path for path in hostile.root.parent.rglob("pwned*")]


@pytest.mark.parametrize("name", ["a\nb.csv", "{x}.csv"])
def test_a_name_that_snakemake_cannot_take_is_refused(project, tiny, name):
    (project.root / name).write_text("image,split,pid\n")
    project.write_config(tiny | {"datasets": {"mine": {"table": name}}})
    code, output = project.snakemake("--dry-run", check=False)
    assert code != 0 and "error: setting datasets.mine.table: must be a path without" in output


def test_a_target_is_no_command(project):
    target = "runs/demo/market1501/baseline; touch pwned/seed0/model.safetensors"
    code, output = project.snakemake(target, check=False)
    assert code != 0 and "no variant 'baseline; touch pwned'" in output
    assert not list(project.root.rglob("*pwned*"))
