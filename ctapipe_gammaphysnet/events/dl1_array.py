"""The telescopes of a file: their positions, cameras and optics are checked."""

import astropy.units as u
import numpy as np
import tables
from astropy.table import QTable
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import read_table

from ..files.input_file import DAMAGED, DL1FileError, reading
from .dl1_format import check_table

__all__ = ["subarray_of"]

_INSTRUMENT = "/configuration/instrument"
_LAYOUT = f"{_INSTRUMENT}/subarray/layout"
_OPTICS = f"{_INSTRUMENT}/telescope/optics"
_CAMERAS = f"{_INSTRUMENT}/telescope/camera"
#: Units of the columns that predictions and comparisons of telescopes need.
_UNITS = {
    "pos_x": u.m,
    "pos_y": u.m,
    "pos_z": u.m,
    "mirror_area": u.m**2,
    "equivalent_focal_length": u.m,
    "effective_focal_length": u.m,
    "pix_x": u.m,
    "pix_y": u.m,
    "pix_area": u.m**2,
}
#: No telescope is further from the array's centre.
_MAX_DISTANCE = 100 * u.km


def subarray_of(path, file, focal_length_choice):
    """Read the telescopes of an open file.

    Parameters
    ----------
    path, file : pathlib.Path, tables.File
        As in `check_table`.
    focal_length_choice : ctapipe.instrument.FocalLengthKind or str
        Which focal length to use, as for ctapipe's `HDF5EventSource`.

    Returns
    -------
    ctapipe.instrument.SubarrayDescription
        The telescopes.

    Raises
    ------
    DL1FileError
        If they cannot be read, have lost their units, have impossible positions, or
        have no such focal length.
    """
    with reading(path):
        _check_tables(path, file)
        try:
            return SubarrayDescription.from_hdf(
                file, focal_length_choice=focal_length_choice
            )
        except RuntimeError as error:
            if isinstance(error, tables.HDF5ExtError):
                raise
            raise DL1FileError(f"{path}: {error}") from error


def _check_tables(path, file):
    """Check values that ctapipe reads without checks."""
    cameras = file.root[_CAMERAS]._f_iter_nodes("Table") if _CAMERAS in file else []
    geometries = [t._v_pathname for t in cameras if t.name.startswith("geometry_")]
    for node in (_LAYOUT, _OPTICS, *geometries):
        if node in file:
            names = file.root[node].colnames
            units = {name: unit for name, unit in _UNITS.items() if name in names}
            check_table(path, file, node, units)
    if _LAYOUT in file:
        _check_layout(path, read_table(file, _LAYOUT, table_cls=QTable))
    if _OPTICS in file:
        # ctapipe makes the key of a telescope type from it.
        area = read_table(file, _OPTICS, table_cls=QTable)["mirror_area"]
        if not np.isfinite(area).all():
            raise DL1FileError(
                f"{path}: {_OPTICS} has a mirror_area that is not finite: {DAMAGED}"
            )


def _check_layout(path, layout):
    """Check that each telescope appears once, at a possible position."""
    tel_id, counts = np.unique(layout["tel_id"], return_counts=True)
    if np.any(counts > 1):
        # ctapipe would use the last one.
        raise DL1FileError(
            f"{path}: {_LAYOUT} has telescopes {tel_id[counts > 1].tolist()} several "
            f"times: {DAMAGED}"
        )
    positions = u.Quantity([layout[name] for name in ("pos_x", "pos_y", "pos_z")])
    # Finds positions that are not finite, too.
    lost = layout["tel_id"][~np.all(np.abs(positions) < _MAX_DISTANCE, axis=0)]
    if len(lost) > 0:
        raise DL1FileError(
            f"{path}: {_LAYOUT} has impossible positions of telescopes "
            f"{lost.tolist()}: {DAMAGED}"
        )
