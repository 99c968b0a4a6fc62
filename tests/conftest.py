import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors are slower on several threads, the more so when other processes run."""
    torch.set_num_threads(1)
