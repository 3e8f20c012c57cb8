"""Axes of images, from the parameters of events and tables."""

import astropy.units as u
import numpy as np

from ..tasks.axis import image_axes
from .event import image_parameters

__all__ = ["axes_in_table", "axes_of_event"]

#: Fields of ctapipe's Hillas parameters, with their units.
_FIELDS = {"intensity": u.one} | dict.fromkeys(
    ("fov_lon", "fov_lat", "psi", "length", "width"), u.deg
)


def axes_of_event(event, tel_ids):
    """Find the axes of an event's images.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event, with DL1 parameters.
    tel_ids : list of int
        Telescopes.

    Returns
    -------
    ImageAxes
        The axes, shape (n,); NaN for parameters that are not in the TelescopeFrame.
    """
    hillas = [image_parameters(event, tel_id).hillas for tel_id in tel_ids]
    return image_axes(
        *(
            np.array([_numbers(getattr(one, name, np.nan), unit) for one in hillas])
            for name, unit in _FIELDS.items()
        )
    )


def axes_in_table(parameters, rows):
    """Find the axes of images in a table.

    Parameters
    ----------
    parameters : astropy.table.QTable
        Parameters of images, in ctapipe's columns.
    rows : numpy.ndarray
        The rows of the images, shape (n,), int.

    Returns
    -------
    ImageAxes
        The axes, shape (n,); NaN for parameters that are not in the TelescopeFrame.
    """
    columns = []
    for name, unit in _FIELDS.items():
        column = f"hillas_{name}"
        values = np.full(len(rows), np.nan)
        if column in parameters.colnames:
            values = u.Quantity(parameters[column][rows], dtype=float)
        columns.append(_numbers(values, unit))
    return image_axes(*columns)


def _numbers(values, unit):
    """Values in a unit; NaN for lengths in m, of the camera frame."""
    if not isinstance(values, u.Quantity):
        return values
    if values.unit is unit:
        return values.value
    if not values.unit.is_equivalent(unit):
        return np.full(values.shape, np.nan)
    return values.to_value(unit)
