"""What the tables of a DL1 file must have: columns, types, units, transforms.

HDF5 does not notice if the attributes of a table are lost. Charges that are stored as
scaled integers would then be read as unscaled, and radians mistaken for degrees.
"""

import astropy.units as u
import numpy as np
from astropy.table import QTable
from astropy.time import Time
from ctapipe.containers import (
    CameraHillasParametersContainer,
    CameraTimingParametersContainer,
    HillasParametersContainer,
    TimingParametersContainer,
)
from ctapipe.io import read_table
from ctapipe.io.hdf5dataformat import DL1_SUBARRAY_TRIGGER_TABLE as TRIGGER
from ctapipe.io.hdf5dataformat import DL1_TEL_IMAGES_GROUP as IMAGES
from ctapipe.io.hdf5dataformat import DL1_TEL_PARAMETERS_GROUP as PARAMETERS
from ctapipe.io.hdf5dataformat import DL1_TEL_TRIGGER_TABLE as TELESCOPE_TRIGGER
from ctapipe.io.hdf5dataformat import OBSERVATION_BLOCK_TABLE as OBSERVATIONS
from ctapipe.io.hdf5dataformat import SIMULATION_IMAGES_GROUP as TRUE_IMAGES
from ctapipe.io.hdf5dataformat import SIMULATION_RUN_TABLE as RUNS
from ctapipe.io.hdf5dataformat import SIMULATION_SHOWER_TABLE as SHOWERS
from ctapipe.io.hdf5tableio import get_column_attrs

from ..files.input_file import DAMAGED, DL1FileError, reading

__all__ = [
    "IMAGES",
    "OBSERVATIONS",
    "OBSERVATION_COLUMNS",
    "PARAMETERS",
    "POINTING_COLUMNS",
    "RUNS",
    "RUN_COLUMNS",
    "SHOWERS",
    "SHOWER_COLUMNS",
    "TELESCOPE_TRIGGER",
    "TELESCOPE_TRIGGER_COLUMNS",
    "TRIGGER",
    "TRUE_IMAGES",
    "check_image_table",
    "check_parameter_table",
    "check_table",
    "of_telescope",
    "trigger_columns",
]

_EVENT_COLUMNS = {"obs_id": int, "event_id": int}
_TELESCOPE_COLUMNS = {**_EVENT_COLUMNS, "tel_id": int}
TELESCOPE_TRIGGER_COLUMNS = {**_TELESCOPE_COLUMNS, "time": Time}
OBSERVATION_COLUMNS = {
    "obs_id": int,
    "subarray_pointing_lat": u.deg,
    "subarray_pointing_lon": u.deg,
    "subarray_pointing_frame": int,
}
#: Columns of the tables of pointings, fixed or monitored over time.
POINTING_COLUMNS = {
    "fixed": {
        "obs_id": int,
        "tel_id": int,
        "telescope_pointing_altitude": u.deg,
        "telescope_pointing_azimuth": u.deg,
    },
    "monitored": {"time": Time, "altitude": u.deg, "azimuth": u.deg},
}
SHOWER_COLUMNS = {
    **_EVENT_COLUMNS,
    "true_energy": u.TeV,
    "true_alt": u.deg,
    "true_az": u.deg,
    "true_core_x": u.m,
    "true_core_y": u.m,
    "true_h_first_int": u.m,
    "true_shower_primary_id": int,
}
RUN_COLUMNS = {
    "obs_id": int,
    "n_showers": int,
    "shower_reuse": int,
    "energy_range_min": u.TeV,
    "energy_range_max": u.TeV,
    "spectral_index": float,
}
#: Columns with a value for each pixel.
_PIXEL_COLUMNS = {
    "image": float,
    "peak_time": float,
    "image_mask": bool,
    "true_image": float,
}
#: Attributes that turn integers back into charges or times.
_FIXED_POINT = ("TRANSFORM_SCALE", "TRANSFORM_OFFSET")
#: Kinds of dtypes that can hold each type.
_KINDS = {int: "iu", bool: "b", float: "iuf"}
_LOST = "its attributes were lost. Make the file again, or copy it again"


def of_telescope(group, tel_id):
    """Return the path of a telescope's table.

    Parameters
    ----------
    group : str
        Path of a group, such as `IMAGES`.
    tel_id : int
        The telescope.

    Returns
    -------
    str
        Path of its table in the file.
    """
    return f"{group}/tel_{tel_id:03d}"


def trigger_columns(n_telescopes):
    """Return the columns of the table of the array's triggers.

    Parameters
    ----------
    n_telescopes : int
        Number of telescopes of the subarray.

    Returns
    -------
    dict of str to type or tuple
        For `check_table`.
    """
    return {**_EVENT_COLUMNS, "time": Time, "tels_with_trigger": (bool, n_telescopes)}


def check_table(path, file, node, columns):
    """Check that a table has the columns that are needed.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    file : tables.File
        The open file.
    node : str
        Path of the table in the file.
    columns : dict of str to object
        What each column must hold: ``int``, ``bool`` or ``float``; for an array, type
        and number of elements, such as ``(bool, 4)``; ``Time``; or a unit that its own
        can be converted to.

    Raises
    ------
    DL1FileError
        If there is no such table, or a column is missing or holds something else.
    """
    if node not in file:
        raise DL1FileError(f"{path} has no table {node}")
    with reading(path):
        # All rows have the same type.
        rows = read_table(file, node, stop=1, table_cls=QTable)
    for name, expected in columns.items():
        if name not in rows.colnames:
            raise DL1FileError(f"{path}: {node} has no column {name}")
        problem = _problem(rows[name], expected)
        if problem is not None:
            raise DL1FileError(f"{path}: column {name} of {node} {problem}")


def _problem(column, expected):
    """What is wrong with a column, or None."""
    if expected is Time:
        is_time = isinstance(column, Time) and column.ndim == 1
        return None if is_time else f"does not say how times are stored: {_LOST}"
    if isinstance(expected, u.UnitBase):
        unit = getattr(column, "unit", None)
        if unit is None:
            return f"has no unit ({expected}, for example): {_LOST}"
        if not unit.is_equivalent(expected):
            return f"has the unit {unit}, which cannot be converted to {expected}"
        expected = float
    kind, *shape = expected if isinstance(expected, tuple) else (expected,)
    # Times have no dtype.
    dtype = getattr(column, "dtype", np.dtype(object))
    if dtype.kind not in _KINDS[kind]:
        return f"holds {dtype}, not {kind.__name__}"
    if column.shape[1:] != tuple(shape):
        return f"has elements of the shape {column.shape[1:]}, not {tuple(shape)}"
    return None


def check_parameter_table(path, file, node):
    """Check a telescope's table of image parameters.

    Parameters
    ----------
    path, file, node : pathlib.Path, tables.File, str
        As in `check_table`.

    Raises
    ------
    DL1FileError
        If its keys or the intensity are missing, or a column has lost its unit.
    """
    if node not in file:
        raise DL1FileError(f"{path} has no table {node}")
    with reading(path):
        names = file.root[node].colnames
    columns = {n: unit for n, unit in _PARAMETER_UNITS.items() if n in names}
    # Older files have parameters in the camera frame.
    in_camera = "camera_frame_hillas_intensity"
    intensity = in_camera if in_camera in names else "hillas_intensity"
    check_table(path, file, node, {**_TELESCOPE_COLUMNS, intensity: float, **columns})


def _parameter_units():
    """Units of the image parameters in either frame."""
    return {
        f"{container.default_prefix}_{name}": field.unit
        for container in (
            HillasParametersContainer,
            TimingParametersContainer,
            CameraHillasParametersContainer,
            CameraTimingParametersContainer,
        )
        for name, field in container.fields.items()
        if field.unit not in (None, u.one)
    }


_PARAMETER_UNITS = _parameter_units()


def check_image_table(path, file, group, tel_id, n_pixels):
    """Check a telescope's table of images.

    Parameters
    ----------
    path, file : pathlib.Path, tables.File
        As in `check_table`.
    group : {IMAGES, TRUE_IMAGES}
        Path of the table's group.
    tel_id : int
        The telescope.
    n_pixels : int
        Number of pixels of its camera.

    Raises
    ------
    DL1FileError
        If the keys are missing, the images are not of this camera, or integers lack the
        scale that makes them charges or times.
    """
    with reading(path):
        table = file.root[of_telescope(group, tel_id)]
        attributes = get_column_attrs(table)
    for name in _TELESCOPE_COLUMNS:
        _check_type(path, table, name, int)
    # A table of true images may have nothing but the sum of the photoelectrons.
    needed = ("image", "peak_time") if group == IMAGES else ()
    for name, kind in _PIXEL_COLUMNS.items():
        if name in needed or name in table.colnames:
            _check_pixels(path, table, name, tel_id, n_pixels, kind)
    for name in needed:
        if table.dtype[name].base.kind != "f":
            _check_fixed_point(path, table, name, attributes[name])


def _check_type(path, table, name, kind):
    if name not in table.colnames:
        raise DL1FileError(f"{path}: {table._v_pathname} has no column {name}")
    dtype = table.dtype[name].base
    if dtype.kind not in _KINDS[kind]:
        raise DL1FileError(
            f"{path}: column {name} of {table._v_pathname} holds {dtype}, not "
            f"{kind.__name__}"
        )


def _check_pixels(path, table, name, tel_id, n_pixels, kind):
    _check_type(path, table, name, kind)
    shape = table.dtype[name].shape
    if shape != (n_pixels,):
        found = f"{shape[0]} pixels" if len(shape) == 1 else f"the shape {shape}"
        raise DL1FileError(
            f"{path}: {name} in {table._v_pathname} has {found}, but the camera of "
            f"telescope {tel_id} has {n_pixels} pixels. The images are from another "
            "camera, or the file is damaged: make it again, with the telescopes that "
            "took the images"
        )


def _check_fixed_point(path, table, name, attributes):
    """Check that integers can be turned back into charges or times."""
    missing = [key for key in _FIXED_POINT if key not in attributes]
    if attributes.get("TRANSFORM") != "fixed_point" or missing:
        raise DL1FileError(
            f"{path}: column {name} of {table._v_pathname} holds integers "
            f"({table.dtype[name].base}) without the scale that makes them "
            f"{'charges' if name == 'image' else 'times'}: {_LOST}"
        )
    scale, offset = (attributes[key] for key in _FIXED_POINT)
    if not (np.isfinite([scale, offset]).all() and scale > 0):
        raise DL1FileError(
            f"{path}: column {name} of {table._v_pathname} has the scale {scale} and "
            f"the offset {offset}, which is impossible: {DAMAGED}"
        )
