import pytest
import torch

from pgfl.runtime.devices import half_precision


@pytest.fixture
def allowed():
    """Whether products and convolutions may take TF32, as PyTorch has it by itself."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = True
    yield lambda: [backend.allow_tf32 for backend in backends]
    for backend, was in zip(backends, before, strict=True):
        backend.allow_tf32 = was


def test_inference_in_fp32_is_fp32_on_a_gpu_too(allowed):
    with half_precision(torch.device("cpu"), "fp32"):
        assert allowed() == [False, False]
    assert allowed() == [False, True]


def test_an_error_within_leaves_the_switches_as_they_were(allowed):
    with pytest.raises(KeyError), half_precision(torch.device("cpu"), "auto"):
        raise KeyError
    assert allowed() == [False, True]


def test_half_precision_is_bf16_on_a_processor(allowed):
    weights = torch.ones(2, 2)
    with half_precision(torch.device("cpu"), "half"):
        assert (weights @ weights).dtype == torch.bfloat16
        assert allowed() == [False, True]
    with half_precision(torch.device("cpu"), "auto"):
        assert (weights @ weights).dtype == torch.float32
