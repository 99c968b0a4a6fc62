"""The network put through torch.compile, where the recipe asks for it."""

import torch
from torch import nn

from pgfl.errors import UserError


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with fused operations, after a first step of a minute.

    Its parameters are those of `network`. Results differ from the uncompiled ones by rounding.

    Args:
        network: given batches of one size only.
        device: where it will run.

    Raises:
        UserError: torch cannot compile on this machine.
    """
    try:
        # At once, and not in the middle of the first step with a page of torch's own messages.
        torch.compile(torch.sin)(torch.ones(8, device=device))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"setting training.compile: torch cannot compile here ({reason}); install a C++ "
            "compiler (on a GPU triton, too), or set it to false"
        ) from error
    print("training.compile: the first step takes a minute or so")
    return torch.compile(network, dynamic=False)
