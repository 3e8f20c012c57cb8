"""Compiled functions on disk."""

__all__ = ["keep_compiled"]


def keep_compiled(function):
    """Keep what numba compiles for other processes, where there is a place for it.

    That is the folder of the function's source, the environment's ``NUMBA_CACHE_DIR``,
    or the user's cache. Where none can be written, as in some containers on a grid,
    numba would refuse to go on; here each process then compiles for itself.

    Parameters
    ----------
    function : numba.core.dispatcher.Dispatcher
        To be compiled when it is first called.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
        The same.
    """
    try:
        function.enable_caching()
    except RuntimeError:  # "no locator available"
        pass
    return function
