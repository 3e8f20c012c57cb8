"""Open ctapipe's HDF5 files, and report the reason if that fails."""

import contextlib
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

import tables
from ctapipe.core import ToolConfigurationError
from ctapipe.io.hdf5eventsource import COMPATIBLE_DATA_MODEL_VERSIONS

__all__ = [
    "CACHE_BYTES",
    "DAMAGED",
    "DL1FileError",
    "open_input",
    "reading",
    "sha256_of_file",
]

#: HDF5's cache for each table. Tables are read and written from start to end: the
#: default, 16 MiB, would only fill the memory.
CACHE_BYTES = 2**20
#: Message for a file with content that ctapipe does not write.
DAMAGED = "the file is damaged. Make it again, or copy it again"

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DATA_MODEL = "CTA PRODUCT DATA MODEL VERSION"


class DL1FileError(ToolConfigurationError, ValueError):
    """A file cannot be used as input; the message says why."""


def open_input(path):
    """Open a ctapipe file for reading.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    tables.File
        The open file, which is also a context manager.

    Raises
    ------
    DL1FileError
        If it does not exist, is not a file, is locked, cannot be read, or is not a
        file that this version of ctapipe can read; the message says which.
    """
    with reading(path):
        _check_is_hdf5(Path(path))
        file = tables.open_file(path, chunk_cache_size=CACHE_BYTES)
    try:
        with reading(path):
            _check_data_model(path, file)
    except BaseException:
        file.close()
        raise
    return file


def _check_is_hdf5(path):
    if path.is_dir():
        raise DL1FileError(
            f"{path} is a folder, not a file: give the files in it, for example "
            f"'{path}/*.dl1.h5'"
        )
    if not path.exists():
        raise DL1FileError(f"there is no file {path}")
    if not path.is_file():
        raise DL1FileError(f"{path} is not a regular file: HDF5 cannot read it")
    with open(path, "rb") as file:
        signature = file.read(len(_SIGNATURE))
    if not signature:
        raise DL1FileError(f"{path} is empty: make it again, or copy it again")
    if signature != _SIGNATURE:
        raise DL1FileError(f"{path} is not a ctapipe DL1 file (HDF5)")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DL1FileError(
            f"{ascii(str(path))} cannot be opened by PyTables: its name is not UTF-8, "
            "or Python does not read it as UTF-8 (set PYTHONUTF8=1). Rename it, or "
            "make a link with another name"
        ) from None


def _check_data_model(path, file):
    attributes = file.root._v_attrs
    known = COMPATIBLE_DATA_MODEL_VERSIONS
    if _DATA_MODEL not in attributes:
        raise DL1FileError(
            f"{path} is an HDF5 file, but not a DL1 file that this version of ctapipe "
            f"can read: it has no attribute '{_DATA_MODEL}'. Write it with "
            "ctapipe-process"
        )
    found = str(attributes[_DATA_MODEL])
    if found not in known:
        raise DL1FileError(
            f"{path} is not a DL1 file that this version of ctapipe can read: its data "
            f"model is {found}, and ctapipe {version('ctapipe')} reads {known[0]} to "
            f"{known[-1]}. Use the version of ctapipe that wrote the file, or write it "
            "again with this one"
        )


@contextlib.contextmanager
def reading(path):
    """Report the file, and the reason, if something cannot be read.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    DL1FileError
        If something cannot be read.
    """
    try:
        yield
    except (ToolConfigurationError, MemoryError):
        raise
    except Exception as error:
        # On damaged bytes, PyTables, ctapipe and astropy raise errors of any kind.
        raise DL1FileError(f"{path} cannot be read: {_reason(error)}") from error


def _reason(error):
    text = str(error).strip()
    if "unable to lock" in text:
        return (
            "it is locked, most likely because another program is writing it. Wait "
            "until that has finished. On a file system without locks, set the "
            "environment variable HDF5_USE_FILE_LOCKING=FALSE"
        )
    if isinstance(error, PermissionError):
        return "you have no permission to read it"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    last = text.splitlines()[-1] if text else "no reason is given"
    if not isinstance(error, tables.HDF5ExtError):
        last = f"{type(error).__name__}: {last}"
    return (
        f"it is damaged, or was not written completely ({last}). Make it again, or "
        "copy it again"
    )


def sha256_of_file(path):
    """Compute the hash that identifies a file.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.

    Returns
    -------
    str
        Its SHA-256 in hexadecimal digits.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
