"""The step of the training loop by itself, for measuring: no loader, no Fabric, no files."""

import torch
from agreement import cast as named_cast
from torch import nn

from pgfl.config.recipe import Recipe
from pgfl.networks.build import build_network, method_module
from pgfl.nn.batch import Batch
from pgfl.runtime.devices import autocast
from pgfl.training.meter import get_total_norm


def cast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of `fp32`, `bf16`, `fp16` or `auto` (what training takes there)."""
    if precision == "auto":
        return autocast(device, "auto")
    return named_cast(device, precision)


class Trainer:
    """A network, its optimiser, and the step of the training loop."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        identities: int = 702,
        precision: str = "auto",
    ):
        self.recipe, self.device, self.precision = recipe, device, precision
        model = build_network(recipe, identities)
        self.losses = method_module(recipe.method).losses
        self.model = model.to(device, memory_format=torch.channels_last).train()
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(
            trained, recipe.training.learning_rate, weight_decay=5e-4, fused=True
        )
        # Small gradients of fp16 would become zero; in other precisions it does nothing.
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, batch: Batch, network: nn.Module | None = None) -> torch.Tensor:
        """Forward, backward, update; `network` is the model, compiled. Gives the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with cast(self.device, self.precision):
            network = self.model if network is None else network
            terms = self.losses(network(batch), batch, self.recipe.settings)
        loss = torch.stack(list(terms.values())).sum()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        # As the loop does for history.csv.
        get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()
