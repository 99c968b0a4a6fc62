"""Heatmaps of other estimators, and poses by name, as a user meets them."""

import json
import os
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from pgfl.pose.keypoints import GROUPS
from pgfl.runtime.files import file_hash

MANIFEST = "data/demo/market1501/manifest.csv"
HEATMAPS = "cache/demo/heatmaps/market1501/train.h5"
RUN = "runs/demo/market1501/pgfl_kd/seed0"
MODEL = f"{RUN}/model.safetensors"


@pytest.fixture
def market(listed, tmp_path):
    """A copy of it for one test."""
    shutil.copytree(listed.root, tmp_path / "project")
    return type(listed)(tmp_path / "project")


def errors(output):
    """The lines of a message of ours."""
    assert "Traceback" not in output, output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def bring(root, file=HEATMAPS, images=None, seed=0, **attributes):
    """Write heatmaps as docs/heatmaps.md tells another estimator's author; returns their hash."""
    if images is None:
        table = pd.read_csv(root / MANIFEST)
        images = table.image[table.split == "train"].tolist()
    maps = np.random.default_rng(seed).random((len(images), 8, 16, 8)) ** 8
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / file, "w") as h5:
        h5.attrs.update({"format_version": 1, "groups": json.dumps(GROUPS)} | attributes)
        h5["image"] = images
        h5["heatmaps"] = maps.astype("float32")
        h5["confidence"] = np.ones((len(images), 17), np.float32)
    return file_hash(root / file)


def test_a_file_of_another_estimator_is_trained_with_and_outlives_everything(market):
    content = bring(market.root, estimator="MoveNet")
    assert not [name for name in market.planned(MODEL) if name.endswith(".h5")]
    _, output = market.snakemake("-n", MODEL)
    assert f"  with heatmaps of your own: {HEATMAPS}" in output
    market.snakemake("--cores", "2", "--forceall", MODEL)
    provenance = json.loads((market.root / RUN / "provenance.json").read_text())
    assert provenance["data"]["heatmaps"] == content
    assert market.planned(MODEL) == []
    # Another file of the same size and an older time, as `cp -p` leaves it, trains anew.
    other = bring(market.root, "other.h5", seed=1)
    time = (market.root / HEATMAPS).stat()
    shutil.copy(market.root / "other.h5", market.root / HEATMAPS)
    os.utime(market.root / HEATMAPS, ns=(time.st_atime_ns, time.st_mtime_ns - 10**12))
    assert MODEL in market.planned(MODEL)
    market.snakemake("--cores", "2", "--delete-all-output", MODEL)
    assert not (market.root / MODEL).exists()
    assert file_hash(market.root / HEATMAPS) == other
    # It is no target: nothing makes it, and nothing can be forced to.
    for force in ((), ("--forceall",)):
        code, output = market.snakemake(*force, HEATMAPS, check=False)
        assert code != 0 and len(errors(output)) == 1 and HEATMAPS in errors(output)[0]
    assert file_hash(market.root / HEATMAPS) == other


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cut", "holds 29 images, the manifest 30: it was made for another manifest"),
        ("nan", "a map holds NaN or infinity: 1 images, the first is row 3: images/"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line_and_is_kept(market, fault, message):
    table = pd.read_csv(market.root / MANIFEST)
    images = table.image[table.split == "train"].tolist()
    bring(market.root, images=images[:-1] if fault == "cut" else images)
    if fault == "nan":
        with h5py.File(market.root / HEATMAPS, "r+") as file:
            file["heatmaps"][3, 2, 0, 0] = np.nan
    content = file_hash(market.root / HEATMAPS)
    code, output = market.snakemake("--cores", "2", MODEL, check=False)
    (line,) = {line.strip() for line in output.splitlines() if "error: cache" in line}
    assert code != 0 and line.startswith(f"error: {HEATMAPS}: {message}")
    assert "it is another estimator's, so the workflow keeps it: write it again" in line
    assert "Lower training.learning_rate" not in line
    assert file_hash(market.root / HEATMAPS) == content


def test_external_heatmaps_that_are_missing_are_said_before_anything_runs(project, tiny):
    project.write_config(tiny | {"pose": tiny["pose"] | {"estimator": "external"}})
    target = f"{RUN}/eval/market1501.part.json"
    code, output = project.snakemake(target, check=False)
    said = output.split("Nothing was started.")[1].splitlines()[1:4]
    start = "pose.estimator: external: put your heatmaps at cache/demo/heatmaps/market1501/"
    assert code != 0 and not (project.root / "data").exists()
    assert [line.startswith(start) for line in said] == [True] * 3
    assert f"{start}train.h5, for the rows of {MANIFEST}" in output
    _, output = project.snakemake("-n", target)
    missing = output.split("Missing, so that a run would not start:")[1]
    assert missing.count(start) == 3 and "warning" not in missing
    bring(project.root, images=["a.jpg"])
    _, output = project.snakemake("-n", target)
    assert output.split("Missing, so that")[1].count(start) == 2


def test_external_keeps_a_file_of_our_own_making_too(project, tiny):
    ours = project.root / HEATMAPS
    ours.parent.mkdir(parents=True)
    ours.write_bytes(b"sha256 " + bytes(600))
    assert HEATMAPS in project.planned(MODEL)
    project.write_config(tiny | {"pose": tiny["pose"] | {"estimator": "external"}})
    assert HEATMAPS not in project.planned(MODEL)


def test_a_link_that_leads_nowhere_is_said_and_not_replaced(project):
    (project.root / HEATMAPS).parent.mkdir(parents=True)
    (project.root / HEATMAPS).symlink_to("/nowhere/train.h5")
    code, output = project.snakemake("--cores", "2", MODEL, check=False)
    (line,) = errors(output)
    assert code != 0
    assert f"{HEATMAPS} is a link to /nowhere/train.h5, which is not there: mend" in line
    assert (project.root / HEATMAPS).is_symlink()


def test_tables_8_and_9_know_nothing_of_another_programs_network(project, tiny):
    project.write_config(tiny | {"pose": tiny["pose"] | {"estimator": "external"}})
    for number, lacks in ((8, '"estimator": "hrnet'), (9, "--weights")):
        _, output = project.snakemake("-n", "-p", f"results/table{number}.csv")
        (command,) = (line for line in output.splitlines() if f"results/table{number}.log" in line)
        assert '"estimator": "external"' in command and lacks not in command


NAMED = {
    "poses": {"up": {"view": "topdown"}},
    "variants": {
        "pgfl_kd_up": {"training": {"pose": "up"}},
        "baseline_up": {"method": "bot", "training": {"pose": "up"}},
    },
}


def test_a_variant_with_a_pose_of_its_own_plans_its_maps_and_no_others(project, tiny):
    project.write_config(tiny | NAMED)
    target = "runs/demo/market1501/pgfl_kd_up/seed0/eval/market1501.part.json"
    planned = project.planned(target)
    models = [name for name in planned if name.endswith("model.safetensors")]
    assert models == ["runs/demo/market1501/pgfl_kd_up/seed0/model.safetensors"]
    assert [name for name in planned if name.endswith(".h5")] == [
        f"cache/demo/heatmaps@up/market1501/{split}.h5" for split in ("gallery", "query", "train")
    ]
    _, output = project.snakemake("-n", "-p", target)
    assert output.count('"view": "topdown"') >= 3
    assert "--heatmaps-query cache/demo/heatmaps@up/market1501/query.h5" in output
    assert not any("@up" in name for name in project.planned())


def test_both_readings_of_table_8_are_variants_of_the_paper(project):
    options = ("--config", "experiment=paper", "--")
    main = "runs/paper/occluded_duke/pgfl_kd/seed0/model.safetensors"
    other = main.replace("pgfl_kd", "pgfl_kd_pose_256x192")
    _, output = project.snakemake("-n", "-p", *options, main, other)
    made = [line for line in output.splitlines() if "pgfl heatmaps make" in line]
    assert len(made) == 2 and "pgfl_kd_pose" not in "".join(project.planned(*options[:2]))
    (padded,) = (line for line in made if "heatmaps@256x192/" in line)
    assert '"estimator": "hrnet_w48_256x192"' in padded and '"view": "topdown"' in padded
    assert "--weights cache/weights/hrnet_w48_256x192.pth" in padded
    # The paper's own settings, so its tables bear no warning.
    assert "paper with other" not in output


def test_a_pose_that_is_not_there_is_one_line(project, tiny):
    wrong = {"variants": {"v": {"training": {"pose": "updown"}}}, "poses": {"up_down": {}}}
    project.write_config(tiny | wrong)
    code, output = project.snakemake("-n", check=False)
    assert code != 0 and errors(output) == [
        "error: setting variants.v.training.pose: no 'updown' in poses; did you mean 'up_down'? "
        "known: up_down"
    ]


def test_photographs_with_the_demos_estimator_are_warned_of_at_the_end(market, tiny):
    market.write_config(tiny | {"datasets": {"mine": {"table": MANIFEST}}})
    _, output = market.snakemake("--cores", "2", "cache/demo/heatmaps/mine/train.h5")
    (warning,) = (line for line in output.splitlines()[-12:] if line.startswith("warning: "))
    assert "hrnet_small was trained on drawn people, and these are photographs" in warning
    assert "nobody found in" in warning and " of 30 images (" in warning
    _, output = market.snakemake("--cores", "2", HEATMAPS)
    assert "warning: " not in output and "nobody found in" in output
