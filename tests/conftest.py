import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# The same few examples at every run; `make fuzz` draws many others.
FUZZ = int(os.environ.get("PGFL_FUZZ", "0"))
settings.register_profile(
    "few",
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile(
    "many", settings.get_profile("few"), max_examples=FUZZ or 1, derandomize=False
)
settings.load_profile("many" if FUZZ else "few")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors are slower on several threads, the more so when other processes run."""
    torch.set_num_threads(1)
