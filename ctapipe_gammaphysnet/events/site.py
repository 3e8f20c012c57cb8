"""The site of simulated showers, as far as their files say."""

import astropy.units as u
import numpy as np

from ..files.input_file import DAMAGED, DL1FileError

__all__ = ["read_fields"]

_TOTAL, _DECLINATION, _INCLINATION = _COLUMNS = (
    "prod_site_B_total",
    "prod_site_B_declination",
    "prod_site_B_inclination",
)
#: The field is weaker than this anywhere on Earth.
_MAX_FIELD_UT = 100


def read_fields(reader):
    """Read the geomagnetic field of a file's simulated showers.

    Parameters
    ----------
    reader : EventReader
        The file.

    Returns
    -------
    numpy.ndarray or None
        Components to the north, to the west and up in µT, for each run, shape
        (n_runs, 3); None if the file does not say them for all.

    Raises
    ------
    DL1FileError
        If the columns have lost their units, or a field is not possible.
    """
    runs = reader.read_runs()
    if runs is None or not {*_COLUMNS} <= {*runs.colnames}:
        return None
    total = _values(reader, runs, _TOTAL, u.uT)
    declination = _values(reader, runs, _DECLINATION, u.rad)
    inclination = _values(reader, runs, _INCLINATION, u.rad)
    if not np.isfinite([total, declination, inclination]).all():
        return None
    if not ((total >= 0) & (total < _MAX_FIELD_UT)).all():
        raise DL1FileError(
            f"{reader.path}: {_TOTAL} is {total.min():.3g} to {total.max():.3g} µT, "
            f"which is impossible: {DAMAGED}"
        )
    # The declination counts from north towards east, the inclination downwards. This is
    # right for productions whose azimuth counts from geographic north.
    horizontal = total * np.cos(inclination)
    return np.column_stack(
        [
            horizontal * np.cos(declination),
            -horizontal * np.sin(declination),
            -total * np.sin(inclination),
        ]
    )


def _values(reader, runs, name, unit):
    values = runs[name]
    try:
        return np.asarray(values.to_value(unit), dtype=float)
    except (AttributeError, u.UnitConversionError):
        raise DL1FileError(
            f"{reader.path}: {name} of the simulated runs has no unit of {unit}: "
            f"{DAMAGED}"
        ) from None
