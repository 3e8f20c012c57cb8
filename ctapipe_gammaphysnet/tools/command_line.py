"""The command line as users write it, and as traitlets understands it."""

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
        The names with one dash, or with two if they are longer than a letter.
    """
    keys = keys if isinstance(keys, tuple) else (keys,)
    return [f"-{key}" if len(key) == 1 else f"--{key}" for key in keys]


def mark_files(argv, options):
    """Have names of files that begin with a dash not look like options.

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
    """Check that there is no option that the tool does not have.

    Parameters
    ----------
    argv : list of str
        The command line.
    options : collection of str
        All options, with their dashes.

    Raises
    ------
    ToolConfigurationError
        If there is one; the message says what it may have meant.
    """
    for argument in argv:
        name = argument.partition("=")[0]
        if name in options or not re.match("--?[A-Za-z]", name):
            continue
        if name.startswith("--") and "." in name:
            # An option with its section, which is checked with those of files.
            continue
        close = get_close_matches(name, options)
        advice = f"did you mean {' or '.join(close)}?" if close else "see --help"
        if not name.startswith("--"):
            advice += f" (a file of this name is ./{argument})"
        raise ToolConfigurationError(f"there is no option {name}: {advice}")


def repeat_options(argv, options):
    """Repeat options before each of their values.

    ``--seeds 0 1`` and ``--seeds=0 1`` become ``--seeds 0 --seeds 1``: lists can be
    given in each of these ways, where traitlets only understands the last.

    Parameters
    ----------
    argv : list of str
        The command line.
    options : collection of str
        The options that take several values, with their dashes.

    Returns
    -------
    list of str
        The command line as traitlets understands it.
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
    """Say which version this is, and of which host.

    Returns
    -------
    str
        The versions of this package and of ctapipe.
    """
    return ", ".join(f"{n} {version(n)}" for n in ("ctapipe_gammaphysnet", "ctapipe"))
