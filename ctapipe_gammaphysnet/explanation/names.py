"""Names of an explanation's files, groups and figures."""

import warnings

import tables
from ctapipe.core import ToolConfigurationError
from tables.path import check_name_validity

from ..events.telescope_events import KEYS

__all__ = ["FILES", "FILE_NAME", "LISTING", "check_group_name", "figure_names"]

#: Name of the file in the output folder.
FILE_NAME = "explanation.h5"
#: Names of all files in that folder, with wildcards, and of the list of those that were
#: written.
FILES = (
    *(FILE_NAME, "statistics_*.ecsv", "robustness.ecsv"),
    *(
        f"{name}.{suffix}"
        for name in (
            *("best[0-9]*_tel*", "worst[0-9]*_tel*", "random[0-9]*_tel*"),
            *("event_*_tel*", "statistics_*", "robustness_*"),
        )
        for suffix in ("png", "pdf")
    ),
)
LISTING = "explanation.files.json"


def check_group_name(name):
    """Check the name of a model: its maps are in a group of this name.

    Parameters
    ----------
    name : str
        Name of the model.

    Raises
    ------
    ToolConfigurationError
        If no group of an HDF5 file can have this name.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tables.NaturalNameWarning)
            check_name_validity(name)
        if name.startswith("_i_"):
            raise ValueError("object name starts with a reserved prefix")
    except ValueError as error:
        raise ToolConfigurationError(
            f"a model cannot be called {name!r} in {FILE_NAME} ({error}): choose "
            "another name, NAME=FILE"
        ) from error


def figure_names(titles, events, paths):
    """Name the figures of images.

    Parameters
    ----------
    titles : list of str
        Beginnings of the names, for example ``best1``.
    events : astropy.table.Table
        Telescope event of each image, with the `KEYS`.
    paths : list of pathlib.Path
        The input files.

    Returns
    -------
    list of str
        The names, without suffix, all different.

    Raises
    ------
    ToolConfigurationError
        If two events of one file have the same numbers.
    """
    names = []
    # Run and event numbers are unique within one file only.
    keys = KEYS if len(paths) > 1 else KEYS[1:]
    for title, event in zip(titles, events, strict=True):
        numbers = (f"{key.removesuffix('_id')}{event[key]}" for key in keys)
        name = "_".join([title, *numbers])
        if name in names:
            raise ToolConfigurationError(
                f"{paths[event['file']]} has event {event['event_id']} of observation "
                f"{event['obs_id']} twice: explain the files it was merged from"
            )
        names.append(name)
    return names
