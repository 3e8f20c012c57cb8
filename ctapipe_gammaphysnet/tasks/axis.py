"""What the axis of an image says of the direction and the impact point.

The axis of a shower, seen from a telescope, is the long axis of its image: its
direction is on that line, and its impact point on the line through the telescope that
it shows. For bright images that is known better than networks predict it. It is one
number more that is measured, so the product of both is a step of a Kalman filter. How
well it is known, and how large the errors of the product are, comes from the
calibration, since the errors of faint images' axes and of networks are related.
"""

from typing import NamedTuple

import numpy as np

from .ellipse import RADIUS

__all__ = [
    "ImageAxes",
    "image_axes",
    "known_on_line",
    "with_axes",
]


#: Least width of an image, in units of its length, for an axis with a known error.
_LEAST_WIDTH = 1e-3


class ImageAxes(NamedTuple):
    """Axes of images in the TelescopeFrame; NaN if not known.

    Attributes
    ----------
    fov_lon, fov_lat : numpy.ndarray
        Centres of the images in deg, shape (n,).
    psi : numpy.ndarray
        Angles of the axes, from fov_lon to fov_lat, in rad, shape (n,).
    noise : numpy.ndarray
        Errors of these that fluctuations of the light make, up to a factor, in rad,
        shape (n,).
    """

    fov_lon: np.ndarray
    fov_lat: np.ndarray
    psi: np.ndarray
    noise: np.ndarray


def image_axes(intensity, fov_lon, fov_lat, psi, length, width):
    """Find the axes of images, and their errors.

    Parameters
    ----------
    intensity, fov_lon, fov_lat, psi, length, width : numpy.ndarray
        ctapipe's Hillas parameters in p.e. and deg, NaN if not known, shape (n,).

    Returns
    -------
    ImageAxes
        The axes; NaN for images that are round, a line, or unknown.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = width * length / (length**2 - width**2) / np.sqrt(intensity)
        # The width of a line is 0 but for rounding.
        is_known = np.isfinite(noise + psi + fov_lon + fov_lat) & (noise > 0)
        is_known &= width > _LEAST_WIDTH * length
    return ImageAxes(
        fov_lon, fov_lat, np.deg2rad(psi), np.where(is_known, noise, np.nan)
    )


def known_on_line(values, covariance, point, angle, error):
    """Multiply predictions by what is known of the angle at which they are seen.

    An error of the angle moves the line by as much as the distance from the point; this
    is taken from the prediction, and not smaller than its own error.

    Parameters
    ----------
    values : numpy.ndarray
        Predictions, shape (n, 2).
    covariance : numpy.ndarray
        Their covariances, shape (n, 2, 2).
    point : numpy.ndarray
        The point from which they are seen, shape (n, 2).
    angle : numpy.ndarray
        Angle of each line, from the first axis to the second, in rad, shape (n,).
    error : numpy.ndarray
        Standard deviation of that angle in rad, shape (n,).

    Returns
    -------
    values : numpy.ndarray
        Shape (n, 2).
    covariance : numpy.ndarray
        Shape (n, 2, 2).
    """
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    normal = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    # Mean square of the distance along the line.
    square = np.einsum("ni,ni->n", values - point, along) ** 2
    square += np.einsum("ni,nij,nj->n", along, covariance, along)
    across = np.einsum("nij,nj->ni", covariance, normal)
    variance = np.einsum("ni,ni->n", across, normal) + error**2 * square
    distance = np.einsum("ni,ni->n", point - values, normal)
    step = across * (distance / variance)[:, np.newaxis]
    outer = across[:, :, np.newaxis] * across[:, np.newaxis]
    return values + step, covariance - outer / variance[:, np.newaxis, np.newaxis]


def with_axes(task, values, covariance, axes, calibration):
    """Add what the axes of images say to the predictions of a member.

    Parameters
    ----------
    task : Task
        The direction or the impact point.
    values : numpy.ndarray
        Its predictions, shape (n, 2).
    covariance : numpy.ndarray
        Their covariances, shape (n, 2, 2).
    axes : ImageAxes
        The axes of the images, shape (n,).
    calibration : tuple of sequence of float
        Logarithms of `ImageAxes.noise` in ascending order, and there of the error of
        the angle in rad, and of the distance from the product that holds 68.27 %, in
        standard deviations. Between them it is interpolated, and beyond them constant.

    Returns
    -------
    values : numpy.ndarray
        Shape (n, 2). Without a known axis, they are as they were.
    covariance : numpy.ndarray
        That of the normal distribution with the same 68.27 % region, shape (n, 2, 2).
    """
    log_noise, log_angle, log_radius = calibration
    noise = np.log(axes.noise)
    known = np.isfinite(noise)[:, np.newaxis]
    error = np.exp(np.interp(noise, log_noise, log_angle))
    product, ellipse = task.on_axes(values, covariance, axes, error)
    radius = np.exp(np.interp(noise, log_noise, log_radius)) / RADIUS[2]
    ellipse = ellipse * radius[:, np.newaxis, np.newaxis] ** 2
    return (
        np.where(known, product, values),
        np.where(known[..., np.newaxis], ellipse, covariance),
    )
