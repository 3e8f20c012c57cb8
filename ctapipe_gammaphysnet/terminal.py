"""Terminals that do not know all letters."""

import codecs
import sys

__all__ = ["print_anything"]

#: What our texts have that is not ASCII.
_PLAIN = {"γ": "gamma", "…": "...", "±": "+-", "−": "-", "°": " deg", "–": "-"}


def _plain(error):
    part = error.object[error.start]
    plain = _PLAIN.get(part, part.encode("ascii", "backslashreplace").decode())
    return plain, error.start + 1


codecs.register_error("gammaphysnet_plain", _plain)


def print_anything():
    """Let standard output and error have any letter, whatever the terminal knows.

    Letters that it does not know are written in others, in place of an error.
    """
    for stream in (sys.stdout, sys.stderr):
        # Others, such as those of notebooks, know all letters.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="gammaphysnet_plain")
