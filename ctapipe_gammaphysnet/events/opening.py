"""Open a file of telescope events, of any supported kind."""

from pathlib import Path

from ctapipe.instrument import SubarrayDescription
from ctapipe.io import HDF5EventSource

from ..files.input_file import DL1FileError
from .dl1_file import DL1File
from .lstchain.reader import LSTChainReader
from .reader import EventReader

__all__ = [
    "READERS",
    "check_source",
    "open_events",
    "open_images",
    "read_atmosphere",
    "read_subarray",
]

#: Readers of all kinds of files. The first one that can read a file is used. The last
#: one accepts any file, and reports why it cannot be read.
READERS = (LSTChainReader, DL1File)


def open_events(path, focal_length_choice="EFFECTIVE", needed=("images", "parameters")):
    """Open a file of telescope events.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    focal_length_choice : ctapipe.instrument.FocalLengthKind or str
        Which focal length to use, as in ctapipe's `HDF5EventSource`.
    needed : collection of {"images", "parameters"}
        What the file must have.

    Returns
    -------
    EventReader
        The open file, which is also a context manager.

    Raises
    ------
    DL1FileError
        If it cannot be read, is damaged, or is not a supported kind of file.
    MissingImagesError
        If something needed is missing.
    """
    return _reader_of(path)(path, focal_length_choice, needed)


def open_images(path: Path) -> EventReader:
    """Open a file for `read_images` alone, without checking its tables."""
    return _reader_of(path).open_images(path)


def read_atmosphere(path):
    """Read the atmosphere of a file of simulations.

    Parameters
    ----------
    path : pathlib.Path or None
        The file; None if there is none.

    Returns
    -------
    ctapipe.atmosphere.AtmosphereDensityProfile or None
        The atmosphere; None without a file.

    Raises
    ------
    DL1FileError
        If the file cannot be read, or has no atmosphere.
    """
    if path is None:
        return None
    with open_events(path, "EQUIVALENT", needed=()) as reader:
        atmosphere = reader.read_atmosphere()
    if atmosphere is None:
        raise DL1FileError(
            f"{path} has no atmosphere: give a file that ctapipe-process wrote, before "
            "it was merged"
        )
    return atmosphere


def read_subarray(path: Path) -> SubarrayDescription:
    """Read the telescopes of a file, with their equivalent focal lengths."""
    with open_events(path, "EQUIVALENT", needed=()) as reader:
        return reader.subarray


def check_source(source):
    """Check a file that ctapipe is about to read, as strictly as our own inputs.

    Parameters
    ----------
    source : ctapipe.io.EventSource or None
        The source. Only files of `HDF5EventSource` are checked.

    Raises
    ------
    DL1FileError
        If the file is damaged, or its rows are not in the order that ctapipe assumes.
    """
    if isinstance(source, HDF5EventSource):
        with DL1File(source.input_url, "EQUIVALENT", needed=()) as dl1:
            dl1.check_rows()


def _reader_of(path):
    return next(reader for reader in READERS if reader.can_read(path))
