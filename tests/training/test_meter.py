import pytest
import torch

from pgfl.errors import UserError
from pgfl.training.meter import Meter, check_weights, warn_of_jump

NAN, INF = float("nan"), float("inf")


def filled(*steps):
    meter = Meter()
    for step in steps:
        meter.add({name: torch.tensor(value) for name, value in step.items()})
    return meter


def test_means_are_over_the_steps_so_far():
    meter = filled({"cl": 1.0, "mcl": 1e30}, {"cl": 2.0, "mcl": 0.0})
    assert meter.means(0) == pytest.approx({"cl": 1.5, "mcl": 5e29})
    meter.add({"cl": torch.tensor(6.0), "mcl": torch.tensor(0.0)})
    assert meter.steps == 3 and meter.means(0)["cl"] == 3


def test_sums_do_not_lose_small_values():
    meter = filled(*[{"cl": 1e8}] * 1, *[{"cl": 1.0}] * 99)
    assert meter.means(0)["cl"] == (1e8 + 99) / 100


@pytest.mark.parametrize("bad", [0, 1, 4])
def test_the_first_step_that_is_not_finite_is_named(bad):
    steps = [{"cl": 1.0, "mcl": 2.0} for _ in range(6)]
    steps[bad] = {"cl": NAN, "mcl": 2.0}
    if bad < 5:
        steps[5] = {"cl": 1.0, "mcl": INF}  # later trouble is not the cause
    match = rf"epoch 3, step {bad + 1}: cl = nan; training stops"
    with pytest.raises(UserError, match=match):
        filled(*steps).means(2)


def test_all_terms_of_that_step_are_named():
    with pytest.raises(UserError, match=r"epoch 1, step 1: mcl = inf, cl = -inf; training stops"):
        filled({"mcl": INF, "id_global": 1.0, "cl": -INF}).means(0)


def test_weights_that_are_not_finite_are_named():
    state = {"a": torch.ones(3), "steps": torch.tensor(4)}
    check_weights(state, 0)
    broken = {"b": torch.tensor([1, NAN]), "c": torch.tensor(INF)}
    with pytest.raises(UserError, match=r"epoch 2: b and 1 more tensors .* last whole epoch"):
        check_weights(state | broken, 1)


def test_the_largest_value_is_of_one_step():
    meter = filled(*[{"loss": 1 / value, "gradient": value} for value in (6.0, 92.0, 7.0)])
    assert meter.most("gradient") == 92 and meter.most("loss") == pytest.approx(1 / 6)
    assert meter.means(0)["gradient"] == 35


def test_a_jump_is_one_step_far_beyond_the_mean_of_the_epoch_before(capsys):
    warn_of_jump([], 1e9)
    warn_of_jump([{"gradient": 1.0}, {"gradient": 7.5}], 74.9)
    assert capsys.readouterr().out == ""
    warn_of_jump([{"gradient": 1.0}, {"gradient": 7.5}], 92.0)
    assert capsys.readouterr().out.startswith(
        "warning: epoch 3: the gradient was 92 long in one step, 7.5 on average"
    )
