"""Command line tools, one ctapipe `Tool` per module."""

import os


def _import_ctapipe():
    """Import ctapipe's compiled code, even if numba cannot cache it.

    ctapipe cannot be imported if numba has no folder for its cache, or if that is full
    or damaged, unless the cache is disabled.
    """
    try:
        import ctapipe.image
    except Exception as error:
        from ctapipe.core import env

        from ..numba_cache import warn_not_kept

        env.CTAPIPE_DISABLE_NUMBA_CACHE = True
        os.environ["CTAPIPE_DISABLE_NUMBA_CACHE"] = "1"  # for child processes
        import ctapipe.image  # noqa: F401

        warn_not_kept(error)


_import_ctapipe()
