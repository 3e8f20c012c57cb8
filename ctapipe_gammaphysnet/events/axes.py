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
            np.array([_number(getattr(one, name, None), unit) for one in hillas])
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
        if column in parameters.colnames:
            values = u.Quantity(parameters[column][rows], dtype=float)
            columns.append(values.to_value(unit))
        else:
            columns.append(np.full(len(rows), np.nan))
    return image_axes(*columns)


def _number(value, unit):
    """The number of a field, which the container may not have."""
    if value is None:
        return np.nan
    return value.to_value(unit) if isinstance(value, u.Quantity) else float(value)
