import subprocess
import sys

import pytest

from pgfl.config.load import load_config
from pgfl.methods.pgfl_kd import settings as pgfl_kd
from pgfl.planning.at_hand import AtHand
from pgfl.planning.heatmaps import HeatmapPlan
from pgfl.planning.results import Results, all_paths

COMPARISONS = {"mine": {"variants": ["sab", "baseline"], "test_sets": ["market1501"]}}


def make_results(lacking=None, **settings):
    """The results of a configuration where some data sets lack files."""
    config = load_config(settings)
    return Results(config, AtHand(config, lacking or {}), HeatmapPlan(config))


NO_DUKE = {"dukemtmc_reid": {"Duke.zip": "Duke.zip is gone"}}


def test_planning_imports_nothing_heavy():
    heavy = ("torch", "numpy", "pandas", "cv2", "h5py", "matplotlib")
    code = (
        "import sys\n"
        "from pgfl.planning import arguments, beginning, code, own_files, results, shares\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_table_is_made_of_each_row_on_each_test_set_with_each_seed():
    found = make_results(seeds=[0, 3]).evaluations(2)
    assert {"baseline", "pgfl_kd"} <= found.keys()
    assert found["pgfl_kd"] == {
        "occluded_duke": [
            f"runs/demo/occluded_duke/pgfl_kd/seed{seed}/eval/occluded_duke.json"
            for seed in (0, 3)
        ],
        # Tested only: its models are trained on another set.
        "occluded_reid": [
            f"runs/demo/market1501/pgfl_kd/seed{seed}/eval/occluded_reid.json" for seed in (0, 3)
        ],
    }


def test_a_comparison_keeps_the_order_of_its_rows():
    results = make_results(comparisons=COMPARISONS)
    assert list(results.compared("mine")) == ["sab", "baseline"]
    assert "results/compare_mine.png" in results.deliverables()


def test_a_test_set_that_lacks_files_leaves_cells_empty():
    results = make_results(NO_DUKE)
    found = results.evaluations(5)["baseline"]
    assert found["dukemtmc_reid"] == [] and len(found["market1501"]) == 1
    assert results.gaps["table5"] == {"dukemtmc_reid": ["Duke.zip"]}
    assert "table1" in results.gaps and "dukemtmc_reid" not in results.manifests()
    assert any("Duke.zip is gone" in line for line in results.left_out())
    assert results.left_out_of(["table2"]) == []
    assert any("Empty cells in table5" in line for line in results.left_out_of(["table5"]))


def test_a_result_of_nothing_but_missing_files_is_not_made():
    results = make_results(NO_DUKE)
    assert "ranked_lists/dukemtmc_reid" in results.not_made
    gone = "results/ranked_lists/dukemtmc_reid.png"
    assert gone in results.every_file() and gone not in results.deliverables()
    assert not any("/dukemtmc_reid/" in file for file in results.kept())


def test_whole_experiments_leave_nothing_out():
    results = make_results()
    assert results.gaps == results.not_made == {} and results.left_out() == []
    assert results.deliverables() == results.every_file()
    assert len(set(results.every_file())) == len(results.every_file())


def test_what_is_kept_is_all_that_the_tables_show_and_its_models():
    results = make_results()
    kept = results.kept()
    assert len(set(kept)) == len(kept)
    assert set(all_paths(results.feature_evaluations())) <= set(kept)
    run = "runs/demo/occluded_duke/pgfl_kd/seed0"
    assert f"{run}/eval/occluded_duke.queries.csv" in kept
    assert f"{run}/eval/occluded_duke.part.json" in kept
    assert f"{run}/eval/occluded_duke.part.queries.csv" not in kept
    assert f"{run}/model.safetensors" in kept and f"{run}/history.csv" in kept


def test_what_is_diagnosed_includes_own_comparisons_on_its_test_set():
    own = {"mine": {"variants": ["pgfl_kd_part_cl", "baseline"], "test_sets": ["occluded_duke"]}}
    results = make_results(comparisons=own)
    found = results.diagnosed()
    assert list(found)[-1] == "pgfl_kd_part_cl"
    assert found["baseline"]["heatmaps"] is None
    files = results.diagnosed_files()
    assert None not in files
    assert "cache/demo/heatmaps/occluded_duke/train.h5" in files


@pytest.mark.parametrize("parameter", ["lambda_mcl", "lambda_cl"])
def test_each_point_of_a_sweep_is_named_by_its_value(parameter):
    points = make_results().sweeps[parameter]
    assert list(map(float, points)) == sorted(map(float, points))
    assert all(len(files) == 1 for files in points.values())


def test_curves_show_no_model_twice():
    results = make_results()
    shown, others = all_paths(results.curves()), all_paths(results.other_curves())
    assert shown and others and not set(shown) & set(others)


def evaluation_inputs(variant):
    return make_results(variants={"mine": {"method": "pgfl_kd"}}).evaluation_inputs(
        "market1501", variant, 3, "partial_reid"
    )


def test_an_evaluation_reads_the_student_and_the_images_only():
    run, data = "runs/demo/market1501/mine/seed3", "data/demo/partial_reid"
    assert evaluation_inputs("mine") == {
        "model": f"{run}/model.safetensors",
        "manifest": f"{data}/manifest.csv",
        "images": f"{data}/images",
    }


def test_a_method_without_a_student_is_matched_with_all_of_its_network(monkeypatch):
    monkeypatch.setattr(pgfl_kd.Settings, "needs_heatmaps_at_test", property(lambda _: True))
    found = evaluation_inputs("mine")
    assert found["branches"] == "runs/demo/market1501/mine/seed3/branches.safetensors"
    assert found["query"] == "cache/demo/heatmaps/partial_reid/query.h5"
    assert found["gallery"] == "cache/demo/heatmaps/partial_reid/gallery.h5"


def test_what_has_no_global_student_is_not_diagnosed():
    own = {"mine": {"variants": ["pcb", "baseline"], "test_sets": ["occluded_duke"]}}
    assert "pcb" not in make_results(comparisons=own).diagnosed()


def test_table_8_is_told_what_runs_at_test_time_only():
    recipes = make_results().feature_recipes()
    assert recipes["pgfl_kd"].keys() == {"method", "model", "settings"}
    assert recipes["pgfl_kd"]["method"] == "pgfl_kd"
