"""Opening a file of telescope events, of whatever kind it is."""

from ctapipe.io import HDF5EventSource

from ..files.input_file import DL1FileError
from .dl1_file import DL1File

__all__ = [
    "READERS",
    "check_source",
    "open_events",
    "open_images",
    "read_atmosphere",
    "read_subarray",
]

#: Kinds of files, as `EventReader` describes them. The first one that can read a file
#: does so; the last one says what is the matter if none can.
READERS = (DL1File,)


def open_events(path, focal_length_choice="EFFECTIVE", needed=("images", "parameters")):
    """Open a file of telescope events.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    focal_length_choice : ctapipe.instrument.FocalLengthKind or str
        Which focal length to use, as for ctapipe's `HDF5EventSource`.
    needed : collection of {"images", "parameters"}
        What it must have.

    Returns
    -------
    EventReader
        The open file, which is a context manager, too.

    Raises
    ------
    DL1FileError
        If it cannot be read, is damaged, or is of no kind that can be read.
    MissingImagesError
        If something is missing that is needed.
    """
    return _reader_of(path)(path, focal_length_choice, needed)


def open_images(path):
    """Open a file whose events are known already, to read images of some rows.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    EventReader
        The open file, with `read_images` alone, and a context manager, too.

    Raises
    ------
    DL1FileError
        If it cannot be opened.
    """
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
            f"{path} does not say in which atmosphere its showers were simulated: give "
            "a file that ctapipe-process wrote, before it was merged"
        )
    return atmosphere


def read_subarray(path):
    """Read the telescopes of a file.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    ctapipe.instrument.SubarrayDescription
        The telescopes, with their equivalent focal lengths.

    Raises
    ------
    DL1FileError
        If it cannot be read, or is damaged.
    """
    with open_events(path, "EQUIVALENT", needed=()) as reader:
        return reader.subarray


def check_source(source):
    """Check a file that ctapipe is about to read, as all files that we read.

    Parameters
    ----------
    source : ctapipe.io.EventSource or None
        What reads the file. Of sources other than `HDF5EventSource` nothing is known.

    Raises
    ------
    DL1FileError
        If the file is damaged, or rows are not where ctapipe looks for them.
    """
    if isinstance(source, HDF5EventSource):
        with DL1File(source.input_url, "EQUIVALENT", needed=()) as dl1:
            dl1.check_rows()


def _reader_of(path):
    return next(reader for reader in READERS if reader.can_read(path))
