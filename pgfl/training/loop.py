"""The training loop, visible at once."""

from collections import defaultdict
from functools import partial

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader

from pgfl.config.recipe import Recipe, TrainingSettings
from pgfl.networks.build import method_module
from pgfl.training.arithmetic import check_scale, scaler_of
from pgfl.training.checkpoint import Resume, load_checkpoint, save_checkpoint, take_up
from pgfl.training.compiled import compiled
from pgfl.training.data import EpochSampler, batches
from pgfl.training.live import Live
from pgfl.training.meter import Meter, check_weights, get_total_norm, warn_of_jump
from pgfl.training.parallel import average_gradients, gather

History = list[dict[str, float]]
"""One row per epoch: its number and learning rate; the means of the loss, of each of its terms and
of the gradient norm; in fp16, how many steps were left out (`skipped`)."""

RANDOM_NUMBERS = 2**32
"""Apart are the seeds of two epochs: dropout draws the same whether a run was stopped or not."""


def fit(
    model: nn.Module,
    loader: DataLoader,
    sampler: EpochSampler,
    recipe: Recipe,
    fabric: Fabric,
    resume: Resume,
    live: Live,
    extra: nn.ModuleDict | None = None,
) -> History:
    """Train a model in place, going on from a checkpoint of the same run if there is one.

    Args:
        model: freshly initialised.
        loader: yields the parts of the sampler's batches of the current epoch.
        sampler: told which epoch it is.
        recipe: losses, optimiser and schedule.
        fabric: device, precision, and the other processes of this run.
        resume: where to keep the state between epochs.
        live: told how it goes.
        extra: losses beside the method's own, by their names in the recipe, trained as well.

    Returns:
        The history of all epochs, those before an interruption among them.

    Raises:
        UserError: a loss or a weight is not finite (the last good checkpoint stays), or the
            network cannot be compiled here.
    """
    settings = recipe.training
    losses = method_module(recipe.method).losses
    together = partial(gather, fabric)
    extra = (nn.ModuleDict() if extra is None else extra).to(fabric.device)
    parameters = (*model.parameters(), *extra.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.Adam(
        trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    network = compiled(model, fabric.device) if settings.compile else model
    network, stepper = fabric.setup(network, optimizer)
    scaler = scaler_of(fabric)
    history: History = []
    # One process sorts the files; the others then read what it has decided on.
    state = take_up(resume) if fabric.is_global_zero else None
    fabric.barrier()
    if not fabric.is_global_zero:
        state = load_checkpoint(resume.path)
    if state:
        model.load_state_dict(state["model"])
        extra.load_state_dict(state["extra"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        if scaler is not None:
            scaler.load_state_dict(state["scaler"])
        print(f"going on after epoch {len(history)} of {settings.epochs}")
    resume.begin_part(len(history) + 1)
    seed = torch.initial_seed()
    for epoch in range(len(history), settings.epochs):
        torch.manual_seed(seed + RANDOM_NUMBERS * (epoch + 1))
        sampler.epoch = epoch
        rate = learning_rate(settings, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        network.train()
        steps = len(loader) // settings.accumulate
        meter = Meter()
        live.begin()
        for parts in zip(*[batches(loader)] * settings.accumulate, strict=True):
            optimizer.zero_grad(set_to_none=True)
            whole: dict[str, torch.Tensor] = defaultdict(float)
            for part in parts:
                part = part.mapped(fabric.to_device)
                outputs = network(part).mapped(together)
                described = part.described(together)
                terms = losses(outputs, described, recipe.settings)
                for name, loss in extra.items():
                    terms[f"extra_{name}"] = recipe.losses[name] * loss(outputs, described)
                terms = {name: term / settings.accumulate for name, term in terms.items()}
                total = torch.stack(list(terms.values())).sum()
                fabric.backward(total)
                for name, value in ({"loss": total} | terms).items():
                    whole[name] += value.detach()
            average_gradients(fabric, trained)
            if scaler is not None:
                scaler.unscale_(optimizer)
            gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
            whole["gradient"] = get_total_norm(gradients)
            if scaler is not None:
                # Gradients that overflowed: the scaler leaves this step out, and scales less.
                finite = whole["gradient"].isfinite()
                whole["gradient"] = whole["gradient"].where(finite, 0)
                whole["skipped"] = 1 - finite.float()
            stepper.step()
            meter.add(whole)
            live.step(epoch, meter, steps)
        row = of_steps_taken(meter.means(epoch), steps)
        check_scale(scaler, epoch)
        check_weights(model.state_dict() | extra.state_dict(prefix="losses."), epoch)
        warn_of_jump(history, meter.most("gradient"))
        history.append({"epoch": epoch + 1, "learning_rate": rate, **row})
        if fabric.is_global_zero:
            save_checkpoint(
                resume,
                history,
                {
                    "model": model.state_dict(),
                    "extra": extra.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scaler": None if scaler is None else scaler.state_dict(),
                },
            )
        live.epoch(epoch, meter, row, rate)
    return history


def of_steps_taken(row: dict[str, float], steps: int) -> dict[str, float]:
    """A row of means with the steps that a scaler left out counted, and not in the gradient's."""
    if "skipped" not in row:
        return row
    skipped = round(row["skipped"] * steps)
    return row | {
        "gradient": row["gradient"] * steps / max(1, steps - skipped),
        "skipped": skipped,
    }


def learning_rate(settings: TrainingSettings, epoch: int) -> float:
    """The rate of an epoch (from 0): linear warm-up, then a step down at each milestone."""
    passed = sum(epoch >= milestone for milestone in settings.milestones)
    warm = min(1.0, (epoch + 1) / (settings.warmup + 1))
    return settings.learning_rate * warm * settings.decay**passed
