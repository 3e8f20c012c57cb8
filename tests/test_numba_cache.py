"""Compiled functions are kept where that is possible, and never needed."""

import errno
import logging
import os
import random
import subprocess
import sys

import pytest
from numba import njit
from numba.core import caching

from ctapipe_gammaphysnet.announce import warn_once
from ctapipe_gammaphysnet.numba_cache import (
    keep_compiled,
    require_compilation,
    stamp_of,
)

FIRST_TIME = "Compiling, the first time only"
NOT_KEPT = (
    "Compiled code cannot be kept ({}): other runs compile again. Set "
    "NUMBA_CACHE_DIR to a writable folder with free space"
)


def double(x):
    """Some function."""
    return 2 * x


def triple(x):
    """Another one."""
    return 3 * x


def compute():
    """What a process of its own would: two functions, compiled or found."""
    functions = [keep_compiled("Compiling")(njit(f)) for f in (double, triple)]
    assert [function(3) for function in functions] == [6, 9]


class Messages(logging.Handler):
    """Texts that are logged since they were last taken."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        assert record.levelno == logging.WARNING
        self.texts.append(record.getMessage())

    def take(self):
        """What was logged, as if a new process began."""
        taken, self.texts = self.texts, []
        warn_once.cache_clear()
        return taken


@pytest.fixture
def messages(monkeypatch):
    """What a user reads."""
    logger = logging.getLogger("ctapipe_gammaphysnet")
    handler = Messages()
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.WARNING)
    handler.take()
    yield handler
    handler.take()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where numba keeps what it compiles."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    return tmp_path


def test_what_is_compiled_is_kept_and_announced(folder, messages):
    compute()
    assert messages.take() == [FIRST_TIME]
    assert len(list(folder.rglob("*.nbi"))) == 2
    compute()
    assert messages.take() == []


def test_what_was_kept_under_another_stamp_is_not_used(folder, messages):
    for stamp, expected in (("a", [FIRST_TIME]), ("a", []), ("b", [FIRST_TIME])):
        assert keep_compiled("Compiling", stamp)(njit(double))(3) == 6
        assert messages.take() == expected


def test_a_stamp_changes_with_any_source_of_a_folder(tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    stamp = stamp_of(tmp_path)
    (tmp_path / "notes.txt").write_text("x = 2\n")
    assert stamp_of(tmp_path) == stamp
    (tmp_path / "b.py").write_text("x = 2\n")
    assert stamp_of(tmp_path) != stamp


def test_compiles_where_nothing_can_be_kept(messages, monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    reason = "numba finds no writable folder"
    for _ in range(2):
        compute()
        assert messages.take() == ["Compiling", NOT_KEPT.format(reason)]


def test_compiles_where_the_disk_is_full(folder, messages, monkeypatch):
    def replace(old, new):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), new)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", replace)
        for _ in range(2):
            compute()
            expected = [FIRST_TIME, NOT_KEPT.format(os.strerror(errno.ENOSPC))]
            assert messages.take() == expected
    compute()
    assert messages.take() == [FIRST_TIME]


def flipped(content):
    """Content with twenty other bytes in its second half, which is code."""
    start = len(content) * 2 // 3
    rest = content[start:]
    return content[:start] + bytes(255 - byte for byte in rest[:20]) + rest[20:]


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: random.Random(0).randbytes(len(content)),
        flipped,
    ],
    ids=["empty", "truncated", "garbage", "flipped"],
)
def test_what_is_damaged_is_compiled_again(folder, messages, ending, damage):
    compute()
    messages.take()
    for path in folder.rglob(f"*.{ending}"):
        path.write_bytes(damage(path.read_bytes()))
    compute()
    (message,) = messages.take()
    assert message.startswith("Compiling. What was kept in ")
    assert message.endswith(" cannot be used (it is damaged)")
    compute()
    assert messages.take() == []


def test_compiles_where_what_was_kept_cannot_be_opened(folder, messages):
    compute()
    messages.take()
    for path in folder.rglob("*.nbi"):
        path.unlink()
        path.mkdir()
    compute()
    reason = os.strerror(errno.EISDIR)
    message, not_kept = messages.take()
    assert message.endswith(f" cannot be used ({reason})")
    assert not_kept == NOT_KEPT.format(reason)


def test_warns_where_ctapipe_does(messages, monkeypatch):
    """In its own tools, which have set up their logger and not ours."""
    monkeypatch.setattr(logging.getLogger("ctapipe_gammaphysnet"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("ctapipe_gammaphysnet"), "propagate", False)
    ctapipe = logging.getLogger("ctapipe")
    monkeypatch.setattr(ctapipe, "handlers", [messages])
    monkeypatch.setattr(ctapipe, "level", logging.WARNING)
    warn_once("Compiling")
    assert messages.take() == ["Compiling"]


def test_functions_are_as_they_are_without_compilation(monkeypatch):
    require_compilation("this")
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", True)
    assert keep_compiled("Compiling")(njit(double)) is double
    with pytest.raises(ValueError, match="^this needs .* NUMBA_DISABLE_JIT .* or that"):
        require_compilation("this", ", or that")


def run(code, **environment):
    """Run code in a process of its own, and return what it says."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_package_needs_no_place_to_keep_anything():
    code = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
from ctapipe_gammaphysnet.events import preparation
from ctapipe_gammaphysnet.files import chunks
from ctapipe_gammaphysnet.network import kernels
from ctapipe_gammaphysnet.simulation import cascade
"""
    assert run(code) == ""


@pytest.mark.slow
def test_the_tools_need_no_place_to_keep_anything():
    code = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
from ctapipe_gammaphysnet.tools.apply import main
from ctapipe.image import tailcuts_clean
"""
    # It takes less time to compile badly.
    reason = "numba finds no writable folder"
    assert run(code, NUMBA_OPT="0") == NOT_KEPT.format(reason) + "\n"


def test_the_package_can_be_imported_without_compilation():
    code = """
from ctapipe_gammaphysnet.events import preparation
from ctapipe_gammaphysnet.files import chunks
from ctapipe_gammaphysnet.network import kernels
from ctapipe_gammaphysnet.simulation import cascade
"""
    assert run(code, NUMBA_DISABLE_JIT="1") == ""
