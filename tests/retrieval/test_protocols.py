import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pgfl.retrieval import stage
from pgfl.retrieval.metrics import Evaluation, NoValidQueryError, evaluate
from pgfl.retrieval.protocols import single_shot, single_shot_rows
from pgfl.retrieval.rerank import evaluate_reranked

PIDS = np.array([3, 1, 3, 2, 1, 3, 9])


def evaluation(mean, first):
    return Evaluation(mean, {1: first}, np.array([mean / 100]), 1, np.array([1]))


def test_a_draw_has_one_image_of_each_person_in_the_order_of_the_gallery():
    for rows in single_shot_rows(PIDS, 50, seed=0):
        assert sorted(PIDS[rows]) == [1, 2, 3, 9] and (np.diff(rows) > 0).all()


def test_every_image_of_a_person_is_drawn_as_often():
    drawn = np.concatenate(list(single_shot_rows(PIDS, 3000, seed=0)))
    shares = np.bincount(drawn) / 3000
    expected = 1 / np.array([3, 2, 3, 1, 2, 3, 1])
    np.testing.assert_allclose(shares, expected, atol=0.04)


def test_the_seed_alone_decides_the_draws():
    def drawn(seed):
        return np.stack(list(single_shot_rows(PIDS, 20, seed))).tolist()

    assert drawn(1) == drawn(1) != drawn(2)


def test_means_and_standard_deviations_are_those_of_the_draws():
    results = iter([evaluation(10.0, 0.0), evaluation(20.0, 100.0), evaluation(60.0, 100.0)])
    found = single_shot(lambda rows: next(results), PIDS, draws=3)
    assert found.mAP == pytest.approx(30) and found.mAP_std == pytest.approx(np.std([10, 20, 60]))
    assert found.cmc == {1: pytest.approx(200 / 3)}
    assert found.cmc_std == {1: pytest.approx(np.std([0, 100, 100]))}
    assert found.num_valid_queries == 1


def test_with_one_image_a_person_it_is_the_evaluation_itself():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((30, 8))
    pids, cameras = rng.permutation(30), np.zeros(30, int)

    def evaluate_rows(rows):
        return evaluate(features[:9], features[rows], pids[:9], pids[rows], cameras[:9], rows + 1)

    found, whole = single_shot(evaluate_rows, pids, draws=4), evaluate_rows(np.arange(30))
    assert found.mAP == whole.mAP and found.cmc == whole.cmc
    assert found.mAP_std == 0 and set(found.cmc_std.values()) == {0}


def test_draws_without_a_valid_query_do_not_count():
    def evaluate_rows(rows):
        if 0 in rows:
            raise NoValidQueryError("none")
        return replace(evaluation(40.0, 0.0), num_valid_queries=2)

    found = single_shot(evaluate_rows, PIDS, draws=50)
    assert found.mAP == 40 and found.mAP_std == 0 and found.num_valid_queries == 2
    with pytest.raises(NoValidQueryError, match="no query has a match in any of 50"):
        single_shot(evaluate_rows, np.array([0]), draws=50)


def test_no_draws_are_an_error():
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        single_shot(lambda rows: evaluation(1.0, 1.0), PIDS, draws=0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The stage on random features; gives the report and the features, pids and camids."""
    rng = np.random.default_rng(0)
    pids, cameras = np.arange(90) % 9, np.arange(90) % 4
    features = rng.standard_normal((90, 5)) + 2 * np.eye(9)[pids][:, :5]
    table = pd.DataFrame({"image": np.arange(90).astype(str), "pid": pids, "camid": cameras})
    table["split"] = np.where(np.arange(90) < 20, "query", "gallery")
    table.to_csv(tmp_path / "manifest.csv", index=False)
    (tmp_path / "model").write_bytes(b"")
    monkeypatch.setattr(stage, "load_student", lambda path: (torch.nn.Identity(), None))
    monkeypatch.setattr(stage, "code_hash", lambda *modules: "")  # Identity is none of ours
    monkeypatch.setattr(
        stage, "embed", lambda *given, **options: features[np.array(given[3], int)]
    )

    def run(**options):
        report = stage.run_evaluation(
            tmp_path / "model",
            tmp_path / "manifest.csv",
            tmp_path / "out.json",
            metric="cosine",
            feature="after_bnneck",
            batch_size=1,
            **options,
        )
        assert json.loads((tmp_path / "out.json").read_text()) == report
        return report

    sides = slice(0, 20), slice(20, 90)
    return run, [array[side] for array in (features, pids, cameras) for side in sides]


def test_the_stage_reports_means_and_deviations_of_single_shot(run):
    run, arrays = run
    multi, single = run(), run(protocol="single_shot")
    names = {"rank1", "rank3", "rank5", "rank10", "mAP"}
    assert names <= set(multi) and set(single) - set(multi) == {f"{name}_std" for name in names}
    assert multi["protocol"] == "multi_shot" and single["protocol"] == "single_shot"
    assert not multi["rerank"] and multi["mAP"] == evaluate(*arrays).mAP

    def evaluate_rows(rows):
        return evaluate(*(a[rows] if index % 2 else a for index, a in enumerate(arrays)))

    expected = single_shot(evaluate_rows, arrays[3])
    assert (single["mAP"], single["mAP_std"]) == (expected.mAP, expected.mAP_std)
    assert (single["rank5"], single["rank5_std"]) == (expected.cmc[5], expected.cmc_std[5])
    # Of nine images one is right: harder to guess than one of many.
    assert single["chance"]["rank1"] == pytest.approx(100 / 9, abs=5)


def test_the_stage_re_ranks_on_demand(run):
    run, arrays = run
    report = run(rerank=True)
    assert report["rerank"] and report["mAP"] == evaluate_reranked(*arrays).mAP
    assert report["mAP"] != evaluate(*arrays).mAP
