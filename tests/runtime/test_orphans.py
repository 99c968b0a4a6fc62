import os
import signal
import subprocess
import sys
import time

import pytest

from pgfl.runtime import orphans
from pgfl.runtime.orphans import SNAKEMAKE

STAGE = (
    "import pathlib, sys, time; from pgfl.runtime.files import whole_file\n"
    "from pgfl.runtime.orphans import end_with_snakemake; end_with_snakemake()\n"
    "with whole_file(pathlib.Path('result.csv')) as temporary:\n"
    "    temporary.touch(); print('working', flush=True)\n"
    "    {work}\n"
)
SHELL = "import os, subprocess, sys; os.environ['{variable}'] = '{snakemake}'\n" + (
    "subprocess.run([sys.executable, '-c', sys.argv[1]])\n"
)
SLEEP = "time.sleep(60)"
DESTRUCTOR = (
    "exec('class Slow:\\n def __del__(self):\\n  print(1, flush=True); time.sleep(1)\\n"
    "Slow()\\ntime.sleep(60)')"
)
"""Whatever is raised in `__del__`, Python drops."""
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)"


@pytest.fixture
def start(tmp_path):
    """Starts a stage below a shell; both end with the test."""
    processes = []

    def run(command, *arguments, **options):
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", command, *arguments],
            stdout=pipe,
            stderr=pipe,
            text=True,
            cwd=tmp_path,
            **options,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize("killed", ["snakemake", "shell"])
@pytest.mark.parametrize("work", [SLEEP, STUBBORN])
def test_a_stage_ends_with_snakemake_and_with_its_shell(tmp_path, start, killed, work):
    snakemake = start("import time; time.sleep(60)")
    shell = start(
        SHELL.format(variable=SNAKEMAKE, snakemake=snakemake.pid), STAGE.format(work=work)
    )
    assert shell.stdout.readline() == "working\n"
    (snakemake if killed == "snakemake" else shell).kill()
    began = time.monotonic()
    # The pipe ends with the last process that could write to it.
    said = shell.stderr.read()
    assert time.monotonic() - began < (5 if work == SLEEP else 15)
    assert f"error: stopped, because Snakemake (process {snakemake.pid}) or its shell" in said
    assert "Traceback" not in said
    if work == SLEEP:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_in_a_destructor_stops_all_the_same(tmp_path, start, number, code):
    # Tests in the background ignore Ctrl-C, and so would all that they start.
    usual = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    stage = start(STAGE.format(work=DESTRUCTOR), preexec_fn=usual)
    assert [stage.stdout.readline() for _ in range(2)] == ["working\n", "1\n"]
    stage.send_signal(number)
    _, said = stage.communicate(timeout=20)
    assert stage.returncode == code and "ignored" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_snakemake_that_is_gone_already_ends_the_stage(start):
    gone = start("pass")
    gone.wait()
    shell = start(SHELL.format(variable=SNAKEMAKE, snakemake=gone.pid), STAGE.format(work=SLEEP))
    assert "error: stopped" in shell.stderr.read()


def test_without_snakemake_a_command_outlives_its_shell(start):
    """As `nohup pgfl train ... &` should."""
    shell = start(SHELL.format(variable="OTHER", snakemake=1), STAGE.format(work="time.sleep(3)"))
    shell.stdout.readline()
    shell.kill()
    assert shell.stderr.read() == ""


def test_a_terminated_stage_leaves_nothing_half_written(tmp_path, start):
    stage = start(STAGE.format(work=SLEEP))
    stage.stdout.readline()
    stage.terminate()
    assert stage.wait() == 128 + signal.SIGTERM
    assert stage.stderr.read() == "" and list(tmp_path.iterdir()) == []


def test_where_processes_have_no_handles_they_are_looked_at(start, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: process.wait())
    process = start("import time; time.sleep(1)")
    orphans.wait_for_any((process.pid, os.getpid()))
    assert process.returncode == 0
