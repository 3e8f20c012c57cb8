"""Inputs of tools: files by patterns, their labels, and names."""

from collections import Counter

from ctapipe.core import ToolConfigurationError

from .paths import find_files, refuse_same_files

__all__ = ["LABELS", "find_inputs", "refuse_same_names", "with_labels"]

#: Label of the particles in each kind of file.
LABELS = {"signal": 0, "background": 1}


def find_inputs(option, patterns):
    """Find the files of a required option.

    Parameters
    ----------
    option : str
        The option, without dashes.
    patterns : list of str
        Paths or patterns.

    Returns
    -------
    list of pathlib.Path
        The files: at least one.

    Raises
    ------
    ToolConfigurationError
        If there is none.
    """
    if not patterns:
        raise ToolConfigurationError(f"give at least one file: --{option} FILE")
    return [path for pattern in patterns for path in find_files(pattern)]


def with_labels(files):
    """Label files.

    Parameters
    ----------
    files : dict of str to list of pathlib.Path
        Those of ``"signal"`` and of ``"background"``.

    Returns
    -------
    list of tuple of pathlib.Path and int
        Each file with its label.

    Raises
    ------
    ToolConfigurationError
        If a file is given twice.
    """
    refuse_same_files([path for paths in files.values() for path in paths])
    return [(path, LABELS[name]) for name, paths in files.items() for path in paths]


def refuse_same_names(names, what, advice):
    """Refuse names that are given twice.

    Parameters
    ----------
    names : iterable of str
        The names.
    what : str
        What has these names, in the plural.
    advice : str
        What the user should do.

    Raises
    ------
    ToolConfigurationError
        If two are the same.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise ToolConfigurationError(f"two {what} are called {name}: {advice}")
