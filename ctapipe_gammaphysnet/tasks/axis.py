"""What the axis of an image says of the direction and the impact point.

The axis of a shower, seen from a telescope, is the long axis of its image: its
direction is on that line, and its impact point on the line through the telescope that
it shows. For bright images that is known better than networks predict it. It is one
number more that is measured, with a normal error, so the product of both is a step of a
Kalman filter.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["ImageAxes", "image_axes", "known_on_line"]

# Measured on the validation part of the demonstration's sample and on LSTs and MSTs
# (`examples/array`), of images that pass the training's cuts. For LSTs the error of the
# angle is 4.5 of these units of noise, for MSTs 2.8, which are safe with more.
#: Error of the angle in units of that which the light's fluctuations make.
_NOISE = 6.0
#: Least error in rad: showers are not symmetric.
_LEAST = 0.03
#: Intensity in p.e. below which the network's errors are those of the axis, so that the
#: axis must not count twice: the correlation of both is 0.7 at 100 p.e., 0.1 at 6000.
_SHARED_BELOW = 800.0


class ImageAxes(NamedTuple):
    """Axes of images in the TelescopeFrame; NaN if not known.

    Attributes
    ----------
    fov_lon, fov_lat : numpy.ndarray
        Centres of the images in deg, shape (n,).
    psi : numpy.ndarray
        Angles of the axes, from fov_lon to fov_lat, in rad, shape (n,).
    error : numpy.ndarray
        Errors of these in rad, shape (n,).
    """

    fov_lon: np.ndarray
    fov_lat: np.ndarray
    psi: np.ndarray
    error: np.ndarray


def image_axes(intensity, fov_lon, fov_lat, psi, length, width):
    """Find the axes of images, and their errors.

    Parameters
    ----------
    intensity, fov_lon, fov_lat, psi, length, width : numpy.ndarray
        ctapipe's Hillas parameters in p.e. and deg, NaN if not known, shape (n,).

    Returns
    -------
    ImageAxes
        The axes; NaN for images that are round or unknown.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = width * length / (length**2 - width**2) / np.sqrt(intensity)
        error = np.hypot(_NOISE * noise, _LEAST)
        error *= np.hypot(1, _SHARED_BELOW / intensity)
        is_known = (length > width) & np.isfinite(error + psi + fov_lon + fov_lat)
    return ImageAxes(
        fov_lon, fov_lat, np.deg2rad(psi), np.where(is_known, error, np.nan)
    )


def known_on_line(values, covariance, point, angle, width):
    """Multiply predictions by what is known of their distance from lines.

    Parameters
    ----------
    values : numpy.ndarray
        Predictions, shape (n, 2).
    covariance : numpy.ndarray
        Their covariances, shape (n, 2, 2).
    point : numpy.ndarray
        A point of each line, shape (n, 2).
    angle : numpy.ndarray
        Angle of each line, from the first axis to the second, in rad, shape (n,).
    width : numpy.ndarray
        Standard deviation of the distance from it, shape (n,). If it is NaN, nothing is
        known.

    Returns
    -------
    values : numpy.ndarray
        Shape (n, 2).
    covariance : numpy.ndarray
        Shape (n, 2, 2).
    """
    known = np.isfinite(width)
    normal = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    across = np.einsum("nij,nj->ni", covariance, normal)
    variance = np.einsum("ni,ni->n", across, normal) + width**2
    distance = np.einsum("ni,ni->n", point - values, normal)
    step = across * (distance / variance)[:, np.newaxis]
    shrink = across[:, :, np.newaxis] * across[:, np.newaxis] / variance[:, None, None]
    return (
        np.where(known[:, np.newaxis], values + step, values),
        np.where(known[:, np.newaxis, np.newaxis], covariance - shrink, covariance),
    )
