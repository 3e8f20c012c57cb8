"""What the heads of a network can know beside the image: pointing and noise.

Air showers of the same energy look fainter and smaller far from the zenith, and the
geomagnetic field spreads them; an image alone does not show at which angle it was
taken. A bright night sky hides the faint parts of an image. All numbers are of order 1,
and made from the pointing without astropy, which would be slow for single events.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .frames import field_across
from .task import turn_vectors

__all__ = [
    "CONDITIONS",
    "Condition",
    "as_columns",
    "conditions_of",
    "count_columns",
    "that_need",
]

#: Cosine of the zenith angle that becomes 0, and the factor: 1 at the zenith, -0.5 at
#: 45 deg, -2.3 at 70 deg.
_MIDDLE, _FACTOR = 0.8, 5.0
#: Unit of the geomagnetic field, which is at most twice as strong anywhere.
_FIELD_UNIT_UT = 30.0
#: Noise that becomes 0, and the factor of its logarithm: three times the night sky is
#: about 1.5 more.
_NOISE_UNIT_PE, _NOISE_FACTOR = 1.5, 3.0
#: Largest size of that: 0.3 and 8 p.e. Few pixels may seem to have any noise.
_NOISE_LIMIT = 5.0


class Condition(NamedTuple):
    """Something that the heads of a network can know.

    Attributes
    ----------
    n_columns : int
        How many numbers it is.
    needs : tuple of {"pointing", "field", "noise"}
        What must be known.
    compute : callable
        Function of that, in this order, as `conditions_of` takes it; the pointing is
        altitude and azimuth. It returns the numbers, shape (n, n_columns).
    turn : callable
        Function of the numbers and the angles by which their images are turned, as in
        `Task.turn`, that returns the numbers of the turned images.
    """

    n_columns: int
    needs: tuple
    compute: Callable
    turn: Callable


def _zenith(pointing):
    alt, _ = pointing
    return _FACTOR * (np.sin(alt) - _MIDDLE)[:, np.newaxis]


def _geomagnetic_field(pointing, field_ut):
    return field_across(field_ut, *pointing) / _FIELD_UNIT_UT


def _noise(noise_pe):
    # Without noise, the image is zero-suppressed, and shows nothing of it.
    noise_pe = np.where(noise_pe > 0, noise_pe, np.nan)
    columns = _NOISE_FACTOR * np.log(noise_pe / _NOISE_UNIT_PE)[:, np.newaxis]
    return np.clip(columns, -_NOISE_LIMIT, _NOISE_LIMIT)


def _unturned(columns, angle):
    return columns


#: All conditions by name: the cosine of the zenith angle; the components of the
#: geomagnetic field across the pointing, along fov_lon and fov_lat of the
#: TelescopeFrame (the component along the pointing hardly bends a shower); and the
#: noise of the image's background pixels.
CONDITIONS = {
    "zenith": Condition(1, ("pointing",), _zenith, _unturned),
    "geomagnetic_field": Condition(
        2, ("pointing", "field"), _geomagnetic_field, turn_vectors
    ),
    "noise": Condition(1, ("noise",), _noise, _unturned),
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


def that_need(names, quantity):
    """Select the conditions that need something.

    Parameters
    ----------
    names : sequence of str
        Keys of `CONDITIONS`.
    quantity : {"pointing", "field", "noise"}
        What they may need.

    Returns
    -------
    list of str
        Those that do.
    """
    return [name for name in names if quantity in CONDITIONS[name].needs]


def conditions_of(names, alt=None, az=None, field_ut=None, noise_pe=None):
    """Compute conditions.

    Parameters
    ----------
    names : sequence of str
        Keys of `CONDITIONS`.
    alt, az : numpy.ndarray, optional
        Altitude of the pointing, and its azimuth from north towards east, in rad, shape
        (n,); NaN if not known. Needed for what needs the pointing.
    field_ut : sequence of float, optional
        Components of the geomagnetic field in the GroundFrame, to the north, to the
        west and up, in µT, shape (3,). Needed for ``"geomagnetic_field"``.
    noise_pe : numpy.ndarray, optional
        Noise of the images as in `events.background.Background`, shape (n,); NaN if not
        known. Needed for ``"noise"``.

    Returns
    -------
    dict of str to numpy.ndarray
        By name, in that order, shape (n, n_columns), float32; NaN where what it needs
        is not known.
    """
    given = {"field": field_ut, "noise": noise_pe}
    if that_need(names, "pointing"):
        # Without one of them, the other is not used either.
        known = np.isfinite(alt + az)
        given["pointing"] = [
            np.where(known, angle, np.nan).astype(float) for angle in (alt, az)
        ]
    found = {}
    for name in names:
        _, needs, compute, _ = CONDITIONS[name]
        found[name] = compute(*(given[n] for n in needs)).astype(np.float32)
    return found


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
