import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu  # noqa: E402
import gpu_parts  # noqa: E402

sys.path.remove(str(ROOT / "benchmarks"))


def rehearse(out, *options, without=(), path=(), timeout=300):
    """Run the program on the CPU, with packages missing as if they were not installed."""
    blocked = out.parent / "blocked"
    blocked.mkdir(exist_ok=True)
    # Python itself runs this module at its start, in the parts, too.
    (blocked / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        import sys

        class Missing:
            def find_spec(self, name, *_):
                if name.partition(".")[0] in {tuple(without)!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Missing())
        """)
    )
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--small"]
    return subprocess.run(
        [*command, "--out", str(out), *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (blocked, *path)))},
        timeout=timeout,
    )


def states(page):
    """What the page says of each part."""
    return dict(re.findall(r"^\| (.+?) \| (.+?) \| +\d+ \|$", page, flags=re.MULTILINE))


def test_missing_packages_leave_out_what_needs_them_and_no_more(tmp_path):
    out = tmp_path / "page.md"
    result = rehearse(out, "--only", "machine", "pose", "--minutes", "8", without=["mmpose"])
    assert result.returncode == 0, result.stdout + result.stderr
    page = out.read_text()
    found = states(page)
    assert found[gpu.PARTS["machine"].title] == "done"
    assert found[gpu.PARTS["pose"].title] == "left out"
    assert found[gpu.PARTS["step"].title] == "not asked for"
    assert "the package `mmpose` is missing: hrnet_small (MMPose)" in page
    assert "| processor |" in page and "Memory is copied at" in page


def small(seconds=1000):
    return gpu_parts.Work(torch.device("cpu"), seconds, small=True)


def test_what_goes_wrong_in_a_piece_is_said_and_the_part_goes_on(capsys):
    work = small()

    def fall():
        raise ValueError("an operation has no\ndeterministic implementation")

    def without():
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    assert work.piece("one", lambda: 1) == 1
    assert work.piece("two", fall) is work.piece("three", without) is None
    assert work.piece("four", lambda: 4, needs=10_000) is None
    assert work.end() == gpu.FAILED
    said = capsys.readouterr().out
    assert "**Failed:** two: ValueError: an operation has no\n" in said
    assert "the package `scipy` is missing: three" in said and "want of time: four" in said


def test_a_part_without_any_piece_done_is_left_out(capsys):
    work = small()
    with work.guarded("all"):
        raise ModuleNotFoundError(name="h5py")
    assert work.end() == gpu.LEFT_OUT and "`h5py` is missing: all" in capsys.readouterr().out


def test_the_switches_are_put_back():
    def switches():
        backends = torch.backends
        return (
            backends.cudnn.allow_tf32,
            backends.cudnn.benchmark,
            backends.cuda.matmul.allow_tf32,
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.are_deterministic_algorithms_enabled(),
        )

    before = switches()
    with gpu_parts.switches(tf32=True, deterministic=True, fill=False, trials=True):
        assert switches() == (True, True, True, False, True)
    assert switches() == before


def test_the_student_is_measured_and_its_evaluation_compared(capsys, monkeypatch):
    work = small()
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    gpu_parts.student(work)
    assert work.end() == gpu.DONE
    said = capsys.readouterr().out
    assert "| `.embed` of JPEG files, half |" in said and "| cpu |" in said


def test_no_time_is_no_failure(tmp_path):
    out = tmp_path / "page.md"
    result = rehearse(out, "--minutes", "0.1")
    assert result.returncode == 0, result.stderr
    assert set(states(out.read_text()).values()) == {"left out: no time is left"}


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """Runs a program of one's own in the place of a part."""

    def run(code, seconds):
        script = tmp_path / "gpu_parts.py"
        script.write_text(code)
        monkeypatch.setattr(gpu, "HERE", tmp_path)
        monkeypatch.setattr(gpu, "GRACE", 0.5)
        options = gpu.parsed(["--device", "cpu", "--out", str(tmp_path / "page.md")])
        sections = [gpu.Section(part) for part in gpu.PARTS.values()]
        status = gpu.run("machine", seconds, options, sections)
        gpu.write(options.out, gpu.page(sections, options.title))
        return status, options.out.read_text()

    return run


def test_a_part_that_crashes_keeps_what_it_has_written_and_says_why(pretend):
    code = "import sys, os; print('| a | 1 |', flush=True); print('CUDA | error', file=sys.stderr)"
    status, page = pretend(f"{code}; sys.stderr.flush(); os.abort()", 20)
    assert status not in (gpu.DONE, gpu.LEFT_OUT, gpu.SHORTENED)
    assert "| a | 1 |" in page and "**broke**: CUDA ' error" in page


def test_a_part_that_hangs_is_stopped_with_all_that_it_started(pretend, tmp_path):
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '100'])\n"
        f"open({str(pids)!r}, 'w').write(str(child.pid))\n"
        "print('| a | 1 |', flush=True)\ntime.sleep(100)"
    )
    began = time.monotonic()
    status, page = pretend(code, 2)
    assert time.monotonic() - began < 30
    assert status == gpu.SHORTENED and "stopped after 2 s" in page and "| a | 1 |" in page
    for _ in range(100):  # a killed process is there until its new parent looks
        found = Path(f"/proc/{pids.read_text()}/stat")
        if not found.exists() or ") Z " in found.read_text():
            break
        time.sleep(0.05)
    else:
        raise AssertionError("what the part had started goes on")


def test_a_stopped_program_leaves_a_whole_page_and_no_process(tmp_path):
    out = tmp_path / "page.md"
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--small"]
    command += ["--only", "machine", "pose", "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    for _ in range(1200):
        if out.exists() and "| processor |" in out.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    page = out.read_text()
    assert page.startswith("# A rehearsal on the CPU") and "| processor |" in page
    assert list(tmp_path.iterdir()) == [out]


def test_what_one_part_leaves_over_goes_to_the_others():
    names = list(gpu.PARTS)
    assert gpu.shares(names[-1:], 100) == 100
    assert sum(gpu.shares(names[i:], 100) * (i == 0) for i in range(len(names))) < 100
    assert gpu.shares(names[1:], 100) > gpu.shares(names, 100) * 2


def test_without_a_gpu_one_line_says_what_to_do(tmp_path):
    result = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--out", str(tmp_path / "page.md")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert result.returncode == 1 and "sees no GPU" in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "page.md").exists()
