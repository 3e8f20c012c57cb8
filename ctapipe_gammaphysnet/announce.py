"""Warnings that appear once in a run, in our tools and ctapipe's."""

import logging
from functools import cache

__all__ = ["warn_once"]


@cache
def warn_once(message):
    """Warn once, through the logger of the tool that is running.

    Parameters
    ----------
    message : str
        The warning; the same one is not repeated.
    """
    # A tool of ours, or of ctapipe: each has set up, or silenced, its own logger.
    ours = logging.getLogger("ctapipe_gammaphysnet")
    log = ours if ours.hasHandlers() else logging.getLogger("ctapipe")
    log.warning("%s", message)
