"""Kills, full disks and damaged files: what is lost, and that nothing else is.

`make test` kills four times, on the way to one table; `make test-faults` kills as often as
PGFL_KILLS says, on the way to everything, and fills disks.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = int(os.environ.get("PGFL_KILLS", "4"))
SEED = int(os.environ.get("PGFL_KILLS_SEED", "0"))
LONG = "PGFL_KILLS" in os.environ
TARGET = () if LONG else ("results/table4.csv",)
WAYS = ("stage", "snakemake", "both", "interrupt")
long_only = pytest.mark.skipif(not LONG, reason="takes minutes; `make test-faults` runs it")

SAME = (
    "results/*.csv",
    "data/demo/*/manifest.csv",
    "cache/demo/heatmaps/*/*.h5",
    "runs/demo/*/*/*/*.safetensors",
    "runs/demo/*/*/*/history.csv",
    "runs/demo/*/*/*/eval/*.json",
)
"""What must be as after an undisturbed run, to the byte; but for Table 9, which is of times."""


class Run:
    """Snakemake at work in a project, in a session of its own as on a terminal of its own."""

    def __init__(self, project, *arguments):
        self.root = project.root
        self.log = project.root.parent / f"{project.root.name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
                cwd=self.root,
                env=os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Tests that run in the background ignore Ctrl-C, and all that they start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def output(self):
        return self.log.read_text()

    def wait_for_jobs(self, count, patience=300):
        """Until so many jobs have begun; False where it ends before."""
        until = time.monotonic() + patience
        while self.process.poll() is None:
            if len(re.findall(r"^Job \d+: ", self.output, flags=re.MULTILINE)) >= count:
                return True
            assert time.monotonic() < until, self.output
            time.sleep(0.02)
        return False

    def finished_jobs(self):
        """What each finished job was for."""
        numbers = dict(re.findall(r"^Job (\d+): (.*)", self.output, flags=re.MULTILINE))
        done = re.findall(r"^Finished jobid: (\d+) ", self.output, flags=re.MULTILINE)
        return [numbers[number] for number in done]

    def disturb(self, way, moments):
        """Kill, or press Ctrl-C; False where there was nothing to kill any more."""
        try:
            if way == "interrupt":
                os.killpg(self.process.pid, signal.SIGINT)
            if way in ("stage", "both"):
                stages = [pid for pid, command in at_work(self.root) if "-m pgfl " in command]
                if not stages:
                    return False
                os.kill(moments.choice(stages), signal.SIGKILL)
            if way in ("snakemake", "both"):
                self.process.kill()
        except ProcessLookupError:
            return False
        return True


def at_work(root):
    """(number, command) of every process in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cwd").readlink() == root:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append((int(entry.name), command))
        except OSError:  # it has just ended
            continue
    return [(pid, command) for pid, command in found if command]


def assert_nothing_is_left_running(root, patience=15):
    until = time.monotonic() + patience
    while left := at_work(root):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def contents(project):
    """The bytes of everything that must be the same, by path."""
    paths = {path for pattern in SAME for path in project.root.glob(pattern)}
    names = {str(path.relative_to(project.root)): path for path in paths}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if name != "results/table9.csv" and "/mine/" not in name
    }


def assert_as_undisturbed(project, finished, everything=not TARGET):
    found, wanted = contents(project), contents(finished)
    assert "results/table4.csv" in found and found.keys() <= wanted.keys()
    assert found.keys() == wanted.keys() or not everything
    different = [name for name, content in found.items() if content != wanted[name]]
    assert not different
    assert not list(project.root.glob("[!.]*/**/.*.tmp*")), "half-written files are left"
    assert not list((project.root / "cache/demo/state").rglob("*.lock"))
    return len(found)


def after(run, way):
    """What a disturbed run has left, and what it has said."""
    code = run.process.wait(timeout=300)
    assert_nothing_is_left_running(run.root)
    output = run.output
    if way in ("snakemake", "both"):
        assert code == -signal.SIGKILL
        return
    assert code != 0
    last = "\n".join(output.splitlines()[-12:])
    if way == "interrupt":
        assert "ype the same command again" in last, output
    else:
        # The stage itself was killed, or the shell around it.
        assert re.search(r"    (no message \(killed|error: stopped, because)", last), output
        assert "Mend this, then type the same command again" in last, output


def test_kills_at_random_moments_lose_nothing_and_change_nothing(finished, new_project):
    moments = random.Random(SEED)
    project, done, unlock, kills, rounds = new_project(), [], False, [], 1
    while len(kills) < KILLS:
        way = WAYS[len(kills) % len(WAYS)]
        if unlock:
            project.snakemake("--unlock")
        run = Run(project, *TARGET)
        hit = run.wait_for_jobs(moments.randint(1, 5 if LONG else 2))
        if hit:
            time.sleep(moments.uniform(0, 3))
            hit = run.process.poll() is None and run.disturb(way, moments)
        if hit:
            after(run, way)
            kills.append(way)
        else:
            # It came to its end before: all is as it should be, and the next one starts anew.
            assert run.process.wait(timeout=600) == 0, run.output
        unlock = hit and way in ("snakemake", "both")
        done += run.finished_jobs()
        if not hit:
            assert_as_undisturbed(project, finished)
            assert len(done) == len(set(done)), "a finished job ran again"
            project, done, rounds = new_project(), [], rounds + 1
    if unlock:
        code, output = project.snakemake("--cores", "2", *TARGET, check=False)
        assert code != 0
        assert (
            "The last Snakemake here was killed. Type `snakemake --unlock`"
            in (output.splitlines()[-1])
        )
        project.snakemake("--unlock")
    run = Run(project, *TARGET)
    assert run.process.wait(timeout=1200) == 0, run.output
    done += run.finished_jobs()
    compared = assert_as_undisturbed(project, finished)
    assert len(done) == len(set(done)), "a finished job ran again"
    counts = ", ".join(f"{kills.count(way)} {way}" for way in WAYS)
    print(
        f"{len(kills)} kills ({counts}) in {rounds} rounds; {compared} files compared at the end"
    )


def test_a_second_snakemake_is_told_who_is_at_work(new_project):
    project = new_project()
    first = Run(project)
    assert first.wait_for_jobs(1)
    code, output = project.snakemake("--cores", "2", check=False)
    assert code != 0 and "Traceback" not in output
    assert (
        f"Another Snakemake is at work in this folder (process {first.process.pid} on "
        in (output.splitlines()[-1])
    )
    first.disturb("interrupt", random)
    after(first, "interrupt")


@long_only
def test_full_disks_are_one_line_each_and_change_nothing(finished, new_project, small_disk):
    """Each folder on a disk too small for a while: archive, checkpoint, student."""
    project = new_project()
    for folder, size in {"data": "64k", "cache": "30m", "runs": "20m"}.items():
        (project.root / folder).mkdir()
        small_disk(size, project.root / folder)
    for folder, size in {"data": "20m", "cache": "2g", "runs": "1g"}.items():
        code, output = project.snakemake("--cores", "2", "results/table4.csv", check=False)
        assert code != 0
        last = "\n".join(output.splitlines()[-12:])
        assert (
            f"    error: {folder}/demo/" in last and "No space left on device; free some" in last
        )
        small_disk(size, project.root / folder)
    project.snakemake("--cores", "2", "results/table4.csv")
    assert_as_undisturbed(project, finished, everything=False)


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@long_only
@pytest.mark.parametrize("damage", [cut, flipped])
@pytest.mark.parametrize(
    "file",
    [
        "cache/demo/heatmaps/partial_duke/train.h5",
        "runs/demo/partial_duke/pgfl_kd/seed0/model.safetensors",
    ],
)
def test_a_damaged_file_is_named_and_made_again(finished, new_project, file, damage):
    project = new_project(finished.root)
    path = project.root / file
    path.write_bytes(damage(path.read_bytes()))
    (project.root / "runs/demo/partial_duke/pgfl_kd/seed0/eval/partial_duke.json").unlink()
    (project.root / "results/table4.csv").unlink()
    code, output = project.snakemake("--cores", "2", "results/table4.csv", check=False)
    last = "\n".join(output.splitlines()[-12:])
    assert code != 0 and f"    error: {file}: " in last and "damaged" in last, output
    path.unlink()
    project.snakemake("--cores", "2", "results/table4.csv")
    assert_as_undisturbed(project, finished, everything=False)


@pytest.fixture
def new_project(tmp_path_factory, project):
    """Copies a project, by default one in which nothing has run; ends what is at work in it."""
    made = []

    def make(source=project.root):
        folder = tmp_path_factory.mktemp("faults") / "project"
        made.append(type(project)(folder))
        subprocess.run(["cp", "-a", source, folder], check=True)
        return made[-1]

    yield make
    for left in made:
        for pid, _ in at_work(left.root):
            os.kill(pid, signal.SIGKILL)
