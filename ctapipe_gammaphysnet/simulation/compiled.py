"""Compilation of the simulation's functions, kept on disk until a source changes."""

from hashlib import sha256
from pathlib import Path

from numba import njit

from ..numba_cache import keep_compiled

__all__ = ["compiled"]

_SOURCES = sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


_keep = keep_compiled(
    "Compiling the simulation for this machine: half a minute", _SOURCES
)


def compiled(function):
    """
    Compile a function with numba, and keep the result for other processes.

    numba compiles again if the file of a function has changed, but not if functions or
    constants from other files have, which it has built in. Here any change of the
    simulation makes it compile again.

    Parameters
    ----------
    function : callable
        To be compiled when it is first called.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
        The compiled function.
    """
    return _keep(njit(function))
