"""Command line tools, one ctapipe `Tool` per module."""

import os


def _import_ctapipe():
    """Import what numba compiles for ctapipe, even where it cannot be kept.

    ctapipe gives up where numba has no place to keep it, or where that is full or
    damaged, unless it is told not to keep it.
    """
    try:
        import ctapipe.image
    except Exception as error:
        from ctapipe.core import env

        from ..numba_cache import warn_not_kept

        env.CTAPIPE_DISABLE_NUMBA_CACHE = True
        os.environ["CTAPIPE_DISABLE_NUMBA_CACHE"] = "1"  # for processes of this one
        import ctapipe.image  # noqa: F401

        warn_not_kept(error)


_import_ctapipe()
