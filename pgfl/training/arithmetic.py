"""How a run computes: its precision, and how far it must repeat itself."""

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision

from pgfl.config.recipe import TrainingSettings
from pgfl.errors import UserError
from pgfl.runtime.devices import precision_on

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Fabric's names."""


def fabric_precision(device: torch.device, settings: TrainingSettings) -> str:
    """Fabric's name of the precision that the settings mean on a device."""
    return PRECISIONS[precision_on(device, settings.precision)]


def make_precision(name: str, kind: str) -> Precision:
    """Fabric's plugin for a precision.

    Args:
        name: Fabric's name of it.
        kind: `cpu` or `cuda`.
    """
    if name == PRECISIONS["fp32"]:
        return Precision()
    # Made here, since Fabric itself takes bf16 in the place of fp16 on a CPU.
    scaler = torch.amp.GradScaler(kind) if name == PRECISIONS["fp16"] else None
    return MixedPrecision(name, kind, scaler)


def set_switches(settings: TrainingSettings) -> None:
    """Set torch's global switches as the settings want them."""
    off = settings.deterministic == "off"
    if not off:
        # Without this workspace CUDA's matrix products are refused as not repeatable.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(not off, warn_only=settings.deterministic == "warn")
    torch.backends.cudnn.benchmark = off
    torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    # PyTorch's own default is true for convolutions, and so not what is called fp32.
    torch.backends.cudnn.allow_tf32 = settings.tf32


def scaler_of(fabric: Fabric) -> torch.amp.GradScaler | None:
    """The gradient scaler of a run in fp16; others have none."""
    return getattr(fabric.strategy.precision, "scaler", None)


def check_scale(scaler: torch.amp.GradScaler | None, epoch: int) -> None:
    """Raise UserError where gradients are too large for fp16 even when they are not scaled up.

    Every step with such a gradient is left out, so that nothing would be learnt any more.
    """
    if scaler is not None and scaler.get_scale() < 1:
        raise UserError(
            f"epoch {epoch + 1}: gradients overflow in fp16, however small the loss is scaled; "
            "set training.precision: fp32; the checkpoint of the last whole epoch is kept"
        )
