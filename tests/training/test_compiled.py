import pytest
import torch

from pgfl.errors import UserError
from pgfl.training.compiled import compiled


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine without a C++ compiler, on which nothing has been compiled before."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/g++")}):
        yield
    torch._dynamo.reset()


def test_a_machine_that_cannot_compile_is_one_line_before_training(no_compiler):
    with pytest.raises(
        UserError, match=r"training\.compile: .*No working C\+\+ .* set it to fals"
    ):
        compiled(torch.nn.Linear(2, 2), torch.device("cpu"))
