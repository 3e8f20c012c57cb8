"""What the tables of a DL1 file must have: columns, types, units, transforms.

HDF5 does not notice when the attributes of a table are lost. Integers in which charges
were compressed would then be taken for charges, and radians for degrees.
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
    "check_true_images",
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
#: Columns of the tables of pointings: fixed, monitored, and before ctapipe 0.21.
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
#: Images that were compressed to integers need all of these to become charges again.
_FIXED_POINT = ("TRANSFORM_SCALE", "TRANSFORM_OFFSET")
#: Letters of the dtypes that hold what is needed.
_KINDS = {int: "iu", bool: "b", float: "iuf"}
_LOST = "its attributes were lost. Make the file again, or copy it again"


def of_telescope(group, tel_id):
    """Path of a telescope's table.

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
    """Columns of the table of the array's triggers.

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
    """Check that a table has what is needed of it.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    file : tables.File
        The open file.
    node : str
        Path of the table in the file.
    columns : dict of str to object
        For each column what it must hold: ``int``, ``bool`` or ``float``; with a number
        of elements, if it holds an array, ``(bool, 4)``; ``Time``; or a unit, to which
        its unit can be converted.

    Raises
    ------
    DL1FileError
        If there is no such table, or a column is missing or holds something else.
    """
    if node not in file:
        raise DL1FileError(f"{path} has no table {node}")
    with reading(path):
        # One row says what all of them are.
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
    # Times have none.
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
    path : pathlib.Path
        The file, for messages.
    file : tables.File
        The open file.
    node : str
        Path of the table in the file.

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


def check_image_table(path, file, node, tel_id, n_pixels):
    """Check a telescope's table of images.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    file : tables.File
        The open file.
    node : str
        Path of the table in the file.
    tel_id : int
        The telescope.
    n_pixels : int
        Number of pixels of its camera.

    Raises
    ------
    DL1FileError
        If it has not the keys, charges and peak times of all pixels, or integers of
        which it does not say what charge or time they mean.
    """
    with reading(path):
        table = file.root[node]
        attributes = get_column_attrs(table)
    _check_keys(path, table)
    for name in ("image", "peak_time"):
        _check_pixels(path, table, name, tel_id, n_pixels, float)
        if table.dtype[name].base.kind != "f":
            _check_fixed_point(path, table, name, attributes[name])
    if "image_mask" in table.colnames:
        _check_pixels(path, table, "image_mask", tel_id, n_pixels, bool)


def check_true_images(path, file, node, tel_id, n_pixels):
    """Check a telescope's table of true images.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    file : tables.File
        The open file.
    node : str
        Path of the table in the file.
    tel_id : int
        The telescope.
    n_pixels : int
        Number of pixels of its camera.

    Raises
    ------
    DL1FileError
        If it has not the keys, or images that are not of this camera.
    """
    with reading(path):
        table = file.root[node]
    _check_keys(path, table)
    # Without them, the table still has the number of all photoelectrons.
    if "true_image" in table.colnames:
        _check_pixels(path, table, "true_image", tel_id, n_pixels, float)


def _check_keys(path, table):
    for name in _TELESCOPE_COLUMNS:
        _check_type(path, table, name, int)


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
            f"telescope {tel_id} has {n_pixels} pixels. The images are of another "
            "camera, or the file is damaged: make it again, with the telescopes that "
            "took the images"
        )


def _check_fixed_point(path, table, name, attributes):
    """Check that integers can be made charges or times again."""
    missing = [key for key in _FIXED_POINT if key not in attributes]
    if attributes.get("TRANSFORM") != "fixed_point" or missing:
        raise DL1FileError(
            f"{path}: column {name} of {table._v_pathname} holds integers "
            f"({table.dtype[name].base}), and does not say by which scale they become "
            f"{'charges' if name == 'image' else 'times'}: {_LOST}"
        )
    scale, offset = (attributes[key] for key in _FIXED_POINT)
    if not (np.isfinite([scale, offset]).all() and scale > 0):
        raise DL1FileError(
            f"{path}: column {name} of {table._v_pathname} has the scale {scale} and "
            f"the offset {offset}, which cannot be: {DAMAGED}"
        )
