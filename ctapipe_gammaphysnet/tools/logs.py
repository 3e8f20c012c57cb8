"""Logs, which are added to: never to files of another kind."""

import os

from ctapipe.core import ToolConfigurationError

from ..files.paths import is_same_file

__all__ = ["check_log"]

#: Bytes that are looked at: binary files have a zero among them.
_LOOKED_AT = 4096


def check_log(option, path, others, start=b""):
    """Check that a log can be added to a file without harm to anything.

    Parameters
    ----------
    option : str
        What the log is given by.
    path : pathlib.Path
        The log; it need not exist.
    others : iterable of pathlib.Path
        Files that are no logs.
    start : bytes
        What a log of this kind begins with.

    Raises
    ------
    ToolConfigurationError
        If it is one of the others, or exists and is not a log: no plain file, or not
        text. The null device is allowed.
    """
    for other in others:
        if is_same_file(path, other):
            raise ToolConfigurationError(
                f"{option}: {path} is another file of this run. Give another path"
            )
    if not os.path.exists(path) or os.path.samefile(path, os.devnull):
        return
    if not os.path.isfile(path):
        raise ToolConfigurationError(
            f"{option}: {path} is not a plain file. Give the path of a file"
        )
    try:
        with open(path, "rb") as file:
            content = file.read(_LOOKED_AT)
    except OSError as error:
        raise ToolConfigurationError(
            f"{option}: {path} cannot be read: {error.strerror}"
        ) from error
    if b"\0" in content or (content and not content.lstrip().startswith(start)):
        raise ToolConfigurationError(
            f"{option}: {path} exists and is not a log: nothing is added to it. Give "
            "another path"
        )
