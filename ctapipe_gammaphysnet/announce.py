"""What is said once in a run, by modules that serve our tools and ctapipe's."""

import logging
from functools import cache

__all__ = ["warn_once"]


@cache
def warn_once(message):
    """Warn, in the words and at the places of the tool that is running.

    Parameters
    ----------
    message : str
        What to say; a second time it is not said.
    """
    # That is ours, or ctapipe's: each has set up, or silenced, its own logger.
    ours = logging.getLogger("ctapipe_gammaphysnet")
    log = ours if ours.hasHandlers() else logging.getLogger("ctapipe")
    log.warning("%s", message)
