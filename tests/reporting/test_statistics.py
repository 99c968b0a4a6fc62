import doctest
import statistics as reference

import numpy as np
import pytest
from scipy import stats

from pgfl.reporting import statistics
from pgfl.reporting.statistics import mean_text, paired_difference, std_text


def test_the_examples_are_true():
    assert doctest.testmod(statistics).failed == 0


def test_the_spread_is_the_samples_and_one_value_has_none():
    values = [60.0, 61.5, 63.25, 58.0]
    assert std_text(values) == f"{reference.stdev(values):.2f}"
    assert mean_text(values) == f"{reference.fmean(values):.1f}"
    assert std_text([60.0]) == "" and mean_text([60.04]) == "60.0"


@pytest.mark.parametrize("pairs", [2, 3, 10])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_is_that_of_scipys_paired_t_test(pairs, confidence):
    rng = np.random.default_rng(pairs)
    first, second = rng.normal(50, 3, pairs).tolist(), rng.normal(48, 3, pairs).tolist()
    found = paired_difference(first, second, confidence)
    expected = stats.ttest_rel(first, second).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second))


def test_three_seeds_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1; t(0.975, 2) = 4.3027; 4.3027 / sqrt(3) = 2.484.
    found = paired_difference([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])
    assert str(found) == "+2.0 (-0.5 to +4.5)"


def test_pairing_removes_what_seeds_have_in_common():
    assert str(paired_difference([11, 21, 91], [10, 20, 90])) == "+1.0 (+1.0 to +1.0)"


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.normal(1.0, 2.0, (4000, 3))
    found = [paired_difference(list(row), [0.0] * 3) for row in draws]
    assert 0.94 < np.mean([d.low <= 1 <= d.high for d in found]) < 0.96


@pytest.mark.parametrize(("first", "second"), [([1], [2]), ([], []), ([1, 2], [1, 2, 3])])
def test_what_cannot_be_paired_is_refused(first, second):
    with pytest.raises(ValueError, match="two or more pairs"):
        paired_difference(first, second)
