import os

import pytest
import torch

from pgfl.config.recipe import TrainingSettings
from pgfl.runtime.devices import autocast, precision_on
from pgfl.training.arithmetic import fabric_precision, set_switches

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "native", "expected"),
    [(CPU, True, "bf16"), (CPU, False, "fp32"), (CUDA, True, "bf16"), (CUDA, False, "fp16")],
)
def test_auto_takes_what_the_hardware_has(monkeypatch, device, native, expected):
    monkeypatch.setattr("pgfl.runtime.devices.native_bf16", lambda device: native)
    assert precision_on(device, "auto") == expected
    assert [precision_on(device, name) for name in ("fp32", "fp16")] == ["fp32", "fp16"]
    assert fabric_precision(device, TrainingSettings(precision="fp16")) == "16-mixed"


@pytest.mark.parametrize(
    ("setting", "kind"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")]
)
def test_autocast_computes_in_the_wanted_precision(setting, kind):
    with autocast(CPU, setting):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, kind)


@pytest.fixture
def backends(monkeypatch):
    """The backends' switches are put back afterwards."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = before


@pytest.mark.parametrize(
    ("setting", "on", "warns"),
    [("strict", True, False), ("warn", True, True), ("off", False, False)],
)
def test_how_far_a_run_repeats_itself_is_a_setting(backends, setting, on, warns):
    set_switches(TrainingSettings(deterministic=setting))
    assert torch.are_deterministic_algorithms_enabled() == on
    assert torch.is_deterministic_algorithms_warn_only_enabled() == warns
    assert torch.backends.cudnn.benchmark == (setting == "off")
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == on


@pytest.mark.parametrize("wanted", [True, False])
def test_tf32_is_a_setting_and_off_by_default(backends, wanted):
    set_switches(TrainingSettings(tf32=True) if wanted else TrainingSettings())
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == wanted
