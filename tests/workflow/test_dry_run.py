"""What Snakemake says before anything runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_no_experiment_needs_torch_to_plan(project, tmp_path):
    for name in ("torch", "mmpose", "matplotlib", "cv2"):
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text("raise SystemExit('imported')\n")
    blocked = {"PYTHONPATH": str(tmp_path / "blocked")}
    for experiment in ("demo", "study", "paper"):
        _, output = project.snakemake(
            "--dry-run", "--config", f"experiment={experiment}", env=blocked
        )
        assert "This was a dry-run" in output


def test_the_demo_runs_the_same_rules_as_the_paper(project):
    def rules(experiment):
        # Without the methods that the paper is compared with, which are many trainings.
        values = [f"experiment={experiment}", "peers=[]"]
        _, output = project.snakemake("--dry-run", "--config", *values)
        lines = output.split("Job stats:")[1].split("total")[0].splitlines()[3:]
        return dict(line.split() for line in lines if line.strip())

    demo, paper = rules("demo"), rules("paper")
    # Archives are drawn instead of brought, and the small HRNet's weights are part of the package.
    assert demo.pop("draw_archive") == paper.pop("get_archive")
    assert paper.pop("get_weights") == "2"
    assert demo == paper


def test_the_default_profile_makes_the_bare_command_work(project):
    _, output = project.snakemake("--dry-run", "results/table2.csv")
    assert "profiles/default" in output


def test_it_works_without_any_profile(project):
    project.snakemake("--dry-run", "--cores", "all", "--workflow-profile", "none")


def test_missing_archives_are_one_message_before_anything_starts(project):
    code, output = project.snakemake("--config", "experiment=paper", check=False)
    assert code != 0
    message = output.split("Nothing was started.")[1]
    assert "DukeMTMC-reID was withdrawn by its authors in 2019" in message
    assert "archives/DukeMTMC-reID.zip (md5:2f93496f9b516d1ee5ef51c1d5e7d601)" in message
    assert "archives/Market-1501-v15.09.15.zip (md5:65005ab7d12ec1c44de4eeafe813e68a)" in message
    assert "Job 0" not in output and not (project.root / "data").exists()


def test_a_dry_run_says_what_it_trains_on_which_data_and_what_is_missing(project, tiny):
    (project.root / "archives").mkdir()
    (project.root / "archives" / "Occluded_REID.zip").touch()
    project.write_config({"experiment": "paper", "seeds": [0, 1]})
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n"], cwd=project.root, capture_output=True, text=True
    )
    said = result.stderr.split("Experiment paper: ")[1].splitlines()
    assert said[0] == "48 models to train."
    assert "  on partial_duke: baseline, pcb, pgfl_kd (seed 0, 1)" in said
    files = next(line for line in said if line.startswith("  of "))
    assert "DukeMTMC-reID.zip (MISSING)" in files
    assert "Occluded_REID.zip (from archives/Occluded_REID.zip)" in files
    assert "Partial_iLIDS.zip (to be downloaded)" in files
    missing = said[said.index("Missing, so that a run would not start:") + 1 :]
    assert [line.split()[0] for line in missing] == [
        "DukeMTMC-reID.zip",
        "Market-1501-v15.09.15.zip",
    ]
    assert "Experiment" not in result.stdout


def test_nothing_is_said_where_nothing_is_planned(project):
    # Graphs and lists go through pipes; what stands on stderr then is Snakemake's alone.
    for arguments in (["--dag", "dot"], ["--list-rules"], ["--summary"]):
        _, output = project.snakemake(*arguments, "--", "results/table4.csv")
        assert "Experiment demo" not in output, arguments


def test_the_papers_whole_plan_trains_each_model_with_each_seed(project):
    project.write_config({"experiment": "paper", "seeds": [0, 1, 2]})
    _, output = project.snakemake("-n")
    assert re.search(r"^train +72$", output, re.MULTILINE)


def test_a_file_that_the_configuration_names_but_is_not_there(project, tiny):
    project.write_config(tiny | {"archives": {"files": {"partial_reid": "/nowhere/p.zip"}}})
    target = "runs/demo/market1501/baseline/seed0/eval/partial_reid.json"
    code, output = project.snakemake(target, check=False)
    assert code != 0 and "/nowhere/p.zip is missing, but archives.files names it" in output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainig": {}}, "setting trainig: no such setting; did you mean 'training'?"),
        ({"training": {"epochs": -1}}, "setting training.epochs: "),
        ({"variants": {"../x": {}}}, "setting variants: '../x' cannot be a name here"),
        ({"sweeps": {"lambda_cl": []}}, "setting sweeps.lambda_cl: must be a list of at least 1"),
        (
            {"experiment": "papre"},
            "no experiment 'papre'; did you mean 'paper'? known: demo, paper, study",
        ),
    ],
)
def test_a_wrong_configuration_is_said_in_one_line(project, tiny, settings, message):
    project.write_config(tiny | settings)
    code, output = project.snakemake("--dry-run", check=False)
    assert code != 0 and message in output and "Traceback" not in output


def errors(output):
    """The lines of a message of ours, without Snakemake's own."""
    assert "Traceback" not in output and "in file" not in output, output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def test_all_that_is_wrong_is_said_at_once_and_nothing_else(project, tiny):
    wrong = {"seeds": [0, 0], "comparisons": {"c": {"variants": ["a", "sab"]}}, "poze": {}}
    project.write_config(tiny | wrong)
    code, output = project.snakemake(check=False)
    assert code != 0 and not (project.root / "data").exists()
    paths = [line.split(": ")[1] for line in errors(output)]
    assert paths == ["setting poze", "setting seeds", "setting comparisons.c.variants"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [0]\nseeds: [1]\n", "the key 'seeds' stands twice, in lines 1 and 2"),
        ("seeds: [\n", "config.yaml: not valid YAML"),
        ("# nothing\n", "config.yaml: holds no settings; write at least 'experiment: demo'"),
    ],
)
def test_a_broken_configuration_file_is_one_line(project, text, message):
    (project.root / "config.yaml").write_text(text)
    code, output = project.snakemake("--dry-run", check=False)
    assert code != 0 and len(errors(output)) == 1 and message in errors(output)[0]


def test_a_configuration_file_of_the_command_line_is_read_with_the_same_care(project):
    (project.root / "more.yaml").write_text("seeds: [0]\nseeds: [1]\n")
    code, output = project.snakemake("--dry-run", "--configfile", "more.yaml", check=False)
    assert code != 0 and "the key 'seeds' stands twice" in errors(output)[0]


def test_values_of_the_command_line_are_text_and_mean_the_same(project):
    overrides = ("seeds=[3, 4]", "model={last_stride: 2}")
    target = "runs/demo/market1501/baseline/seed4/model.safetensors"
    _, output = project.snakemake("-n", "-p", target, "--config", *overrides)
    assert '"last_stride": 2' in output
    code, output = project.snakemake("-n", "--config", "training={epochs: ten}", check=False)
    message = "error: setting training.epochs: must be a whole number, at least 1 (got 'ten')"
    assert code != 0 and errors(output) == [message]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/tabel2.csv", "did you mean 'results/table2.csv'?"),
        ("runs/demo/partial_reid/baseline/seed0/model.safetensors", "is a test-only set; its mod"),
    ],
)
def test_a_target_that_nothing_makes_is_one_line(project, target, message):
    code, output = project.snakemake("--dry-run", target, "results/table2.csv", check=False)
    assert code != 0 and len(errors(output)) == 1 and message in errors(output)[0]


def test_a_batch_that_a_planned_training_cannot_fill_is_one_line(project, tiny):
    training = tiny["training"] | {"identities": 6}
    (project.root / "mine.csv").write_text("image,split,pid\na.png,train,1\nb.png,train,2\n")
    project.write_config(
        tiny | {"training": training, "datasets": {"mine": {"table": "mine.csv"}}}
    )
    code, output = project.snakemake("-n", "results/table2.csv", check=False)
    assert code != 0 and "must be at most 5, the identities that occluded" in errors(output)[0]
    target = "runs/demo/mine/pgfl_kd/seed0/eval/mine.json"
    code, output = project.snakemake("-n", target, check=False)
    assert code != 0 and "must be at most 2, the identities that mine has" in errors(output)[0]


FAKE_TIMM = """
from types import SimpleNamespace
from torch import nn

def create_model(name, **options):
    network = nn.Identity()
    network.feature_info = SimpleNamespace(channels=lambda: [8, int(name)])
    return network
"""


def test_a_network_whose_channels_do_not_fit_stops_before_anything_runs(project, tiny, tmp_path):
    (tmp_path / "fake" / "timm").mkdir(parents=True)
    (tmp_path / "fake" / "timm" / "__init__.py").write_text(FAKE_TIMM)
    odd = {"model": {"backbone": "timm:100"}, "second_layer4": "shared"}
    project.write_config(tiny | {"variants": {"odd": odd}})
    target = "runs/demo/market1501/odd/seed0/model.safetensors"
    fake = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "fake"), str(project.root)])}
    code, output = project.snakemake(target, env=fake, check=False)
    assert code != 0 and not (project.root / "data").exists()
    line = (
        "error: setting model.backbone: its 100 channels cannot be split evenly into the 8 groups"
    )
    assert "Nothing was started." in output and line in output


def test_a_variant_of_the_users_own_is_known_from_yaml_alone(project, tiny):
    project.write_config(tiny | {"variants": {"strong": {"lambda_mcl": 2.0}}})
    target = "runs/demo/market1501/strong/seed3/eval/occluded_reid.json"
    assert target in project.planned(target)


def test_a_method_without_a_student_is_matched_with_its_whole_network(project, tiny):
    methods = project.root / "pgfl" / "methods"
    method = Path(__file__).parents[1] / "retrieval" / "visible_stripes.py"
    shutil.copy(method, methods / "visible_stripes.py")
    names = methods / "__init__.py"
    line = '    "visible_stripes": "pgfl.methods.visible_stripes",\n}'
    names.write_text(names.read_text().replace("}", line))
    variants = {"stripes": {"method": "visible_stripes"}}
    project.write_config(tiny | {"variants": variants})
    runs = [f"runs/demo/market1501/{variant}/seed3" for variant in ("stripes", "pcb")]
    targets = [f"{run}/eval/occluded_reid.json" for run in runs]
    _, output = project.snakemake("-n", "-p", *targets)
    commands = [line for line in output.splitlines() if "pgfl evaluate" in line]
    stripes, pcb = (
        next(line for line in commands if f"--out {target} " in line) for target in targets
    )
    for split in ("query", "gallery"):
        file = f"cache/demo/heatmaps/occluded_reid/{split}.h5"
        assert f"--heatmaps-{split} {file} " in stripes
    assert f"--branches {runs[0]}/branches.safetensors " in stripes
    assert "--branches" not in pcb and "--heatmaps" not in pcb
    said = "--train-set market1501 --dataset occluded_reid --variant {} --method {} --seed 3 "
    assert said.format("stripes", "visible_stripes") in stripes
    assert said.format("pcb", "pcb") in pcb


def test_several_seeds_are_planned(project, tiny):
    project.write_config(tiny | {"seeds": [0, 1, 2]})
    models = [name for name in project.planned() if name.endswith("model.safetensors")]
    # Seven models of Occluded-Duke, two of each other set, three seeds.
    assert len(models) == (7 + 2 * 3) * 3


def models_of(planned):
    """(train set, variant) of every model that would be trained."""
    models = [name.split("/") for name in planned if name.endswith("model.safetensors")]
    return {(train, variant) for _, _, train, variant, _, _ in models}


@pytest.mark.parametrize(
    ("number", "trained"),
    [(3, ["market1501"]), (4, ["partial_duke"]), (5, ["dukemtmc_reid", "market1501"])],
)
def test_a_table_trains_what_it_needs_and_nothing_else(project, number, trained):
    planned = project.planned(f"results/table{number}.csv")
    both = ("baseline", "pgfl_kd")
    assert models_of(planned) == {(train, variant) for train in trained for variant in both}
    heatmaps = {name.split("/")[-2] for name in planned if name.endswith(".h5")}
    assert heatmaps == set(trained)


def test_tables_6_and_7_are_the_papers_ablation_on_occluded_duke(project):
    planned = project.planned("results/table6.csv", "results/table7.csv")
    six = ("baseline", "sab", "sab_i", "sab_im", "sab_im_feb", "pgfl_kd", "pgfl_kd_part_cl")
    assert models_of(planned) == {("occluded_duke", variant) for variant in six}


def test_figure_3_trains_one_variant_for_each_value_and_the_method_once(project, tiny):
    project.write_config(tiny | {"sweeps": {"lambda_mcl": [0, 0.25], "lambda_cl": [0.25, 0.5]}})
    assert models_of(project.planned("results/figure3.csv")) == {
        ("occluded_duke", "pgfl_kd-lambda_mcl-0"),
        ("occluded_duke", "pgfl_kd"),
        ("occluded_duke", "pgfl_kd-lambda_cl-0.5"),
    }


def test_figure_3_gives_each_value_the_models_trained_with_it(project, tiny):
    project.write_config(
        tiny | {"seeds": [0], "sweeps": {"lambda_mcl": [0, 0.25], "lambda_cl": [0.25, 0.5]}}
    )
    _, output = project.snakemake(
        "--dry-run", "--printshellcmds", "--until", "figure3", "results/figure3.csv"
    )
    (command,) = (line for line in output.splitlines() if "pgfl figure3" in line)
    words = shlex.split(command)
    folder = "runs/demo/occluded_duke/{}/seed0/eval/occluded_duke.json"
    assert json.loads(words[words.index("--sweeps") + 1]) == {
        "lambda_mcl": {
            "0": [folder.format("pgfl_kd-lambda_mcl-0")],
            "0.25": [folder.format("pgfl_kd")],
        },
        "lambda_cl": {
            "0.25": [folder.format("pgfl_kd")],
            "0.5": [folder.format("pgfl_kd-lambda_cl-0.5")],
        },
    }


def test_the_paper_with_other_settings_is_called_so(project):
    (project.root / "archives").mkdir()
    (project.root / "archives/DukeMTMC-reID.zip").touch()
    project.write_config({"experiment": "paper", "training": {"epochs": 90}})
    _, output = project.snakemake("--dry-run", "--printshellcmds", "results/table6.csv")
    assert "--experiment 'paper with other training.epochs'" in output


def test_the_study_leaves_its_results_apart(project):
    planned = project.planned("--config", "experiment=study")
    results = [name for name in planned if name.startswith("results/")]
    assert results and all(name.startswith("results/study/") for name in results)
    assert "results/study/report.html" in results and "results/study/table7.csv" in results
    assert {name.split("/")[1] for name in planned if name.startswith("runs/")} == {"study"}


def test_the_equations_as_printed_can_be_trained(project):
    target = "runs/demo/occluded_duke/pgfl_kd_literal/seed0/eval/occluded_duke.json"
    assert models_of(project.planned(target)) == {("occluded_duke", "pgfl_kd_literal")}


def test_a_dot_in_a_variants_name_is_a_dot(project, tiny):
    project.write_config(tiny | {"variants": {"v1.5": {"lambda_cl": 1.5}}})
    target = "runs/demo/market1501/{}/seed0/eval/occluded_reid.json"
    assert target.format("v1.5") in project.planned(target.format("v1.5"))
    code, output = project.snakemake("--dry-run", target.format("v1x5"), check=False)
    assert code != 0 and "no variant 'v1x5'; did you mean 'v1.5'?" in output


def test_partial_duke_is_made_from_duke_alone_with_the_seed_of_the_configuration(project, tiny):
    project.write_config(tiny | {"partial_duke": {"seed": 7}})
    _, output = project.snakemake("--dry-run", "--printshellcmds", "results/partial_duke.png")
    assert "--out data/demo/partial_duke/images --seed 7" in output
    assert "pgfl manifest partial_duke" in output and "--no-check-published" in output
    assert project.planned("results/partial_duke.png") == [
        "data/demo/archives/DukeMTMC-reID.zip",
        "data/demo/archives/DukeMTMC-reID.zip.joints.npz",
        "data/demo/dukemtmc_reid/images",
        "data/demo/partial_duke/counts.json",
        "data/demo/partial_duke/images",
        "data/demo/partial_duke/manifest.csv",
        "results/partial_duke.png",
    ]


def test_models_can_be_trained_and_tested_on_partial_duke(project):
    target = "runs/demo/partial_duke/pgfl_kd/seed0/eval/partial_duke.json"
    planned = project.planned(target)
    assert target in planned and "cache/demo/heatmaps/partial_duke/train.h5" in planned


def test_a_table_of_the_users_own_that_is_gone_is_said(project, tiny):
    project.write_config(tiny | {"datasets": {"mine": {"table": "photos/nope.csv"}}})
    code, output = project.snakemake("--dry-run", check=False)
    assert code != 0
    assert "setting datasets.mine.table: no such file (got 'photos/nope.csv')" in output


def test_figure_1_needs_no_pose(project):
    planned = project.planned("results/figure1.png")
    assert "runs/demo/occluded_duke/baseline/seed0/model.safetensors" in planned
    assert not any("pgfl_kd" in name or "heatmaps" in name for name in planned)


def test_a_ranked_list_needs_two_models_and_no_pose_at_test_time(project):
    planned = project.planned("results/ranked_lists/partial_reid.png")
    assert models_of(planned) == {("market1501", "baseline"), ("market1501", "pgfl_kd")}
    assert [name for name in planned if name.endswith(".h5")] == [
        "cache/demo/heatmaps/market1501/train.h5"
    ]


def test_stress_tests_are_of_the_sets_that_the_configuration_names(project, tiny):
    project.write_config(
        tiny | {"stress": {"test_sets": ["occluded_reid", "partial_duke"], "shares": [0.25]}}
    )
    planned = project.planned()
    stressed = [name for name in planned if "/stress_" in name and name.endswith(".csv")]
    assert stressed == [f"results/stress_{name}.csv" for name in ("occluded_reid", "partial_duke")]
    target = "results/stress_partial_ilids.csv"
    _, output = project.snakemake("--dry-run", "--printshellcmds", target)
    assert "--shares 0.25 --metric cosine" in output


def test_a_control_with_true_joints_draws_its_heatmaps_from_them(project, tiny):
    perfect = {"training": {"heatmaps": "true"}}
    project.write_config(tiny | {"variants": {"perfect": perfect}})
    planned = project.planned("runs/demo/occluded_duke/perfect/seed0/model.safetensors")
    assert "cache/demo/true_heatmaps/occluded_duke/train.h5" in planned
    assert not any(name.startswith("cache/demo/heatmaps") for name in planned)
    target = "runs/demo/partial_duke/perfect/seed0/model.safetensors"
    code, output = project.snakemake("--dry-run", target, check=False)
    assert code != 0
    assert "variant perfect: training.heatmaps: true needs drawn images" in output
    assert "partial_duke has none" in output
