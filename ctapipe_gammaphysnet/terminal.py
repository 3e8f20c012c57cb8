"""Characters that a terminal cannot show, or would treat as commands."""

import codecs
import sys

__all__ = ["print_anything", "without_commands"]

#: ASCII for the other characters in our texts.
_PLAIN = {"γ": "gamma", "…": "...", "±": "+-", "−": "-", "°": " deg", "–": "-"}


def _plain(error):
    part = error.object[error.start]
    plain = _PLAIN.get(part, part.encode("ascii", "backslashreplace").decode())
    return plain, error.start + 1


codecs.register_error("gammaphysnet_plain", _plain)


def print_anything():
    """Let standard output and error accept any character.

    Characters that the terminal does not support are replaced, instead of raising an
    error.
    """
    for stream in (sys.stdout, sys.stderr):
        # Other streams, such as those of notebooks, support all characters.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="gammaphysnet_plain")


def without_commands(line):
    """Replace characters that a terminal could treat as commands.

    Parameters
    ----------
    line : str
        A line of text from anywhere.

    Returns
    -------
    str
        The same, with U+FFFD for characters that cannot be printed.
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
