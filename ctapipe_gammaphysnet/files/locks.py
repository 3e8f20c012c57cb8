"""Locks: files for one process at a time."""

import contextlib
import fcntl
import hashlib
import os

__all__ = ["locked"]

#: A lock has the name of its file, unless that is longer.
_LONGEST_NAME_BYTES = 100


@contextlib.contextmanager
def locked(path, wait=True):
    """Let one process at a time use a file.

    The lock is a file next to it, ``PATH.lock`` (for a long name, its checksum), which
    is removed with the lock. If the process dies, so does its lock.

    Parameters
    ----------
    path : pathlib.Path
        The file; it need not exist.
    wait : bool
        Whether to wait for another process that has the lock.

    Yields
    ------
    None
        When it is this process's turn.

    Raises
    ------
    BlockingIOError
        If another process has the lock, and ``wait`` is False.
    OSError
        If the file system does not support locks, or cannot be written to.
    """
    lock = path.with_name(f"{_short(path.name)}.lock")
    file = _acquire(lock, wait)
    try:
        yield
    finally:
        # Before the lock is released: after that, the file may be another process's.
        lock.unlink(missing_ok=True)
        file.close()


def _short(name):
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME_BYTES:
        return name
    return hashlib.sha256(encoded).hexdigest()


def _acquire(lock, wait):
    how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        file = open(lock, "w")
        try:
            fcntl.flock(file, how)
        except BaseException:
            file.close()
            raise
        # If the last owner has removed the lock's file, this one locks nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                return file
        file.close()
