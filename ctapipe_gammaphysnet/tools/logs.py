"""Logs are appended to files, but never to files of another kind."""

import os

from ctapipe.core import ToolConfigurationError

from ..files.paths import is_same_file

__all__ = ["check_log"]

#: Number of bytes that are checked: binary files have a zero among them.
_LOOKED_AT = 4096


def check_log(option, path, others, start=b""):
    """Check that a log can be appended to a file without harm.

    Parameters
    ----------
    option : str
        Option that names the log.
    path : pathlib.Path
        The log; it need not exist.
    others : iterable of pathlib.Path
        Files that are not logs.
    start : bytes
        First bytes of a log of this kind.

    Raises
    ------
    ToolConfigurationError
        If it is one of the others, or exists but is not a plain text file. The null
        device is allowed.
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
