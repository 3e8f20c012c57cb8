"""What the heads of a network can know beside the image: where the telescope points.

Air showers of the same energy look fainter and smaller far from the zenith, and the
geomagnetic field spreads them; an image alone does not show at which angle it was
taken. All numbers are of order 1, and made from the pointing without astropy, which
would be slow for single events.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .frames import field_across
from .task import turn_vectors

__all__ = ["CONDITIONS", "Condition", "as_columns", "conditions_of", "count_columns"]

#: Cosine of the zenith angle that becomes 0, and the factor: 1 at the zenith, -0.5 at
#: 45 deg, -2.3 at 70 deg.
_MIDDLE, _FACTOR = 0.8, 5.0
#: Unit of the geomagnetic field, which is at most twice as strong anywhere.
_FIELD_UNIT_UT = 30.0


class Condition(NamedTuple):
    """Something that the heads of a network can know.

    Attributes
    ----------
    n_columns : int
        How many numbers it is.
    compute : callable
        Function of altitude and azimuth of the pointing in rad, shape (n,), and of the
        geomagnetic field (see `conditions_of`), that returns the numbers, shape
        (n, n_columns).
    turn : callable
        Function of the numbers and the angles by which their images are turned, as in
        `Task.turn`, that returns the numbers of the turned images.
    needs_field : bool
        Whether the geomagnetic field must be known.
    """

    n_columns: int
    compute: Callable
    turn: Callable
    needs_field: bool = False


def _zenith(alt, az, field_ut):
    return _FACTOR * (np.sin(alt) - _MIDDLE)[:, np.newaxis]


def _geomagnetic_field(alt, az, field_ut):
    return field_across(field_ut, alt, az) / _FIELD_UNIT_UT


#: All conditions by name: the cosine of the zenith angle, and the components of the
#: geomagnetic field across the pointing, along fov_lon and fov_lat of the
#: TelescopeFrame. The component along the pointing hardly bends a shower.
CONDITIONS = {
    "zenith": Condition(1, _zenith, lambda columns, angle: columns),
    "geomagnetic_field": Condition(2, _geomagnetic_field, turn_vectors, True),
}


def count_columns(names):
    """Count the numbers of some conditions.

    Parameters
    ----------
    names : sequence of str
        Keys of `CONDITIONS`.

    Returns
    -------
    int
        How many numbers they are for each image.
    """
    return sum(CONDITIONS[name].n_columns for name in names)


def conditions_of(names, alt, az, field_ut=None):
    """Compute conditions from the pointing.

    Parameters
    ----------
    names : sequence of str
        Keys of `CONDITIONS`.
    alt, az : numpy.ndarray
        Altitude of the pointing, and its azimuth from north towards east, in rad, shape
        (n,); NaN if not known.
    field_ut : sequence of float, optional
        Components of the geomagnetic field in the GroundFrame, to the north, to the
        west and up, in µT, shape (3,). Needed for ``"geomagnetic_field"``.

    Returns
    -------
    dict of str to numpy.ndarray
        By name, in that order, shape (n, n_columns), float32; NaN without pointing.
    """
    # Without one of them, the other is not used either.
    known = np.isfinite(alt + az)
    alt, az = (np.where(known, angle, np.nan).astype(float) for angle in (alt, az))
    return {
        name: CONDITIONS[name].compute(alt, az, field_ut).astype(np.float32)
        for name in names
    }


def as_columns(conditions, n):
    """Join conditions, as the network takes them.

    Parameters
    ----------
    conditions : dict of str to numpy.ndarray
        As from `conditions_of`; may be empty.
    n : int
        Number of images.

    Returns
    -------
    numpy.ndarray
        Shape (n, n_columns of all), float32.
    """
    return np.concatenate([np.empty((n, 0), np.float32), *conditions.values()], axis=1)
