import re
from pathlib import Path

import pytest

from pgfl.config.load import load_config
from pgfl.errors import UserError
from pgfl.planning.heatmaps import HeatmapPlan, missing_line, pose_weights, warnings_of


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The heatmap files of a configuration, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda **settings: HeatmapPlan(load_config(settings))


def test_every_split_of_every_data_set_has_a_file(plan):
    demo = plan()
    assert len(demo.files) == 3 * len(demo.config.test_sets)
    assert demo.files["cache/demo/heatmaps/occluded_duke/query.h5"] == ""
    assert demo.own == demo.missing == set()
    assert demo.own_stamps(demo.files) == []


def test_another_pose_has_a_folder_of_its_own(plan):
    variants = {"other": {"method": "pgfl_kd", "training": {"pose": "flip"}}}
    found = plan(poses={"flip": {"flip_test": False}}, variants=variants)
    assert found.readings.keys() == {"", "@flip"}
    assert found.reading_of("other") == "@flip"
    maps = found.of_training("other", "market1501")
    assert maps == "cache/demo/heatmaps@flip/market1501/train.h5"
    assert maps in found.files


def test_maps_of_another_program_are_the_users_own_or_missing(plan):
    found = plan(pose={"estimator": "external"})
    own = Path(found.file("occluded_duke", "query"))
    own.parent.mkdir(parents=True)
    own.write_text("maps")
    found = plan(pose={"estimator": "external"})
    assert found.own == {str(own)}
    assert found.missing == found.files.keys() - {str(own)}
    before = found.own_stamps([str(own), "other.h5"])
    assert len(before) == 1
    own.write_text("other maps")
    assert found.own_stamps([str(own)]) != before
    assert found.pose_of_test("pgfl_kd", "occluded_duke").estimator == "external"


def test_a_training_names_only_what_it_reads(plan):
    demo = plan()
    data = {
        "manifest": "data/demo/market1501/manifest.csv",
        "images": "data/demo/market1501/images",
    }
    assert demo.training_inputs("baseline", "market1501") == data
    maps = {"heatmaps": "cache/demo/heatmaps/market1501/train.h5"}
    assert demo.training_inputs("pgfl_kd", "market1501") == data | maps
    paper = plan(experiment="paper").training_inputs("baseline", "market1501")
    assert paper["pretrained"] == "cache/weights/resnet50.pth"


def test_true_maps_are_of_drawn_people_only(plan):
    variants = {"true": {"method": "pgfl_kd", "training": {"heatmaps": "true"}}}
    demo = plan(variants=variants)
    assert demo.of_training("true", "occluded_duke").endswith(
        "true_heatmaps/occluded_duke/train.h5"
    )
    assert demo.joints_of.keys() == {"market1501", "dukemtmc_reid", "occluded_duke"}
    assert demo.joints_of["occluded_duke"] == demo.joints_of["dukemtmc_reid"]
    paper = plan(experiment="paper", variants=variants)
    assert paper.joints_of == {}
    with pytest.raises(UserError, match=r"^variant true: .* market1501 has none$"):
        paper.of_training("true", "market1501")


def test_weights_of_a_pose_network(plan):
    pose = plan().readings[""]
    large = pose.model_copy(update={"estimator": "hrnet_w48"})
    assert pose_weights(large) == "cache/weights/hrnet_w48.pth"
    assert pose_weights(large.model_copy(update={"checkpoint": "mine.pth"})) == "mine.pth"
    assert pose_weights(pose.model_copy(update={"estimator": "hrnet_small"})).endswith(
        "hrnet_small.safetensors"
    )


def test_a_missing_file_is_said_with_its_manifest():
    line = missing_line("cache/demo/heatmaps@mine/market1501/query.h5")
    assert "put your heatmaps at cache/demo/heatmaps@mine/market1501/query.h5" in line
    assert "data/demo/market1501/manifest.csv" in line


def test_ten_warnings_are_enough(tmp_path):
    log = tmp_path / "pose.log"
    log.write_text("".join(f"warning: {n}\nfine\n" for n in range(12)))
    lines = warnings_of([str(log), str(tmp_path / "none.log")])
    assert lines[:10] == [f"warning: {n}" for n in range(10)]
    assert lines[10:] == ["and 2 more warnings"]


def is_made_here(plan, file):
    """Whether the rule of the heatmaps makes a file, as Snakemake asks it."""
    name = f"{re.escape(plan.folder)}(?P<reading>{plan.made_here})/[^/]+/[^/]+\\.h5"
    return re.fullmatch(name, file) is not None


def test_only_what_the_user_does_not_bring_is_made_here(plan):
    assert all(is_made_here(plan(), file) for file in plan().files)
    external = {"estimator": "external"}
    variants = {"other": {"method": "pgfl_kd", "training": {"pose": "flip"}}}
    found = plan(pose=external, poses={"flip": {"estimator": "hrnet_small"}}, variants=variants)
    assert {file for file in found.files if is_made_here(found, file)} == {
        file for file, reading in found.files.items() if reading == "@flip"
    }
    assert not is_made_here(found, "cache/demo/heatmaps@other/market1501/train.h5")
