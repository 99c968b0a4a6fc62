import json
from dataclasses import replace

import pytest

from pgfl.config.load import load_config
from pgfl.errors import UserError
from pgfl.planning.costs import cost_lines, gpu_hours
from pgfl.planning.plan import PlannedJob

# Of a ResNet-50 with last stride 1, and of HRNet-W48, at 384x128: counted by others and by hand.
RESNET50, HRNET_W48 = 6.080e9, 15.69e9


def run(rule, variant="baseline", train="market1501", **wildcards):
    named = {"variant": variant, "train": train, "seed": "0"} if rule != "heatmaps" else {}
    return PlannedJob(rule, named | wildcards, needed=True)


@pytest.fixture
def total(tmp_path):
    """The multiply-accumulates of one job, read from the table, in units of 10^15."""

    def count(job, settings=None):
        config = load_config({"experiment": "paper"} | (settings or {}))
        (line,) = (line for line in cost_lines(config, [job], tmp_path) if "**all**" in line)
        jobs, macs, hours = (cell.strip() for cell in line.strip("|").split("|")[1:])
        assert jobs == "1"
        assert float(hours) == pytest.approx(gpu_hours(float(macs) * 1e15, 30), rel=0.2)
        return float(macs)

    return count


def test_a_training_is_three_passes_over_every_image_of_every_epoch(total):
    network = RESNET50 + 2048 * 751
    assert total(run("train")) == pytest.approx(12936 * 120 * 3 * network / 1e15, rel=0.005)


def test_branches_cost_more_and_epochs_are_proportional(total):
    whole = total(run("train", "pgfl_kd"))
    assert whole > total(run("train"))
    half = total(run("train", "pgfl_kd"), {"training": {"epochs": 60, "milestones": [30]}})
    assert half == pytest.approx(whole / 2, rel=0.005)


def test_hrnet_sees_every_image_once(total):
    job = run("heatmaps", dataset="occluded_duke", split="train")
    assert total(job) == pytest.approx(15618 * HRNET_W48 / 1e15, rel=0.05)
    flipped = total(job, {"pose": {"flip_test": True}})
    assert flipped == pytest.approx(2 * 15618 * HRNET_W48 / 1e15, rel=0.05)


def test_an_evaluation_embeds_query_and_gallery(total):
    job = run("evaluate", dataset="occluded_duke")
    assert total(job) == pytest.approx((2210 + 17661) * RESNET50 / 1e15, rel=0.1)


def test_what_the_manifest_counted_replaces_what_was_published(total, tmp_path):
    folder = tmp_path / "data/paper/market1501"
    folder.mkdir(parents=True)
    splits = {"train": {"images": 129360, "identities": 751}}
    (folder / "counts.json").write_text(json.dumps({"splits": splits}))
    network = RESNET50 + 2048 * 751
    assert total(run("train")) == pytest.approx(129360 * 120 * 3 * network / 1e15, rel=0.005)


def test_the_size_of_a_set_that_nobody_has_counted_is_asked_for(tmp_path):
    config = load_config({"experiment": "demo"})
    with pytest.raises(UserError, match=r"snakemake data/demo/market1501/counts\.json` first"):
        list(cost_lines(config, [run("train")], tmp_path))


def test_jobs_are_counted_by_stage_and_models_by_data_set(tmp_path):
    config = load_config({"experiment": "paper"})
    rules = ["all", "manifest", "get_archive", "table", "figure3", "get_weights"]
    jobs = [PlannedJob(rule, {}, True) for rule in rules]
    jobs += [run("train", train=train) for train in ("market1501", "dukemtmc_reid", "market1501")]
    rows = [line.strip("| ").split(" | ") for line in cost_lines(config, jobs, tmp_path) if line]
    count = {row[0]: row[1].rstrip(" |") for row in rows}
    assert count["data"] == "2" and count["pose"] == "1" and count["evaluation"] == "0"
    assert count["tables and figures"] == "2" and count["**all**"] == "8"
    assert count["market1501"] == "2" and count["dukemtmc_reid"] == "1"


def test_hours_are_operations_by_speed():
    # A MAC is two operations: 3.6e15 of them at 2 TFLOPS take an hour.
    assert gpu_hours(3_600_000_000_000_000, 2) == pytest.approx(1.0)


def test_a_named_pose_costs_what_its_own_network_does(total):
    small = {"poses": {"small": {"estimator": "hrnet_small"}}}
    job = run("heatmaps", dataset="occluded_duke", split="train", reading="@small")
    assert total(job, small) < 0.1 * 15618 * HRNET_W48 / 1e15
    # Table 8's operations fit both inputs: as many pixels.
    padded = replace(job, wildcards=job.wildcards | {"reading": "@256x192"})
    assert total(padded) == pytest.approx(15618 * HRNET_W48 / 1e15, rel=0.05)
