import pytest
import torch
from lightning_fabric import Fabric

from pgfl.errors import UserError
from pgfl.recipe import TrainingSettings
from pgfl.training import loop
from pgfl.training.checkpoint import load_checkpoint
from pgfl.training.loop import Resume, check_finite, fit, learning_rate
from pgfl.training.task import Batch


class Tiny(torch.nn.Module):
    """One number to train."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images, heatmaps):
        return self.weight * 1.0


class Epochs:
    """Knows its epoch, as the sampler does, and notes which ones were asked for."""

    def __init__(self):
        self.asked = []

    def __setattr__(self, name, value):
        if name == "epoch":
            self.asked.append(value)
        object.__setattr__(self, name, value)


@pytest.fixture
def train(make_recipe, monkeypatch, tmp_path):
    """Train a single weight towards 1 on two batches an epoch; `term` replaces a loss term."""

    def run(term=lambda value, step: value, key="mine"):
        steps = iter(range(1000))

        def losses(model, batch, settings):
            distance = (model(batch.images, None) - 1).square().sum()
            return {"id_global": distance, "cl": term(0.5 * distance, next(steps))}

        monkeypatch.setattr(loop, "losses", losses)
        batch = Batch(torch.zeros(4, 8, 8, 3), torch.zeros(4), None)
        model, sampler = Tiny(), Epochs()
        recipe = make_recipe(learning_rate=0.1, weight_decay=0, milestones=(2,), epochs=3)
        resume = Resume(tmp_path / "checkpoint.pt", key)
        fabric = Fabric(accelerator="cpu", devices=1)
        history = fit(model, [batch, batch], sampler, recipe, fabric, resume)
        return model, sampler, history

    return run


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"milestones": (2, 4)}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"milestones": (1,), "decay": 0.5}, [1, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ({"milestones": (), "warmup": 3}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"milestones": (1,), "warmup": 1}, [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]),
    ],
)
def test_the_rate_warms_up_and_steps_down(settings, expected):
    schedule = TrainingSettings(learning_rate=3e-4, **settings)
    found = [learning_rate(schedule, epoch) for epoch in range(6)]
    assert found == pytest.approx([3e-4 * value for value in expected])


def test_the_papers_rate_steps_down_at_epochs_30_and_70():
    rates = [learning_rate(TrainingSettings(), epoch) for epoch in range(120)]
    assert rates == pytest.approx([3.5e-4] * 30 + [3.5e-5] * 40 + [3.5e-6] * 50)


def test_terms_that_are_not_finite_are_named():
    check_finite({"cl": torch.tensor(1e30), "mcl": torch.tensor(0.0)}, 0, 0)
    terms = {"cl": torch.tensor(float("nan")), "id_global": torch.tensor(1.0)}
    with pytest.raises(UserError, match=r"epoch 3, step 5: cl = nan; training stops"):
        check_finite(terms, 2, 4)
    terms = {"mcl": torch.tensor(float("inf")), "cl": torch.tensor(float("-inf"))}
    with pytest.raises(UserError, match=r"mcl = inf, cl = -inf"):
        check_finite(terms, 0, 0)


def test_the_history_holds_the_mean_of_every_term(train):
    model, sampler, history = train()
    assert sampler.asked == [0, 1, 2]
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.01])
    for row in history:
        assert row["cl"] == pytest.approx(row["id_global"] / 2)
        assert row["loss"] == pytest.approx(row["id_global"] + row["cl"])
    # Adam's first step is the learning rate itself: the weight was 0, then 0.1.
    assert history[0]["id_global"] == pytest.approx((1 + 0.9**2) / 2, rel=1e-4)
    assert 0 < model.weight.item() < 1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_epoch(train, tmp_path):
    with pytest.raises(UserError, match=r"epoch 2, step 2: cl = nan"):
        train(lambda value, step: value * float("nan") if step == 3 else value)
    state = load_checkpoint(tmp_path / "checkpoint.pt", "mine")
    assert len(state["history"]) == 1 and state["model"]["weight"].isfinite()


def test_a_stopped_run_goes_on_where_it_was(train, tmp_path):
    whole, _, expected = train()
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(UserError):
        train(lambda value, step: value * float("nan") if step == 3 else value)
    resumed, sampler, history = train()
    assert sampler.asked == [1, 2]
    assert history == expected and torch.equal(resumed.weight, whole.weight)


def test_another_runs_checkpoint_is_not_gone_on_from(train):
    train(key="other")
    _, sampler, history = train(key="mine")
    assert sampler.asked == [0, 1, 2] and len(history) == 3
