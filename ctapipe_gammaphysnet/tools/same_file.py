"""Files that are given more than once, whatever they are called."""

import os

from ctapipe.core import ToolConfigurationError

__all__ = ["refuse_same_files"]


def refuse_same_files(paths):
    """Refuse files that are given twice: their images would count twice.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Files that exist.

    Raises
    ------
    ToolConfigurationError
        If two are the same file, by its name, by a symbolic link or by a hard link.
    """
    given = {}
    for path in paths:
        given.setdefault(_identity(path), []).append(path)
    for same in given.values():
        if len(same) > 1:
            names = " and ".join(dict.fromkeys(map(str, same)))
            raise ToolConfigurationError(
                f"{names} {'is' if len(set(same)) == 1 else 'are one file, which is'} "
                f"given {len(same)} times"
            )


def _identity(path):
    status = os.stat(path)
    # Numbers of files are not reliable everywhere: only where there are hard links.
    if status.st_nlink > 1:
        return status.st_dev, status.st_ino
    return os.path.realpath(path)
