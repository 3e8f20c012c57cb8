"""One HDF5 file with all that an explanation found."""

import json
import warnings
from contextlib import contextmanager

import tables
from astropy.table import Column
from ctapipe.core import ToolConfigurationError
from ctapipe.io import write_table
from tables.path import check_name_validity

from ..hdf5_output import verified
from .explainer import PRODUCT
from .heatmaps import OUTPUTS
from .images import keys_of_events

__all__ = [
    "FILES",
    "FILE_NAME",
    "LISTING",
    "append_rows",
    "check_group_name",
    "maps_table",
    "open_file",
]

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
#: Entries of lists in the provenance, if all of them do not fit into an attribute.
_KEPT_ENTRIES = 10
#: What fits into an attribute of HDF5.
_MOST_BYTES = 60_000


def check_group_name(name):
    """Check that a model can be called so: its maps are in a group of this name.

    Parameters
    ----------
    name : str
        What the model is called.

    Raises
    ------
    ToolConfigurationError
        If there can be no such group in an HDF5 file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tables.NaturalNameWarning)
            check_name_validity(name)
        if name.startswith("_i_"):
            raise ValueError("object name starts with a reserved prefix")
    except ValueError as error:
        raise ToolConfigurationError(
            f"a model cannot be called {name!r} in {FILE_NAME} ({error}): name it "
            "otherwise, NAME=FILE"
        ) from error


@contextmanager
def open_file(path, provenance):
    """Open a new file to write tables to.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    provenance : dict
        What the tables were made of, and by what: becomes JSON in the attribute
        ``provenance`` of the file. Where there is no room for that, the first entries
        of each list are there, and the number of the others.

    Yields
    ------
    tables.File
        The file.
    """
    text = json.dumps(provenance, default=str)
    if len(text) > _MOST_BYTES:
        text = json.dumps(_shortened(provenance), default=str)
    with (
        warnings.catch_warnings(),
        verified(tables.open_file(path, "w"), path) as file,
    ):
        # Names of models, and ctapipe's names of attributes, are not Python's.
        warnings.simplefilter("ignore", tables.NaturalNameWarning)
        file.root._v_attrs["provenance"] = text
        yield file


def _shortened(value):
    """Cut long lists."""
    if isinstance(value, dict):
        return {key: _shortened(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) and len(value) > _KEPT_ENTRIES:
        more = len(value) - _KEPT_ENTRIES
        return [*map(str, value[:_KEPT_ENTRIES]), f"and {more} more"]
    return value


def append_rows(file, path, table):
    """Write rows to the end of a table, which ctapipe's `read_table` reads.

    Parameters
    ----------
    file : tables.File
        The file.
    path : str
        The table; it is made with the first rows.
    table : astropy.table.Table
        The rows.
    """
    write_table(table, file, path, append=path in file)


def maps_table(events, maps):
    """Put the maps of events into a table.

    Parameters
    ----------
    events : astropy.table.Table
        The events, with the `KEYS`.
    maps : Maps
        Their maps.

    Returns
    -------
    astropy.table.Table
        The `KEYS`; for each output, such as ``energy``, the maps of the members,
        ``energy_members``, shape (n, n_members, n_pixels), their mean and, of several
        members, their standard deviation, ``energy_mean`` and ``energy_std``, shape
        (n, n_pixels); so for attention, ``stage_1`` and so on and their ``product``.
    """
    table = keys_of_events(events)
    for name, values in (maps.heatmaps | maps.attention).items():
        if name in OUTPUTS:
            what, unit = f"heatmap of {OUTPUTS[name].label}", OUTPUTS[name].unit
        elif name == PRODUCT:
            what, unit = "product of the attention maps", "none"
        else:
            what, unit = f"attention map of {name}", "none"
        columns = {"members": values.swapaxes(0, 1), "mean": values.mean(axis=0)}
        if len(values) > 1:
            columns["std"] = values.std(axis=0, ddof=1)
        for part, content in columns.items():
            table[f"{name}_{part}"] = Column(
                content, description=f"{what}, {part}; unit: {unit}"
            )
    return table
