"""Terminals that do not know all letters, and texts that could command them."""

import codecs
import sys

__all__ = ["print_anything", "without_commands"]

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


def without_commands(line):
    """Replace what a terminal could take for a command.

    Parameters
    ----------
    line : str
        A line of text, of anybody.

    Returns
    -------
    str
        The same, with U+FFFD for what cannot be printed.
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
