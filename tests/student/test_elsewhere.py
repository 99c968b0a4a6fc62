"""The student on machines unlike the one that trained it: other systems, other consoles."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import sys
from pgfl.cli.main import main
for arguments in {commands}:
    sys.argv = ["pgfl", *arguments]
    try:
        main()
        print("status 0")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        print("status", 1 if isinstance(end.code, str) else end.code or 0)
"""

UNLIKE_LINUX = """
import ctypes, os, signal, sys

# What the standard library has on Linux only, or on Linux and macOS only.
names = "crypt fcntl grp nis ossaudiodev pty pwd resource spwd syslog termios tty"
sys.modules.update(dict.fromkeys(names.split()))
for name in (
    "fork forkpty getegid geteuid getgid getpgid getuid killpg mkfifo pidfd_open posix_spawn "
    "sched_getaffinity sched_setaffinity setsid statvfs wait3"
).split():
    delattr(os, name)
for name in "SIGALRM SIGHUP SIGKILL SIGUSR1 alarm pthread_kill setitimer sigwait".split():
    delattr(signal, name)

load = ctypes.CDLL
def cdll(name, *args, **kwargs):
    if name is None:
        raise TypeError("argument of type 'NoneType' is not iterable")
    return load(name, *args, **kwargs)
ctypes.CDLL = cdll
"""

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""File names are ASCII to Python, and so is the console."""
CONSOLES = {"cp1252": {"PYTHONIOENCODING": "cp1252:strict"}, "ascii": ASCII}


def run(commands, before="", **variables):
    """What `pgfl` does with these arguments: the statuses, and all that it said as errors.

    In one process: importing torch takes longer than most commands.
    """
    commands = [[str(word) for word in command] for command in commands]
    result = subprocess.run(
        # In ASCII, and the names as Python would find them among its own arguments.
        [sys.executable, "-c", before + RUN.format(commands="eval(sys.argv[1])"), ascii(commands)],
        capture_output=True,
        cwd=ROOT,
        env=os.environ | variables,
    )
    said = result.stdout.decode(errors="replace").splitlines()
    statuses = [int(line.split()[1]) for line in said if line.startswith("status ")]
    return statuses, result.stderr.decode(errors="replace")


def test_nothing_that_only_linux_has_is_needed(model_file, people, tmp_path):
    features = tmp_path / "f.npz"
    outs = [word for kind in ("html", "png", "csv") for word in ("-o", tmp_path / f"r.{kind}")]
    common = ["-m", model_file, "--device", "cpu"]
    commands = [
        ["embed", people, "-o", features, *common],
        ["search", "--query", people / "02.jpg", "--gallery", features, *outs, *common],
        ["export", model_file, "-o", tmp_path / "student.onnx"],
    ]
    statuses, errors = run(commands, UNLIKE_LINUX)
    assert statuses == [0, 0, 0], errors
    written = {path.name for path in tmp_path.iterdir()}
    assert {"f.npz", "r.html", "r.png", "r.csv", "student.onnx"} <= written


@pytest.mark.parametrize("console", CONSOLES)
def test_no_name_is_too_strange_for_a_console(model_file, people, tmp_path, console):
    folder = tmp_path / "Фото"
    folder.mkdir()
    names = ["Zoë—人.jpg", "b.jpg"]
    for name, source in zip(names, ("01.jpg", "02.jpg"), strict=True):
        (folder / name).write_bytes((people / source).read_bytes())
    (folder / "größe.png").touch()
    (folder / os.fsdecode(b"b\xff.jpg")).touch()
    common = ["-m", model_file, "--device", "cpu"]
    features = folder / "é.npz"
    outs = [word for kind in ("html", "csv") for word in ("-o", folder / f"é.{kind}")]
    right = [
        ["embed", folder, "-o", features, *common],
        ["search", "--query", folder / names[0], "--gallery", features, *outs, *common],
    ]
    wrong = [
        ["embed", folder / "人", "-o", tmp_path / "ü.npz", *common],
        ["embed", folder, "-o", tmp_path / "ü.npz", "-m", folder / "Модель.safetensors"],
        ["embed", folder, "-o", tmp_path / "ü.txt", *common],
        ["export", folder / "ж.safetensors", "-o", folder / "ж.onnx"],
        ["verify", folder / "人"],
    ]
    local = [
        [os.fsencode(word).decode(LOCAL[console], "surrogateescape") for word in line]
        for line in right + wrong
    ]
    statuses, errors = run(local, **CONSOLES[console])
    lines = [line for line in errors.splitlines() if "embedding: done" not in line]
    assert statuses == [0] * len(right) + [1] * len(wrong), errors
    assert len(lines) == len(wrong) and all(line.startswith("error: ") for line in lines), errors
    with np.load(features) as content:
        assert content["names"].tolist() == names
        assert content["unreadable"].tolist() == ["b\\xff.jpg", "größe.png"]
        assert str(content["folder"]) == str(folder)
    assert names[0] in (folder / "é.csv").read_text(encoding="utf-8")
    assert names[0] in (folder / "é.html").read_text(encoding="utf-8")


LOCAL = {"cp1252": "utf-8", "ascii": "ascii"}
"""How Python reads its arguments there."""
