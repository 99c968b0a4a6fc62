from dataclasses import replace

import numpy as np
import pytest

from pgfl.retrieval.metrics import Evaluation, NoValidQueryError, evaluate
from pgfl.retrieval.protocols import single_shot, single_shot_rows

PIDS = np.array([3, 1, 3, 2, 1, 3, 9])


def evaluation(mean, first):
    return Evaluation(mean, {1: first}, np.array([mean / 100]), 1)


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
