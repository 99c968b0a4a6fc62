"""Loss functions: pure, each in its own module, which is imported when it is asked for."""

from importlib import import_module
from typing import Any

from pgfl.errors import UserError
from pgfl.runtime.messages import did_you_mean

FUNCTIONS = {
    "batch_hard_triplet_loss": "triplet",
    "center_loss": "center",
    "consistency_loss": "consistency",
    "identity_loss": "identity",
    "multi_part_contrastive_loss": "multi_part_contrastive",
}
"""What can be imported from here, and its module."""

EXTRA: dict[str, str] = {"center": "pgfl.losses.center"}
"""Losses that any variant can have beside its method's own (`losses: {NAME: weight}`).

A module is imported only where its loss is used. docs/developing.md says what it has to give.
"""

__all__ = [*FUNCTIONS, "EXTRA", "extra_module"]


def __getattr__(name: str) -> Any:
    if name not in FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pgfl.losses.{FUNCTIONS[name]}"), name)


def extra_module(name: str) -> str:
    """The module of an extra loss.

    Raises:
        UserError: there is no such loss.
    """
    if name not in EXTRA:
        raise UserError(f"no loss {name!r}; {did_you_mean(name, EXTRA)}")
    return EXTRA[name]
