"""Paths as users write them: with variables, ``~``, wildcards, and any name.

They mean the same on the command line and in configuration files, for all tools and for
`GammaPhysNetReconstructor` in ``ctapipe-process``. A file that has exactly the name as
written is used; only if there is none are variables, ``~`` and wildcards replaced.
"""

import glob
import os
import re
from pathlib import Path

from ctapipe.core import ToolConfigurationError, traits

__all__ = [
    "FilePath",
    "Names",
    "find_file",
    "find_files",
    "is_same_file",
    "named_models",
    "printable",
    "refuse_same_files",
    "resolve",
]

#: As in `os.path.expandvars`.
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)
#: Beginnings of addresses that ctapipe opens or downloads.
_REMOTE = ("http://", "https://", "dataset://", "file://")
_WILDCARDS = "*?["


def resolve(text):
    """Resolve a path as users write it, whether it exists or not.

    Parameters
    ----------
    text : str or pathlib.Path
        The path as written.

    Returns
    -------
    pathlib.Path
        The absolute path, with variables and ``~`` replaced unless there is a file of
        exactly that name. Wildcards stay.

    Raises
    ------
    ToolConfigurationError
        If it is empty, or has a variable that is not set.
    """
    # File names are written as UTF-8, whatever the encoding of the terminal.
    text = os.fsdecode(os.fspath(text).encode(errors="surrogateescape"))
    if os.path.lexists(text):
        return Path(text).absolute()
    for match in _VARIABLE.finditer(text):
        name = match[1] or match[2]
        if name not in os.environ:
            raise ToolConfigurationError(
                f"the environment variable {name} of the path {text} is not set"
            )
    expanded = os.path.expanduser(os.path.expandvars(text))
    if not expanded or "\0" in expanded:
        raise ToolConfigurationError(f"{text!r} is not a path")
    return Path(expanded).absolute()


def find_files(text):
    """Find the files of a path or pattern.

    Parameters
    ----------
    text : str or pathlib.Path
        Such as ``$DATA/gamma_*.dl1.h5``.

    Returns
    -------
    list of pathlib.Path
        The files, sorted: at least one.

    Raises
    ------
    ToolConfigurationError
        If there is none, or if one is a folder.
    """
    if os.fspath(text).startswith(_REMOTE) and not os.path.lexists(text):
        return [traits.Path().validate(None, text)]
    path = resolve(text)
    # Brackets in the names of existing folders are not wildcards.
    existing = path
    while not os.path.lexists(existing):
        existing = existing.parent
    if existing == path:
        paths = [path]
    elif any(wildcard in str(path) for wildcard in _WILDCARDS):
        rest = str(path.relative_to(existing))
        paths = [existing / name for name in sorted(glob.glob(rest, root_dir=existing))]
    else:
        paths = []
    if not paths:
        raise ToolConfigurationError(_why_missing(path))
    for found in paths:
        if found.is_dir():
            raise ToolConfigurationError(
                f"{found} is a folder: give files, such as '{found}/*'"
            )
        if not os.path.exists(found):
            raise ToolConfigurationError(_why_missing(found))
    return paths


def _why_missing(path):
    try:
        os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            return f"{path} is a link to {os.readlink(path)}, which does not exist"
    except OSError as error:
        return f"{path} cannot be found: {error.strerror}"
    return f"there is no file {path}"


def find_file(text):
    """Find the one file of a path or pattern.

    Parameters
    ----------
    text : str or pathlib.Path
        The path or pattern.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ToolConfigurationError
        If there is none, or if there are several.
    """
    paths = find_files(text)
    if len(paths) > 1:
        raise ToolConfigurationError(
            f"{text} matches {len(paths)} files, {paths[0].name} and others: give one"
        )
    return paths[0]


def named_models(text):
    """Find model files and their names.

    Parameters
    ----------
    text : str
        A path or pattern, or ``NAME=FILE``. A file that has the whole text as its name
        wins.

    Returns
    -------
    list of tuple of str and pathlib.Path
        Name and path of each model.

    Raises
    ------
    ToolConfigurationError
        If there is no such file.
    """
    try:
        return [(printable(path.stem), path) for path in find_files(text)]
    except ToolConfigurationError as error:
        problem = error
    for match in re.finditer("=", text):
        name, file = text[: match.start()], text[match.end() :]
        try:
            return [(printable(name), find_file(file))]
        except ToolConfigurationError as error:
            if "/" not in name:
                problem = ToolConfigurationError(f"{error}, to be called {name}")
    raise problem


def is_same_file(path, other):
    """Check whether two paths lead to the same file, through any links.

    Parameters
    ----------
    path, other : pathlib.Path
        The paths; they need not exist.

    Returns
    -------
    bool
        Whether writing to one changes the other.
    """
    if os.path.exists(path) and os.path.exists(other):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


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
    # Inode numbers are not reliable everywhere: use them only for hard links.
    if status.st_nlink > 1:
        return status.st_dev, status.st_ino
    return os.path.realpath(path)


def printable(text):
    """Make text of unknown origin printable on one line.

    Parameters
    ----------
    text : str
        Such as the name of a file.

    Returns
    -------
    str
        The text, with ``\\`` and a number for control characters and for bytes that are
        not UTF-8.
    """
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character):
    # Python keeps bytes of names that are not UTF-8 as U+DC80 to U+DCFF.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


class FilePath(traits.Path):
    """Path of a file or folder, of any name.

    ctapipe's own trait treats what follows ``?``, ``#`` or ``:`` in a name as part of
    a URL, and does not expand ``~``.
    """

    def from_string(self, s):
        """Take a text from the command line as it is."""
        return s

    def validate(self, obj, value):
        """Return the absolute path; it is a TraitError if it does not fit the trait."""
        if isinstance(value, bytes):
            value = os.fsdecode(value)
        if not isinstance(value, str | Path):
            # None, or something that is not a path.
            return super().validate(obj, value)
        try:
            path = find_file(value) if self._must_be_file() else resolve(value)
        except ToolConfigurationError as error:
            raise self._error(obj, error) from error
        if os.path.isdir(path) and not self.directory_ok:
            raise self._error(obj, f"{path} is a folder")
        if os.path.isfile(path) and not self.file_ok:
            raise self._error(obj, f"{path} is a file, not a folder")
        return path

    def _must_be_file(self):
        return self.exists and not self.directory_ok

    def _error(self, obj, why):
        return traits.TraitError(f"{type(obj).__name__}.{self.name}: {why}")


class Names(traits.List):
    """List of texts, kept as they are: brackets and quotes are part of them.

    Parameters
    ----------
    **kwargs
        As for `traitlets.List`.
    """

    def __init__(self, **kwargs):
        super().__init__(traits.Unicode(), **kwargs)

    def from_string_list(self, s_list):
        """Take texts from the command line as they are."""
        return list(s_list)
