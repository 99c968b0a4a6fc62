import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from pgfl.config.load import load_config
from pgfl.datasets.registry import SOURCES
from pgfl.planning.at_hand import AtHand
from pgfl.planning.beginning import (
    Machine,
    in_the_way,
    left_out_by,
    misfits,
    missing_files,
    plan_lines,
)
from pgfl.planning.heatmaps import HeatmapPlan
from pgfl.planning.results import Results


@dataclass
class Job:
    """What is looked at of a job of Snakemake's."""

    name: str
    wildcards_dict: dict = field(default_factory=dict)
    input: list = field(default_factory=list)
    output: list = field(default_factory=list)

    @property
    def rule(self):
        return SimpleNamespace(name=self.name)


def train(variant, seed):
    return Job("train", {"train": "market1501", "variant": variant, "seed": str(seed)})


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load_config({"experiment": "paper"})


def lines(config, jobs, machine=None, unpacked=lambda dataset: ""):
    return list(plan_lines(config, HeatmapPlan(config), jobs, unpacked, machine))


def test_models_are_counted_by_training_set(config):
    jobs = [train("pgfl_kd", 1), train("baseline", 0), train("baseline", 1)]
    assert lines(config, jobs, Machine(cores=8, gpus=2)) == [
        "Experiment paper: 3 models to train.",
        "  on market1501: baseline, pgfl_kd (seed 0, 1)",
        "  this machine: 2 GPUs; 8 cores for all jobs together",
    ]
    assert lines(config, jobs[:1])[0] == "Experiment paper: 1 model to train."
    assert "no GPU, so on the CPU" in lines(config, jobs, Machine(8, 0))[-1]


def test_where_files_come_from_is_said(config, tmp_path):
    duke, market = SOURCES["dukemtmc_reid"].name, SOURCES["market1501"].name
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / market).touch()
    jobs = [
        Job("get_archive", {"archive": duke}),
        Job("get_archive", {"archive": market}),
        Job("extract", {"dataset": "partial_reid"}),
        Job("extract", {"dataset": "occluded_reid"}),
        Job("draw_archive", {"archive": "Drawn.zip"}),
    ]
    folders = {"partial_reid": "photos"}
    *_, said = lines(config, jobs, unpacked=lambda dataset: folders.get(dataset, ""))
    assert f"{duke} (MISSING)" in said and f"{market} (from archives/{market})" in said
    assert "(from folder photos)" in said and "Drawn.zip (drawn)" in said
    assert said.count(",") == 3


def test_each_missing_file_is_one_line(config):
    duke = Job("get_archive", {"archive": SOURCES["dukemtmc_reid"].name})
    maps = Job("missing_heatmaps", output=["cache/paper/heatmaps/market1501/query.h5"])
    archive, heatmaps = missing_files(config, [duke, maps, duke, train("baseline", 0)])
    assert archive.startswith(SOURCES["dukemtmc_reid"].name)
    assert "put your heatmaps at cache/paper/heatmaps/market1501/query.h5" in heatmaps


def test_a_named_archive_that_is_gone_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"market1501": str(tmp_path / "m.zip")}
    config = load_config({"experiment": "paper", "archives": {"files": files}})
    name = SOURCES["market1501"].name
    (line,) = missing_files(config, [Job("get_archive", {"archive": name})])
    assert line == f"{tmp_path}/m.zip is missing, but archives.files names it for {name}."


def test_what_is_left_out_is_said_of_the_tables_that_are_asked_for(config):
    lacking = {"dukemtmc_reid": {"Duke.zip": "Duke.zip is gone"}}
    results = Results(config, AtHand(config, lacking), HeatmapPlan(config))
    assert left_out_by(results, [Job("table", output=["results/table2.csv"])]) == []
    said = left_out_by(results, [Job("table", output=["results/table5.csv"])])
    assert any("Empty cells in table5: dukemtmc_reid" in line for line in said)
    assert left_out_by(results, [Job("all")]) == results.left_out()


FAKE_TIMM = """
from types import SimpleNamespace
from torch import nn

def create_model(name, **options):
    network = nn.Identity()
    network.feature_info = SimpleNamespace(channels=lambda: [8, int(name)])
    return network
"""


def test_networks_of_timm_that_do_not_fit_are_said_once(tmp_path, monkeypatch):
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text(FAKE_TIMM)
    package = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(package)]))
    odd = {"model": {"backbone": "timm:100"}, "second_layer4": "shared"}
    config = load_config({"variants": {"odd": odd, "same": odd}})
    (line,) = misfits(config, [train("odd", 0), train("odd", 1), train("same", 0)])
    assert line.startswith("error: setting model.backbone: its 100 channels cannot be split")


def test_networks_of_our_own_start_no_process(config, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    assert misfits(config, [train("pgfl_kd", 0), Job("table")]) == []


def test_another_snakemake_is_waited_for_and_a_killed_ones_lock_is_not():
    assert in_the_way("", locked=False) == ""
    alive = in_the_way("process 12 on node7", locked=True)
    assert "process 12 on node7" in alive and "No --unlock" in alive
    assert "Type `snakemake --unlock`" in in_the_way("", locked=True)
