"""Error ellipses: their size, and those of several members."""

import numpy as np

from .metric import CONTAINMENT

__all__ = [
    "RADIUS",
    "containment_radius",
    "correlation",
    "covariance_of_members",
    "distance_in_ellipse",
    "known_width",
    "matrix_from_columns",
    "matrix_from_widths",
]

#: Distance from the centre, in standard deviations, within which one and two dimensions
#: of a normal distribution hold 68.27 %.
RADIUS = {1: 1.0, 2: float(np.sqrt(-2 * np.log(1 - CONTAINMENT)))}
# Directions that are averaged over, and ratios of the axes of the table.
_ANGLES = np.pi * (np.arange(64) + 0.5) / 128
_RATIOS = np.linspace(0, 1, 257)


def matrix_from_columns(columns):
    """Make covariance matrices from their independent elements.

    Parameters
    ----------
    columns : numpy.ndarray
        The variance, shape (..., 1), or xx, yy and xy, shape (..., 3).

    Returns
    -------
    numpy.ndarray
        Covariances, shape (..., 1, 1) or (..., 2, 2).
    """
    if columns.shape[-1] == 1:
        return columns[..., np.newaxis]
    xx, yy, xy = np.moveaxis(columns, -1, 0)
    return np.stack([xx, xy, xy, yy], axis=-1).reshape(*xx.shape, 2, 2)


def matrix_from_widths(x_width, y_width, correlation):
    """Make covariance matrices from half widths and correlation.

    Parameters
    ----------
    x_width, y_width : numpy.ndarray
        Half widths that hold 68.27 % along the two axes, shape (n,).
    correlation : numpy.ndarray
        Correlation of both, shape (n,).

    Returns
    -------
    numpy.ndarray
        Covariances, shape (n, 2, 2).
    """
    xy = correlation * x_width * y_width
    return matrix_from_columns(np.stack([x_width**2, y_width**2, xy], axis=-1))


def correlation(covariance):
    """Compute the correlation of two dimensions.

    Parameters
    ----------
    covariance : numpy.ndarray
        Covariances, shape (..., 2, 2).

    Returns
    -------
    numpy.ndarray
        Correlations from -1 to 1, shape (...); 0 if a width is 0.
    """
    widths = np.sqrt(covariance[..., 0, 0] * covariance[..., 1, 1])
    unknown = np.array(0 * widths)
    return np.clip(
        np.divide(covariance[..., 0, 1], widths, out=unknown, where=widths > 0), -1, 1
    )


def covariance_of_members(values, covariances):
    """Compute the covariance of the mean over members.

    It is the mean of their covariances plus the covariance of their values: the law of
    total variance for a mixture of the members' distributions.

    Parameters
    ----------
    values : numpy.ndarray
        Predictions, shape (n_members, n, n_values).
    covariances : numpy.ndarray or None
        Their covariances, shape (n_members, n, n_values, n_values); None if they are
        not known.

    Returns
    -------
    numpy.ndarray or None
        Shape (n, n_values, n_values). None if neither is known: no covariances, and a
        single member.
    """
    n_members = len(values)
    mean = None if covariances is None else covariances.mean(axis=0)
    if n_members == 1:
        return mean
    deviations = values - values.mean(axis=0)
    spread = np.einsum("mni,mnj->nij", deviations, deviations) / (n_members - 1)
    return spread if mean is None else mean + spread


def known_width(values):
    """Keep uncertainties that are known.

    Parameters
    ----------
    values : numpy.ndarray
        Half widths or radii, shape (...).

    Returns
    -------
    numpy.ndarray
        The same, NaN where they are not finite or not positive.
    """
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def containment_radius(covariance):
    """Compute the radius of the circle that holds 68.27 % of a normal distribution.

    Parameters
    ----------
    covariance : numpy.ndarray
        Covariances, shape (..., 2, 2).

    Returns
    -------
    numpy.ndarray
        Radii about the centre of the distribution, shape (...), good to 1e-4.
    """
    xx, yy, xy = (covariance[..., i, j] for i, j in ((0, 0), (1, 1), (0, 1)))
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    major, minor = np.sqrt(middle + half), np.sqrt(np.maximum(middle - half, 0))
    ratio = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    return major * np.interp(ratio, _RATIOS, _RADII)


def distance_in_ellipse(offset, covariance):
    """Compute how far offsets are from the centre, in standard deviations along them.

    Parameters
    ----------
    offset : numpy.ndarray
        Offsets from the centre, shape (..., 2).
    covariance : numpy.ndarray
        Covariances, shape (..., 2, 2).

    Returns
    -------
    numpy.ndarray
        The Mahalanobis distance, shape (...); `RADIUS` holds 68.27 %. NaN if the
        covariance is not known, or is not that of an ellipse.
    """
    x, y = np.moveaxis(offset, -1, 0)
    xx, yy, xy = (covariance[..., i, j] for i, j in ((0, 0), (1, 1), (0, 1)))
    determinant = xx * yy - xy**2
    # The determinant of a line is 0 only to rounding.
    is_ellipse = (determinant > 1e-9 * xx * yy) & (xx > 0)
    square = np.maximum(yy * x**2 - 2 * xy * x * y + xx * y**2, 0)
    unknown = np.full_like(square, np.nan)
    return np.sqrt(np.divide(square, determinant, out=unknown, where=is_ellipse))


def _radii_of(ratio):
    """Radii of the circles that hold 68.27 %, by ratio of the axes; the major is 1.

    A point at s standard deviations in the direction t, before the minor axis is
    shortened, comes to lie at s (cos t, ratio sin t). It is inside a circle if s is
    less than radius / length, and s has a Rayleigh distribution in each direction.
    """
    length = np.hypot(np.cos(_ANGLES), ratio[:, np.newaxis] * np.sin(_ANGLES))
    low, high = np.zeros(len(ratio)), np.full(len(ratio), 2.0)
    for _ in range(40):
        radius = (low + high) / 2
        distance = radius[:, np.newaxis] / length
        is_small = np.mean(1 - np.exp(-(distance**2) / 2), axis=1) < CONTAINMENT
        low, high = np.where(is_small, radius, low), np.where(is_small, high, radius)
    return radius


_RADII = _radii_of(_RATIOS)
