"""A GPU computes what the CPU computes: every check of benchmarks/agreement.py."""

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import agreement  # noqa: E402

sys.path.remove(str(BENCHMARKS))

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("check", agreement.CHECKS)
def test_a_gpu_computes_what_the_cpu_computes(check, precision, monkeypatch):
    device = torch.device("cuda")
    if precision not in agreement.precisions(device):
        pytest.skip(f"this GPU has no {precision}")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.syspath_prepend(BENCHMARKS)
    with agreement.full_fp32():
        found = list(agreement.CHECKS[check](device, precision))
    assert [one for one in found if not one.agrees] == []


@pytest.mark.parametrize("check", agreement.CHECKS)
def test_every_check_runs_where_there_is_no_gpu(check, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    found = list(agreement.CHECKS[check](torch.device("cpu"), "fp32"))
    assert found and all(one.agrees for one in found)


@pytest.mark.parametrize("check", ["losses", "branches", "part_branch", "ranking"])
def test_the_checks_find_a_device_that_computes_something_else(check, monkeypatch):
    """A device that is a thousandth off, pretended on the CPU, fails."""
    cpu = torch.device("cpu")
    assert all(one.agrees for one in agreement.CHECKS[check](cpu, "fp32"))
    true = agreement.relative
    monkeypatch.setattr(agreement, "relative", lambda got, want: true(got * 1.001, want))
    found = list(agreement.CHECKS[check](cpu, "fp32"))
    assert found and not all(one.agrees for one in found)


def test_nan_never_agrees():
    error = agreement.relative(torch.tensor([torch.nan, 1]), torch.ones(2))
    assert not agreement.Found("", error, 1e9).agrees
