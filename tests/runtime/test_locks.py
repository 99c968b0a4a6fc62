import signal
import socket
import subprocess
import sys

import pytest

from pgfl.errors import UserError
from pgfl.runtime import locks
from pgfl.runtime.locks import locked

HOLD = (
    "import sys, time; from pathlib import Path; from pgfl.runtime.locks import locked\n"
    "with locked(Path(sys.argv[1]), shared=sys.argv[2:] == ['shared']):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def hold():
    """Starts processes that hold a lock until their input ends."""
    started = []

    def start(folder, *options, code=HOLD):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_second_process_is_told_who_holds_it_and_what_to_do(tmp_path, hold):
    holder = hold(tmp_path / "state")
    with pytest.raises(UserError) as caught, locked(tmp_path / "state", patience=0):
        pass
    assert str(caught.value) == (
        f"{tmp_path}/state is in use by process {holder.pid} on {socket.gethostname()}: wait "
        "until that is done, or stop it, then run the same command again"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_holder_holds_nothing(tmp_path, hold, number):
    hold(tmp_path / "state").send_signal(number)
    with locked(tmp_path / "state"):
        assert (tmp_path / "state.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_outlives_the_holder_holds_nothing(tmp_path, hold):
    """As loader processes do for some seconds."""
    fork = "    import os; os.fork() or (os.close(1), time.sleep(8), os._exit(0))\n    print("
    holder = hold(tmp_path / "state", code=HOLD.replace("    print(", fork))
    holder.kill()
    holder.wait()
    with locked(tmp_path / "state", patience=5):
        pass


def test_a_stopping_holder_is_waited_for(tmp_path, hold):
    holder = hold(tmp_path / "state")
    holder.stdin.close()
    with locked(tmp_path / "state", patience=20):
        pass


def test_shared_locks_go_together_but_not_with_a_whole_one(tmp_path, hold):
    folder = tmp_path / "state"
    hold(folder, "shared")
    with locked(folder, shared=True, patience=0):
        pass
    with pytest.raises(UserError, match="in use by process"), locked(folder, patience=0):
        pass


def test_the_dead_are_not_named_as_holders(tmp_path, hold):
    folder = tmp_path / "state"
    dead = hold(folder, "shared")
    alive = hold(folder, "shared")
    dead.kill()
    dead.wait()
    with pytest.raises(UserError) as caught, locked(folder, patience=0):
        pass
    assert f"process {alive.pid} " in str(caught.value)
    assert f"process {dead.pid} " not in str(caught.value)


def test_locks_of_other_folders_are_free(tmp_path, hold):
    hold(tmp_path / "one")
    with locked(tmp_path / "two", patience=0):
        pass


def test_many_who_take_turns_never_meet(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from pgfl.runtime.locks import locked\n"
        "for _ in range(20):\n"
        "    with locked(Path(sys.argv[1]) / 'state', patience=60):\n"
        "        os.close(os.open(sys.argv[1] + '/inside', os.O_CREAT | os.O_EXCL))\n"
        "        os.unlink(sys.argv[1] + '/inside')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_said_and_worked_on(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(locks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", none)
    with locked(tmp_path / "state"):
        pass
    assert "no locks on this file system" in capsys.readouterr().out
