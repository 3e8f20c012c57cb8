"""Locks: what only one process at a time may do."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from ctapipe_gammaphysnet.files.locks import locked

HOLD_LOCK = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_file_is_locked_for_other_processes(tmp_path):
    path = tmp_path / "model.safetensors"
    entered = threading.Event()

    def enter():
        with locked(path):
            entered.set()

    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, tmp_path / "model.safetensors.lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"locked\n"
        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.wait(0.3)
        process.stdin.close()
        assert entered.wait(10)
    waiting.join()
    # Neither the lock's holder nor an error leaves it locked.
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    enter()
    assert list(tmp_path.iterdir()) == []


def test_another_process_need_not_be_waited_for(tmp_path):
    path = tmp_path / "member.ckpt"
    with locked(path), pytest.raises(BlockingIOError), locked(path, wait=False):
        pass
    with locked(path, wait=False):
        pass


def test_nobody_enters_together(tmp_path):
    """Though the lock's file is removed and made anew all the time."""
    path = tmp_path / "model.safetensors"
    inside, most = 0, 0

    def enter():
        nonlocal inside, most
        for _ in range(50):
            with locked(path):
                inside += 1
                most = max(most, inside)
                time.sleep(1e-3)  # for others to come in, if they can
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_long_names_can_be_locked(tmp_path):
    path, other = tmp_path / ("γ" * 127), tmp_path / ("γ" * 126)
    path.touch()
    with locked(path), locked(other, wait=False):
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass


def test_a_file_system_without_locks_says_so(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="No locks"), locked(tmp_path / "model"):
        pass
