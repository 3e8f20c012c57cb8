"""The command line as users write it, and as traitlets reads it."""

import os
import re
from difflib import get_close_matches
from importlib.metadata import version

from ctapipe.core import ToolConfigurationError

__all__ = ["check_options", "mark_files", "repeat_options", "versions", "with_dashes"]


def with_dashes(keys):
    """Write options as they are on the command line.

    Parameters
    ----------
    keys : str or tuple of str
        Names of one option.

    Returns
    -------
    list of str
        The names with one dash, or with two if they are longer than one character.
    """
    keys = keys if isinstance(keys, tuple) else (keys,)
    return [f"-{key}" if len(key) == 1 else f"--{key}" for key in keys]


def mark_files(argv, options):
    """Mark names of files that begin with a dash, so that they are not options.

    Parameters
    ----------
    argv : list of str
        The command line.
    options : collection of str
        All options, with their dashes.

    Returns
    -------
    list of str
        The command line with ``./`` before the names of files that exist.
    """
    return [
        f"./{argument}"
        if argument.startswith("-")
        and argument.partition("=")[0] not in options
        and os.path.lexists(argument)
        else argument
        for argument in argv
    ]


def check_options(argv, options):
    """Check that the tool has all options of the command line.

    Parameters
    ----------
    argv, options : list of str
        As for `mark_files`.

    Raises
    ------
    ToolConfigurationError
        If it does not have one; the message suggests similar ones.
    """
    for argument in argv:
        name = argument.partition("=")[0]
        if name in options or not re.match("--?[A-Za-z]", name):
            continue
        if name.startswith("--") and "." in name:
            # An option with its section: checked with those of configuration files.
            continue
        close = get_close_matches(name, options)
        advice = f"did you mean {' or '.join(close)}?" if close else "see --help"
        if not name.startswith("--"):
            advice += f" (a file of this name is ./{argument})"
        raise ToolConfigurationError(f"there is no option {name}: {advice}")


def repeat_options(argv, options):
    """Repeat options before each of their values.

    ``--seeds 0 1`` and ``--seeds=0 1`` become ``--seeds 0 --seeds 1``, the only form
    that traitlets reads.

    Parameters
    ----------
    argv : list of str
        The command line.
    options : collection of str
        The options that take several values, with their dashes.

    Returns
    -------
    list of str
        The command line as traitlets reads it.
    """
    repeated, option, n_values = [], None, 0
    for argument in argv:
        if argument.startswith("-"):
            option, equals, _ = argument.partition("=")
            n_values = int(bool(equals))
        elif option in options:
            if n_values > 0:
                repeated.append(option)
            n_values += 1
        repeated.append(argument)
    return repeated


def versions():
    """List the versions of this package and of its host.

    Returns
    -------
    str
        The versions of this package and of ctapipe.
    """
    return ", ".join(f"{n} {version(n)}" for n in ("ctapipe_gammaphysnet", "ctapipe"))
