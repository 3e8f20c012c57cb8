"""Options that take several values, and patterns of files."""

import glob
import os
from pathlib import Path

from ctapipe.core import ToolConfigurationError

__all__ = ["check_name", "expand", "repeat_options"]


def check_name(name):
    """Check that something can be called so in tables.

    Parameters
    ----------
    name : str
        The name, for example of a model: that of its file, if it was given no other.

    Raises
    ------
    ToolConfigurationError
        If it has bytes that are no text, as names of files may have.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ToolConfigurationError(
            f"the name {name!r} has bytes that are no text: give another one, NAME=FILE"
        ) from error


def expand(pattern):
    """Find the files of a pattern.

    Parameters
    ----------
    pattern : str
        Such as ``gamma_*.dl1.h5``; a path without wildcards is a pattern, too.

    Returns
    -------
    list of pathlib.Path
        The files, sorted: at least one.

    Raises
    ------
    ToolConfigurationError
        If there is none.
    """
    paths = [Path(path) for path in sorted(glob.glob(os.path.expanduser(pattern)))]
    if not paths:
        raise ToolConfigurationError(f"there is no file {pattern}")
    return paths


def repeat_options(argv, options):
    """Repeat options before each of their values.

    ``--seeds 0 1`` becomes ``--seeds 0 --seeds 1``: lists can be given either way,
    where traitlets only understands the second.

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
            option, n_values = argument, 0
        elif option in options:
            if n_values > 0:
                repeated.append(option)
            n_values += 1
        repeated.append(argument)
    return repeated
