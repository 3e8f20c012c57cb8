"""How a tool ends that is interrupted, or cannot draw its figures."""

import signal
import threading
from contextlib import contextmanager

__all__ = ["end_by_signal", "end_without_figures", "ending_when_terminated"]


@contextmanager
def ending_when_terminated():
    """End cleanly on SIGTERM, from a batch system for example, as on Ctrl-C.

    Yields
    ------
    None
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def _end(number, frame):
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_by_signal(number):
    """End with the exit status of a process that was ended by a signal.

    Parameters
    ----------
    number : int
        The signal.

    Raises
    ------
    KeyboardInterrupt
        If it is the signal of Ctrl-C.
    SystemExit
        Otherwise.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def end_without_figures(log):
    """End with the exit status of a tool that could not draw all figures.

    Parameters
    ----------
    log : logging.Logger
        Where to report it.

    Raises
    ------
    SystemExit
        With status 1.
    """
    log.error("The tables are complete, but not all figures could be drawn")
    raise SystemExit(1)
