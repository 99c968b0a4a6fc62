import pytest
import torch


@pytest.fixture
def assert_agrees():
    """Check a loss against a naive form in float64: its value, and its gradients by autograd.

    Below bf16 autocast the loss has to agree just as well.
    """

    def check(loss, naive, *inputs):
        theirs = [tensor.double().requires_grad_() for tensor in inputs]
        expected = naive(*theirs)
        expected.backward()
        for enabled in (False, True):
            ours = [tensor.clone().requires_grad_() for tensor in inputs]
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                value = loss(*ours)
            assert value.dtype == torch.float32 and value.shape == ()
            torch.testing.assert_close(value.double(), expected.detach(), rtol=1e-4, atol=1e-6)
            value.backward()
            for our, their in zip(ours, theirs, strict=True):
                assert their.grad.abs().max() > 0
                torch.testing.assert_close(our.grad.double(), their.grad, rtol=1e-3, atol=1e-6)

    return check


@pytest.fixture
def assert_finite():
    """Check that a loss and its gradients stay finite, in float32 and below bf16 autocast."""

    def check(loss, *inputs):
        for enabled in (False, True):
            ours = [tensor.clone().requires_grad_() for tensor in inputs]
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                value = loss(*ours)
            value.backward()
            assert value.isfinite()
            for our in ours:
                assert our.grad.isfinite().all()

    return check


@pytest.fixture
def assert_float32_under_autocast():
    """Check that bf16 costs a loss nothing but the rounding of its inputs."""

    def check(loss, *inputs):
        expected = loss(*inputs)
        rounded = [tensor.bfloat16() for tensor in inputs]
        with torch.autocast("cpu", torch.bfloat16):
            of_float32, of_bfloat16 = loss(*inputs), loss(*rounded)
        assert of_float32.dtype == of_bfloat16.dtype == torch.float32
        assert torch.equal(of_float32, expected)
        assert torch.equal(of_bfloat16, loss(*(tensor.float() for tensor in rounded)))
        torch.testing.assert_close(of_bfloat16, expected, rtol=0.05, atol=0.01)

    return check
