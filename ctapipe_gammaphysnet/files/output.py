"""Outputs appear whole, under their name, and do no harm to other files.

A file is written under a temporary name in its folder, and gets its own when it is
complete. A link is followed: its target is replaced. In a folder, files are replaced or
removed only if they are in the list that was left there when they were written.

Outputs of all kinds are checked before anything is computed (`check_file`,
`check_folder`), and written by `whole_file`. `write_whole` writes a file of known
content, and `whole_folder` the files of a folder, by the same rules.
"""

import contextlib
import fcntl
import glob
import json
import os
import secrets
import shutil
import stat
from fnmatch import fnmatchcase
from pathlib import Path

import tables
from ctapipe.core import ToolConfigurationError

from .paths import is_same_file

__all__ = [
    "OutputError",
    "check_file",
    "check_folder",
    "real_path",
    "remove_unfinished",
    "trial_path",
    "whole_file",
    "whole_folder",
    "write_whole",
    "writing",
]

#: Bytes of a file's name in its temporary name: all file systems allow that many.
_REPEATED_BYTES = 100
#: Suffix of temporary names.
_UNFINISHED = ".part"


class OutputError(ToolConfigurationError, ValueError):
    """An output cannot be written; the message says why."""


class _MeanwhileError(OutputError):
    """Another program has written the output."""


@contextlib.contextmanager
def writing(path):
    """Report the output, and the reason, if something cannot be written.

    Parameters
    ----------
    path : pathlib.Path
        The output.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    try:
        yield
    except (tables.HDF5ExtError, OSError) as error:
        reason = getattr(error, "strerror", None)
        if reason is None:
            # HDF5 gives no reason.
            last_line = str(error).strip().splitlines()[-1]
            reason = f"is the disk full? ({last_line})"
        raise OutputError(f"{path} cannot be written: {reason}") from error


def real_path(path):
    """Follow links to where an output is to be written.

    Parameters
    ----------
    path : pathlib.Path
        The output, which need not exist.

    Returns
    -------
    pathlib.Path
        Its absolute path, without links.

    Raises
    ------
    OutputError
        If there is no such place: links in a circle, or a file instead of a folder.
    """
    real = Path(os.path.realpath(path))
    try:
        os.stat(real)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(
            f"{path} cannot be an output: {error.strerror}. Give another path"
        ) from error
    return real


def check_file(path, inputs=()):
    """Check that a file can be written, before hours are spent on its content.

    Parameters
    ----------
    path : pathlib.Path
        The file; it may exist, or be a link.
    inputs : iterable of pathlib.Path
        Files that must stay as they are.

    Raises
    ------
    OutputError
        If it is not a plain file (a folder, a device, a socket), if it is one of the
        inputs, under any name, if another program is writing it, or if its folder is
        not writable.
    """
    real = real_path(path)
    _refuse_special(real, path)
    _refuse_input(real, path, inputs)
    if real.exists() and _is_being_written(real):
        raise OutputError(
            f"{path} is locked: another program is writing it. Wait until that has "
            "finished, or give another path"
        )
    if not real.parent.is_dir():
        raise OutputError(
            f"cannot write into {real.parent}, the folder of the output {path}: "
            "there is no such folder"
        )
    _try_folder(real.parent, path)


def _refuse_special(real, path):
    """Refuse an existing path that is not a plain file."""
    if real.exists() and not real.is_file():
        raise OutputError(
            f"{path} is {_kind(real)}, which is not replaced: give the path of a file"
        )


def _is_being_written(path):
    """Whether another program has locked a file to write it, as HDF5 does."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # Some file systems have no locks; and an unreadable file can be replaced.
        return False
    return False


def _kind(path):
    """Name the kind of a path that is not a plain file."""
    mode = os.stat(path).st_mode
    kinds = {
        "a folder": stat.S_ISDIR,
        "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
    }
    return next((name for name, is_kind in kinds.items() if is_kind(mode)), "a file")


def _refuse_input(real, path, inputs):
    """Refuse an output that is an input, or another name (hard link) of it."""
    for other in inputs:
        if is_same_file(real, other):
            raise OutputError(f"{path} is an input: it is not changed")


def _try_folder(folder, path):
    """Check by trial whether a file can be made in a folder."""
    trial = trial_path(folder)
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder}, the folder of the output {path}: "
            f"{error.strerror}"
        ) from error


def _temporary(path):
    """Make up a name in the same folder that no other process uses."""
    return path.with_name(f"{_repeated(path)}.{secrets.token_hex(4)}{_UNFINISHED}")


def _repeated(path):
    return os.fsencode(path.name)[:_REPEATED_BYTES].decode(errors="ignore")


def trial_path(folder):
    """Make up a file name for a trial of writing.

    Parameters
    ----------
    folder : pathlib.Path
        Where to write it.

    Returns
    -------
    pathlib.Path
        A path that does not exist.
    """
    return _temporary(folder / "trial")


def remove_unfinished(path):
    """Remove unfinished versions of a file, left by processes that were killed.

    Parameters
    ----------
    path : pathlib.Path
        The file. No other process may be writing it.
    """
    pattern = f"{glob.escape(_repeated(path))}.*{_UNFINISHED}"
    for unfinished in path.parent.glob(pattern):
        unfinished.unlink()


@contextlib.contextmanager
def whole_file(path, replace=False):
    """Make a file that appears whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file. Its folder must exist; a file of that name is replaced, and so is
        the target of a link.
    replace : bool
        Whether to replace also a file that appears there meanwhile.

    Yields
    ------
    pathlib.Path
        Where to write it: a temporary name in the same folder, which ends in
        ``.part``. The file gets its own name when the context is left without error,
        and is removed otherwise.

    Raises
    ------
    OutputError
        If the path is not a plain file, or the disk is full; or if another file
        appeared there meanwhile: it stays, and the new one keeps its temporary name.
    """
    real = real_path(path)
    _refuse_special(real, path)
    replace = replace or real.exists()
    temporary = _temporary(real)
    try:
        yield temporary
        with writing(path):
            _refuse_special(real, path)
            if not _take_name(temporary, real, replace):
                raise _MeanwhileError(
                    f"{path} was written meanwhile by another program: it stays, and "
                    f"the new file is {temporary}"
                )
    except BaseException as error:
        if not isinstance(error, _MeanwhileError):
            temporary.unlink(missing_ok=True)
        raise


def _sync(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _take_name(temporary, real, replace):
    """Give a file its name once it is on disk, unless another one must stay."""
    _sync(temporary)
    if replace:
        os.replace(temporary, real)
        return True
    try:
        os.link(temporary, real)
    except FileExistsError:
        return False
    except OSError:
        # Some file systems have no hard links.
        if real.exists():
            return False
        os.replace(temporary, real)
    else:
        temporary.unlink()
    return True


def write_whole(path, content):
    """Write a file of known content, whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file, as for `whole_file`.
    content : bytes
        What to write; it is read back before the file gets its name.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    # This takes a moment; if several processes do it at once, the last one wins.
    with whole_file(path, replace=True) as temporary, writing(path):
        temporary.write_bytes(content)
        if temporary.read_bytes() != content:
            raise OutputError(f"{path} cannot be written: is the disk full?")


def check_folder(path, listing, patterns, inputs=(), overwrite=True):
    """Check that files can be written into a folder without losing others.

    Parameters
    ----------
    path : pathlib.Path or None
        The folder; it may exist, with other files, or be a link. None is an error.
    listing : str
        Name of the file in it that lists what was written before.
    patterns : iterable of str
        Names that may be written, with wildcards.
    inputs : iterable of pathlib.Path
        Files that must stay as they are.
    overwrite : bool
        Whether files that were written here before may be replaced.

    Raises
    ------
    OutputError
        If it is not a writable folder, or if something in it has a name that may be
        written, but is not in the list, not a plain file, or an input; without
        ``overwrite`` also if it has a file that is in the list.
    """
    if path is None:
        raise OutputError("give the folder to write: --output-dir FOLDER")
    real = real_path(path)
    if not real.exists():
        check_file(path)
        return
    if not real.is_dir():
        raise OutputError(
            f"{path} is {_kind(real)}, not a folder, and is not replaced: give the "
            "path of a folder"
        )
    ours = _listed(real, listing, patterns)
    for entry in sorted(real.iterdir()):
        if not _may_be_written(entry.name, patterns):
            continue
        if entry.name not in ours:
            raise OutputError(
                f"{entry} would be replaced, but is not one of the files that were "
                f"written here before ({listing}): move it, or choose another folder"
            )
        _refuse_input(entry, entry, inputs)
    if ours and not overwrite:
        raise OutputError(
            f"{path} has files that were written here before ({listing}): replace "
            "them with --overwrite, or choose another folder"
        )
    _try_folder(real, path)


def _may_be_written(name, patterns):
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _listed(folder, listing, patterns):
    """Names of the plain files in a folder that were written here before."""
    path = folder / listing
    if not os.path.lexists(path):
        return set()
    problem = OutputError(
        f"{path} does not list the files that were written here before: move it, or "
        "choose another folder"
    )
    if not _is_plain(path):
        raise problem
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise problem from error
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise problem
    # The list may be from anywhere: of its names, only files in this folder count, and
    # only names that may be written here.
    present = {entry.name for entry in folder.iterdir() if _is_plain(entry)}
    return {n for n in present & set(names) if _may_be_written(n, patterns)}


def _is_plain(path):
    return stat.S_ISREG(os.lstat(path).st_mode)


@contextlib.contextmanager
def whole_folder(path, listing, patterns, overwrite=True):
    """Write the files of a folder, which appear when all are complete.

    Files that were written there before are removed; other files stay.

    Parameters
    ----------
    path : pathlib.Path
        The folder. It is made if it does not exist; its parent must exist.
    listing : str
        Name of the file in it that lists what was written.
    patterns : iterable of str
        Names that may be written, with wildcards.
    overwrite : bool
        Whether files that were written there before may be replaced.

    Yields
    ------
    pathlib.Path
        Where to write the files: a temporary folder, which is removed at the end.

    Raises
    ------
    OutputError
        If the files cannot be written, or would replace other files, or files that may
        not be replaced: in these two cases they stay in the temporary folder.
    """
    real = real_path(path)
    is_new = not real.exists()
    # An existing folder may be a disk of its own: the temporary one must be inside it.
    temporary = _temporary(real if is_new else real / "new")
    with writing(path):
        temporary.mkdir()
    try:
        yield temporary
        names = {entry.name for entry in temporary.iterdir()}
        unexpected = {name for name in names if not _may_be_written(name, patterns)}
        assert not unexpected, f"not among the names to write: {unexpected}"
        with writing(path):
            if is_new and not real.exists():
                _write_listing(temporary / listing, names)
                for name in names:
                    _sync(temporary / name)
                os.rename(temporary, real)
            else:
                ours = _listed(real, listing, patterns)
                replaced = ours if overwrite else set()
                _refuse_new(temporary, real, (names | ours) - replaced)
                _replace_files(temporary, real, listing, names, ours)
    except BaseException as error:
        if not isinstance(error, _MeanwhileError):
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(temporary, ignore_errors=True)


def _refuse_new(source, folder, names):
    """Refuse to replace files that were not checked beforehand."""
    for name in sorted(names):
        if os.path.lexists(folder / name):
            raise _MeanwhileError(
                f"{folder / name} was written meanwhile by another program: it stays, "
                f"and the new files are in {source}"
            )


def _replace_files(source, folder, listing, names, ours):
    """Move files into a folder, replacing those that were written there before."""
    # All are listed first, in case this is interrupted.
    _write_listing(folder / listing, names | ours)
    for name in ours - names:
        (folder / name).unlink()
    for name in names:
        _take_name(source / name, folder / name, replace=True)
    _write_listing(folder / listing, names)


def _write_listing(path, names):
    text = json.dumps({"files": sorted(names)}, indent=1)
    write_whole(path, text.encode())
