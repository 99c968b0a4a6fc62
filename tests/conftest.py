import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from pgfl.nn.settings import ModelSettings
from pgfl.runtime.devices import autocast

TESTS = Path(__file__).resolve().parent
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

CPU = torch.device("cpu")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


ON_A_GPU = {
    "test_agreement.py",
    *("training/test_checkpoint.py", "training/test_loop.py", "training/test_stage.py"),
    *("retrieval/test_embed.py", "retrieval/test_guided.py", "retrieval/test_stage.py"),
    *("retrieval/test_stress.py", "student/test_embedder.py", "student/test_stage.py"),
    *("pose/test_hrnet.py", "pose/test_stage.py", "pose/test_views.py"),
    *("reporting/test_responses.py", "reporting/test_speed_table.py"),
    "networks/test_saved.py",
}
"""Files whose tests compute on a GPU where there is one."""


def pytest_collection_modifyitems(items):
    """The workflow's tests first: two processes then end at about the same time."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
    for item in items:
        if item.path.relative_to(TESTS).as_posix() in ON_A_GPU:
            item.add_marker(pytest.mark.cuda)
        if "workflow" in item.path.parts:
            item.add_marker(pytest.mark.workflow)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors are slower on several threads, the more so when other processes run."""
    torch.set_num_threads(1)


@pytest.fixture
def assert_agrees():
    """Check a scalar against a naive form in float64: its value, and its gradients by autograd.

    Below autocast it has to agree just as well.
    """

    def check(loss, naive, *inputs):
        theirs = [tensor.double().requires_grad_() for tensor in inputs]
        expected = naive(*theirs)
        expected.backward()
        for precision in ("fp32", "bf16", "fp16"):
            ours = [tensor.clone().requires_grad_() for tensor in inputs]
            with autocast(CPU, precision):
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
    """Check that a scalar and its gradients stay finite, in float32 and below autocast."""

    def check(loss, *inputs):
        for precision in ("fp32", "bf16", "fp16"):
            ours = [tensor.clone().requires_grad_() for tensor in inputs]
            with autocast(CPU, precision):
                value = loss(*ours)
            value.backward()
            assert value.isfinite()
            for our in ours:
                assert our.grad.isfinite().all()

    return check


@pytest.fixture
def assert_float32_under_autocast():
    """Check that bf16 and fp16 cost a loss nothing but the rounding of its inputs."""

    def check(loss, *inputs):
        expected = loss(*inputs)
        for precision, kind in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
            rounded = [tensor.to(kind) for tensor in inputs]
            with autocast(CPU, precision):
                of_float32, of_rounded = loss(*inputs), loss(*rounded)
            assert of_float32.dtype == of_rounded.dtype == torch.float32
            assert torch.equal(of_float32, expected)
            assert torch.equal(of_rounded, loss(*(tensor.float() for tensor in rounded)))
            torch.testing.assert_close(of_rounded, expected, rtol=0.05, atol=0.01)

    return check


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page."""

    dom: str
    console: list[str]
    """Everything on the console, errors among it."""
    requests: list[str]
    """Addresses that the page asked the network for."""


@pytest.fixture
def browser(tmp_path):
    """Opens an HTML file in a real browser, from which nothing gets out; skips without one."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("no Chromium is installed")

    def look(page):
        log = tmp_path / "browser" / "net.json"
        log.parent.mkdir(exist_ok=True)
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--proxy-server=127.0.0.1:9",
            f"--user-data-dir={log.parent}", f"--log-net-log={log}", "--enable-logging=stderr",
            "--virtual-time-budget=3000", "--dump-dom", page.resolve().as_uri(),
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        console = re.findall(r"CONSOLE(?::\d+|\(\d+\))\] (.*)", result.stderr)
        asked = (event.get("params", {}) for event in json.loads(log.read_text())["events"])
        # What the browser asks for of its own accord has no initiator.
        requests = {
            event["url"]
            for event in asked
            if "url" in event and event.get("initiator", "not an origin") != "not an origin"
        }
        return Seen(result.stdout, console, sorted(requests))

    return look


@pytest.fixture
def small_disk(tmp_path_factory):
    """Makes disks that run full: `small_disk("300k")` mounts one and gives its folder.

    `small_disk("9m", folder)` mounts it at a folder, or changes the size of the one that is there.
    """
    mounted = []

    def make(size, folder=None):
        folder = folder or tmp_path_factory.mktemp("disk")
        options = f"{'remount,' if folder in mounted else ''}size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            result = subprocess.run(command, capture_output=True)
        except FileNotFoundError:
            pytest.skip("there is no mount command for a small disk here")
        if result.returncode:
            pytest.skip("a small disk cannot be mounted here: that needs root")
        mounted.append(folder)
        return folder

    yield make
    for folder in set(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small():
    """The smallest network that the settings allow to be useful."""
    return ModelSettings(backbone="resnet18", pretrained=False, height=64, width=32)


@pytest.fixture
def images():
    """Four random crops, uint8 (4, 64, 32, 3)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (4, 64, 32, 3), generator=generator).byte()


@pytest.fixture
def heatmaps():
    """Random maps of twice the feature map's size, each summing to one."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 8, 8, 4, generator=generator).flatten(2).softmax(dim=2).view(4, 8, 8, 4)


LISTING = """
import json
Path("rules.json").write_text(json.dumps([
    {
        "name": one.name,
        "outputs": list(one.output.keys()) if one.output.keys() else [""] * len(one.output),
        "resources": list(one.resources.keys()),
        "says_threads": one.ruleinfo.threads is not None,
        "command": one.shellcmd,
    }
    for one in workflow.rules if one.name != "all"
]))
"""


@dataclass(frozen=True)
class Rule:
    """What is looked at of a rule of the workflow."""

    name: str
    outputs: list[str]
    resources: list[str]
    says_threads: bool
    command: str


@pytest.fixture(scope="session")
def rules(tmp_path_factory):
    """Every rule but `all`, as Snakemake has read it: variants of a rule are whole rules, too."""
    root = tmp_path_factory.mktemp("rules")
    for part in ("config.yaml", "workflow", "profiles", "pgfl", "envs"):
        (root / part).symlink_to(TESTS.parent / part)
    (root / "Snakefile").write_text((TESTS.parent / "Snakefile").read_text() + LISTING)
    command = [sys.executable, "-m", "snakemake", "--list-rules"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    found = [Rule(**rule) for rule in json.loads((root / "rules.json").read_text())]
    assert len(found) > 25
    return found
