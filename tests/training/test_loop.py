import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric

from pgfl.config.recipe import Recipe, TrainingSettings
from pgfl.errors import UserError
from pgfl.methods import METHODS
from pgfl.networks.build import build_extra_losses, build_network, method_module
from pgfl.nn.batch import Batch, Outputs
from pgfl.training import loop
from pgfl.training.checkpoint import Resume, load_checkpoint, remove_checkpoint
from pgfl.training.live import Live
from pgfl.training.loop import fit, learning_rate
from pgfl.training.parallel import make_fabric


class Tiny(torch.nn.Module):
    """One number to train."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return Outputs({"weight": self.weight * 1.0}, {})


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

    def run(term=lambda value, step: value, key="mine", fabric="32-true", **settings):
        steps = iter(range(1000))

        def losses(outputs, batch, settings):
            distance = (outputs.features["weight"] - 1).square().sum()
            return {"id_global": distance, "cl": term(0.5 * distance, next(steps))}

        monkeypatch.setattr(loop, "method_module", lambda _: SimpleNamespace(losses=losses))
        batch = Batch(torch.zeros(4, 8, 8, 3), torch.zeros(4), torch.zeros(4), None)
        model, sampler = Tiny(), Epochs()
        schedule = {"learning_rate": 0.1, "weight_decay": 0, "milestones": (2,), "epochs": 3}
        recipe = make_recipe(**schedule | settings)
        resume = Resume(tmp_path / "checkpoint.pt", {"key": key})
        live = Live(epochs=3, images=4, status=None, device="cpu")
        batches = [batch, batch]
        history = fit(model, batches, sampler, recipe, make_fabric(1, fabric), resume, live)
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


def test_the_history_holds_the_mean_of_every_term(train):
    model, sampler, history = train()
    assert sampler.asked == [0, 1, 2]
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.01])
    for row in history:
        assert row["cl"] == pytest.approx(row["id_global"] / 2)
        assert row["loss"] == pytest.approx(row["id_global"] + row["cl"])
    # The slope of 1.5 (w - 1)^2.
    assert history[0]["gradient"] == pytest.approx((3 + 3 * 0.9) / 2, rel=1e-4)
    # Adam's first step is the learning rate itself: the weight was 0, then 0.1.
    assert history[0]["id_global"] == pytest.approx((1 + 0.9**2) / 2, rel=1e-4)
    assert 0 < model.weight.item() < 1


@pytest.mark.parametrize("method", ["pgfl_kd", "bot", "horeid", "pcb"])
def test_a_batch_in_parts_has_the_mean_of_their_gradients(make_recipe, tmp_path, method):
    torch.manual_seed(0)
    recipe = make_recipe(identities=6, accumulate=3, epochs=1)
    recipe = Recipe.parse(recipe.model_dump() | {"method": method, "settings": {}})
    labels = torch.arange(6).repeat_interleave(2)
    maps = torch.rand(12, 8, 8, 4).flatten(2).softmax(2).view(12, 8, 8, 4)
    images, confidence = torch.randint(256, (12, 64, 32, 3)).byte(), torch.rand(12, 8)
    whole = Batch(images, labels, labels, maps, confidence)
    parts = [whole.mapped(lambda rows, at=at: rows[at : at + 4]) for at in (0, 4, 8)]
    model = build_network(recipe, 6)
    separate = copy.deepcopy(model)
    fabric, resume = Fabric(accelerator="cpu", devices=1), Resume(tmp_path / "c.pt", {})
    live = Live(epochs=1, images=12, status=None, device="cpu")
    (row,) = fit(model, parts, Epochs(), recipe, fabric, resume, live)
    losses = method_module(method).losses
    terms = [losses(separate(part), part, recipe.settings) for part in parts]
    for name in terms[0]:
        mean = sum(term[name].item() for term in terms) / 3
        assert row[name] == pytest.approx(mean, rel=1e-5)
    (sum(value for term in terms for value in term.values()) / 3).backward()
    assert row["loss"] == pytest.approx(sum(v for k, v in row.items() if k in terms[0]), rel=1e-5)
    for (name, ours), theirs in zip(model.named_parameters(), separate.parameters(), strict=True):
        if theirs.requires_grad:
            error = (ours.grad - theirs.grad).norm()
            assert error <= 1e-4 * theirs.grad.norm(), name


WITHOUT_FEATURES = ["horeid", "pvpm"]
"""Methods that call their features otherwise than their logits."""


@pytest.mark.parametrize("method", [name for name in METHODS if name not in WITHOUT_FEATURES])
def test_any_method_may_have_an_extra_loss(make_recipe, tmp_path, method):
    """It is trained, told in the history, and goes on from a checkpoint to the same bits."""
    recipe = make_recipe(identities=6, epochs=2)
    values = recipe.model_dump() | {"method": method, "settings": {}, "losses": {"center": 0.5}}
    recipe = Recipe.parse(values)
    torch.manual_seed(0)
    labels = torch.arange(6).repeat_interleave(2)
    maps = torch.rand(12, 8, 8, 4).flatten(2).softmax(2).view(12, 8, 8, 4)
    images, confidence = torch.randint(256, (12, 64, 32, 3)).byte(), torch.rand(12, 8)
    batch = Batch(images, labels, labels, maps, confidence)

    def trained(epochs, path):
        torch.manual_seed(1)
        model = build_network(recipe, 6)
        before = torch.get_rng_state()
        extra = build_extra_losses(recipe, model, 6)
        assert model.training and not torch.equal(before, torch.get_rng_state())
        training = recipe.training.model_copy(update={"epochs": epochs})
        live = Live(epochs=epochs, images=12, status=None, device="cpu")
        resume = Resume(tmp_path / path, {})
        now = recipe.model_copy(update={"training": training})
        history = fit(
            model, [batch], Epochs(), now, make_fabric(1, "32-true"), resume, live, extra
        )
        return extra.state_dict(), history

    start = build_extra_losses(recipe, build_network(recipe, 6), 6).state_dict()
    whole, history = trained(2, "whole.pt")
    assert all(row["extra_center"] > 0 for row in history) and whole.keys() == start.keys()
    trained(1, "stopped.pt")
    resumed, again = trained(2, "stopped.pt")
    assert again == history
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize("method", WITHOUT_FEATURES)
def test_a_method_without_a_feature_for_extra_losses_says_so(make_recipe, method):
    values = {"method": method, "settings": {}, "losses": {"center": 0.5}}
    recipe = Recipe.parse(make_recipe().model_dump() | values)
    with pytest.raises(UserError, match=f"setting losses: {method} has no feature with identity"):
        build_extra_losses(recipe, build_network(recipe, 6), 6)


def test_a_recipe_without_extra_losses_has_none_and_draws_nothing(make_recipe):
    recipe = make_recipe()
    recipe = recipe.model_copy(update={"losses": {"center": 0.0}})
    model = build_network(recipe, 6)
    before = torch.get_rng_state()
    assert len(build_extra_losses(recipe, model, 6)) == 0
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_with_an_enormous_gradient_is_said(train, capsys):
    train()
    assert "warning" not in capsys.readouterr().out

    def steep(value, step):
        return value + 1e4 * (value - value.detach()) if step == 3 else value

    _, _, history = train(steep, key="steep")
    assert history[1]["gradient"] > 1000 * history[0]["gradient"]
    assert history[1]["cl"] < history[0]["cl"]
    said = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(said) == 1 and said[0].startswith("warning: epoch 2: the gradient was ")


def test_weights_that_the_last_step_spoils_are_never_saved(train, tmp_path, monkeypatch):
    step = torch.optim.Adam.step
    count = iter(range(100))

    def spoil(self, *arguments, **options):
        result = step(self, *arguments, **options)
        if next(count) == 3:  # the last step of the second epoch
            self.param_groups[0]["params"][0].data.fill_(float("inf"))
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", spoil)
    with pytest.raises(UserError, match=r"epoch 2: weight and 0 more tensors .* not finite"):
        train()
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert len(state["history"]) == 1 and state["model"]["weight"].isfinite()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_epoch(train, tmp_path):
    with pytest.raises(UserError, match=r"epoch 2, step 2: loss = nan, cl = nan"):
        train(lambda value, step: value * float("nan") if step == 3 else value)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert len(state["history"]) == 1 and state["model"]["weight"].isfinite()


def overflow_at(*steps):
    """Makes the gradient of these steps far too large for a scaled loss; the loss stays."""
    return lambda value, step: value + (step in steps) * 1e36 * (value - value.detach())


def test_in_fp16_a_step_that_overflows_is_left_out_and_counted(train, tmp_path):
    model, _, history = train(overflow_at(0, 3), fabric="16-mixed")
    assert [row["skipped"] for row in history] == [1, 1, 0]
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert state["scaler"]["scale"] == 2**16 / 4 and state["scaler"]["_growth_tracker"] == 2
    # The second step of the first epoch saw the weight that the first one left: zero.
    assert history[0]["id_global"] == pytest.approx(1) and history[1]["id_global"] < 1
    assert history[0]["gradient"] == pytest.approx(3)
    assert model.weight.item() == pytest.approx(0.1 * 2 + 0.01 * 2, rel=0.1)


def test_the_scale_goes_on_where_it_was(train, tmp_path):
    whole, _, expected = train(overflow_at(1, 4), fabric="16-mixed")
    remove_checkpoint(tmp_path / "checkpoint.pt")

    def fails(value, step):
        return overflow_at(1)(value * float("nan") if step == 3 else value, step)

    with pytest.raises(UserError):
        train(fails, fabric="16-mixed")
    resumed, _, history = train(overflow_at(2), fabric="16-mixed")
    assert history == expected and torch.equal(resumed.weight, whole.weight)


def test_gradients_that_always_overflow_stop_the_run(train):
    with pytest.raises(UserError, match=r"epoch \d+: gradients overflow in fp16, however small"):
        # The gradient is infinite, as of a square root of zero; the loss is not.
        train(
            lambda value, step: value + (value - value.detach()) * 1e30 * 1e30,
            fabric="16-mixed",
            epochs=15,
        )


def test_a_stopped_run_goes_on_where_it_was(train, tmp_path):
    whole, _, expected = train()
    remove_checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(UserError):
        train(lambda value, step: value * float("nan") if step == 3 else value)
    resumed, sampler, history = train()
    assert sampler.asked == [1, 2]
    assert history == expected and torch.equal(resumed.weight, whole.weight)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_trains_as_the_plain_one_and_goes_on_alike(train, tmp_path, capsys):
    _, _, plain = train()
    remove_checkpoint(tmp_path / "checkpoint.pt")
    whole, _, expected = train(compile=True)
    assert "training.compile: the first step" in capsys.readouterr().out
    for ours, theirs in zip(expected, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    remove_checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(UserError):
        train(lambda value, step: value * float("nan") if step == 3 else value, compile=True)
    resumed, sampler, history = train(compile=True)
    assert sampler.asked == [1, 2]
    assert history == expected and torch.equal(resumed.weight, whole.weight)


def test_another_runs_checkpoint_is_not_gone_on_from(train):
    train(key="other")
    _, sampler, history = train(key="mine")
    assert sampler.asked == [0, 1, 2] and len(history) == 3
