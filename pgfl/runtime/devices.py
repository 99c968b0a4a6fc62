"""Choosing a device and a precision."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def pick_device() -> torch.device:
    """The current CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What computes: the GPU's name, or the processor's where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def native_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is in the hardware; where it is emulated it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older versions of torch lack these questions.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def precision_on(device: torch.device, setting: str) -> str:
    """What `training.precision` means on a device: `fp32`, `bf16` or `fp16`.

    `auto` is bf16 where the hardware has it, fp16 on an older GPU, and fp32 on another processor.
    Training in fp16 needs a gradient scaler (`pgfl.training.arithmetic`).
    """
    if setting != "auto":
        return setting
    if native_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def autocast(device: torch.device, setting: str) -> torch.autocast:
    """The autocast context of a precision setting."""
    precision = precision_on(device, setting)
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=precision != "fp32")


@contextmanager
def half_precision(device: torch.device, precision: str) -> Iterator[None]:
    """The context of inference alone: `auto` (half on a GPU), `fp32` or `half`.

    Half is fp16 on a GPU, four times as exact as bf16, which is what processors have. fp32 is
    fp32: PyTorch itself would round the factors of a GPU's convolutions to 10 bits (TF32).
    """
    wanted = precision == "half" or (precision == "auto" and device.type == "cuda")
    kind = torch.float16 if device.type == "cuda" else torch.bfloat16
    with torch.autocast(device.type, kind, enabled=wanted), _exact_products(not wanted):
        yield


@contextmanager
def _exact_products(wanted: bool) -> Iterator[None]:
    """fp32 products and convolutions of a GPU without TF32, where that is wanted."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn) if wanted else ()
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
