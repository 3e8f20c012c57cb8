"""Compilation of the simulation's functions, kept on disk until a source changes."""

from pathlib import Path

from numba import njit

from ..numba_cache import keep_compiled, stamp_of

__all__ = ["compiled"]

_keep = keep_compiled(
    "Compiling the simulation for this machine: half a minute",
    stamp_of(Path(__file__).parent),
)


def compiled(function):
    """
    Compile a function with numba, and keep the result for other processes.

    Any change of the simulation makes it compile again.

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
