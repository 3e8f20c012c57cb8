"""How an output appears: whole, under its name, and in nobody's way.

A file is written under another name in its folder, and gets its own when it is
complete. A link is followed: what it points to is replaced. In a folder only files are
replaced or removed that are in the list which was left there when they were written.

Outputs are checked before anything is computed (`check_file`, `check_folder`), and
written by `whole_file`, whatever kind they are of: `write_whole` and `whole_folder`
write files of known content, and the files of a folder, by the same rules.
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

#: How much of a file's name its temporary name repeats: no file system allows fewer.
_REPEATED_BYTES = 100
#: What temporary names end in.
_UNFINISHED = ".part"


class OutputError(ToolConfigurationError, ValueError):
    """An output cannot be written; the message says why."""


class _MeanwhileError(OutputError):
    """Another program has written the output."""


@contextlib.contextmanager
def writing(path):
    """Say which output it is if something cannot be written.

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
            # HDF5 does not say.
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
        If there is no such place: links in a circle, or a file in place of a folder.
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
    """Check that a file can be written, before it takes hours to make its content.

    Parameters
    ----------
    path : pathlib.Path
        The file; it may exist, or be a link.
    inputs : iterable of pathlib.Path
        Files that must stay as they are.

    Raises
    ------
    OutputError
        If it is no plain file (a folder, a device, a socket), if it is one of the
        inputs, under whatever name, if another program is writing it, or if its folder
        cannot be written to.
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
    """Refuse what is there if it is no plain file."""
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
        # Some file systems have no locks; and what cannot be read can be replaced.
        return False
    return False


def _kind(path):
    """What something is called that is no plain file."""
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
    """Try whether a file can be made in a folder."""
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
    """Another name in the same folder, of which no other process thinks."""
    return path.with_name(f"{_repeated(path)}.{secrets.token_hex(4)}{_UNFINISHED}")


def _repeated(path):
    return os.fsencode(path.name)[:_REPEATED_BYTES].decode(errors="ignore")


def trial_path(folder):
    """Make up the name of a file with which writing is tried.

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
    """Remove what is left of a file by processes that were killed while they wrote it.

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
        what a link of that name points to.
    replace : bool
        Whether that goes for a file which is put there meanwhile, too.

    Yields
    ------
    pathlib.Path
        Where to write it: under another name in the same folder, which ends in
        ``.part``. It gets its own name when the context is left without error, and is
        removed otherwise.

    Raises
    ------
    OutputError
        If there is something else than a plain file, or the disk is full; if something
        was put there meanwhile, which stays: then what was written keeps its other
        name.
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
                    f"{path} was put there meanwhile: it stays, and what was to be "
                    f"written there is in {temporary}"
                )
    except BaseException as error:
        if not isinstance(error, _MeanwhileError):
            temporary.unlink(missing_ok=True)
        raise


def _sync(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _take_name(temporary, real, replace):
    """Give a file its name, once it is on the disk; not if another one must stay."""
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
        What to write; it is read again before the file gets its name.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    # Written in a moment; of processes that do so at once the last one wins.
    with whole_file(path, replace=True) as temporary, writing(path):
        temporary.write_bytes(content)
        if temporary.read_bytes() != content:
            raise OutputError(f"{path} cannot be written: is the disk full?")


def check_folder(path, listing, patterns, inputs=(), overwrite=True):
    """Check that files can be written into a folder, and that none is lost by it.

    Parameters
    ----------
    path : pathlib.Path
        The folder; it may exist, with files of others, or be a link.
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
        If it is no folder, if it cannot be written to, or if it has something of a
        name that may be written, which is not in the list, no plain file, or an input;
        without ``overwrite`` also if it has a file that is in the list.
    """
    real = real_path(path)
    if not real.exists():
        check_file(path)
        return
    if not real.is_dir():
        raise OutputError(
            f"{path} is {_kind(real)}, not a folder, and not replaced: give the path "
            "of a folder"
        )
    ours = _listed(real, listing, patterns)
    for entry in sorted(real.iterdir()):
        if not _may_be_written(entry.name, patterns):
            continue
        if entry.name not in ours:
            raise OutputError(
                f"{entry} would be replaced, but is not of those files that were "
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
    # Whoever wrote the list: it can name files of this folder only, and only such as
    # are written here.
    present = {entry.name for entry in folder.iterdir() if _is_plain(entry)}
    return {n for n in present & set(names) if _may_be_written(n, patterns)}


def _is_plain(path):
    return stat.S_ISREG(os.lstat(path).st_mode)


@contextlib.contextmanager
def whole_folder(path, listing, patterns, overwrite=True):
    """Write the files of a folder, which appear when all are complete.

    Files that were written there before go; files of others stay.

    Parameters
    ----------
    path : pathlib.Path
        The folder. It is made if it does not exist; its own folder must exist.
    listing : str
        Name of the file in it that lists what was written.
    patterns : iterable of str
        Names that may be written, with wildcards.
    overwrite : bool
        Whether files that were written there before may be replaced.

    Yields
    ------
    pathlib.Path
        Where to write the files: in another folder, which is removed at the end.

    Raises
    ------
    OutputError
        If the files cannot be written, or would replace files of others, or files that
        may not be replaced: in these cases they stay in the other folder.
    """
    real = real_path(path)
    is_new = not real.exists()
    # A folder that exists may be a disk of its own: then only inside it.
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
    """Refuse to replace files that nobody looked at beforehand."""
    for name in sorted(names):
        if os.path.lexists(folder / name):
            raise _MeanwhileError(
                f"{folder / name} was put there meanwhile: it stays, and what was "
                f"to be written there is in {source}"
            )


def _replace_files(source, folder, listing, names, ours):
    """Move files into a folder, in place of those that were written there before."""
    # All in the list, in case that this is interrupted.
    _write_listing(folder / listing, names | ours)
    for name in ours - names:
        (folder / name).unlink()
    for name in names:
        _take_name(source / name, folder / name, replace=True)
    _write_listing(folder / listing, names)


def _write_listing(path, names):
    text = json.dumps({"files": sorted(names)}, indent=1)
    write_whole(path, text.encode())
