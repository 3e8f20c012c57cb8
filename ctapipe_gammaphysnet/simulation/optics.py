"""From the light that hits a telescope to where and when it lands in its camera.

A mirror is continuous: its surface is a paraboloid with the shape of the dish, and each
point is turned so that it reflects light from the pointing to the focus. For a
parabolic dish that is the dish itself, without spread in time; for a Davies-Cotton dish
its facets do so. Coma and time spread follow from it. Facets, alignment and surface add
a Gaussian point spread. Shadows only enter the `efficiency`.
"""

import math
from typing import NamedTuple

import numpy as np

from .cherenkov import SPEED_OF_LIGHT
from .compiled import compiled

__all__ = ["MIRRORS", "Mirror", "pointing_axes", "reflect"]


class Mirror(NamedTuple):
    """A telescope's mirror."""

    focal_length_m: float
    """From the vertex of the dish to the camera."""

    radius_m: float
    """Radius of the dish, seen along its axis."""

    curvature_m: float
    """Radius of curvature of the dish at its vertex."""

    point_spread_rad: float
    """Standard deviation of the point spread in either direction."""

    focus_m: float
    """Distance to which the camera is focused."""


# Dimensions and focus: CTAO's telescopes in public simulation files, M. Heller et al.
# (LST), and R. White et al. (MST: dish of 19.2 m, facets of 16 m focal length). Point
# spread of the LST: image of a star in LST-1, with 39 % of the light within 0.015° and
# 80 % within 0.030°.
MIRRORS = {
    "LST": Mirror(28.0, 11.5, 56.0, math.radians(0.015), 12e3),
    "MST": Mirror(16.0, 6.0, 19.2, math.radians(0.03), 10e3),
}


def pointing_axes(alt_rad, az_rad):
    """
    Axes of a telescope in the ground frame.

    Parameters
    ----------
    alt_rad, az_rad : float
        Where it points.

    Returns
    -------
    numpy.ndarray
        Shape (3, 3), float64. Rows: unit vectors along increasing altitude (camera x),
        along increasing azimuth (camera y), and of the pointing.
    """
    sin_alt, cos_alt = math.sin(alt_rad), math.cos(alt_rad)
    sin_az, cos_az = math.sin(az_rad), math.cos(az_rad)
    return np.array(
        [
            [-sin_alt * cos_az, sin_alt * sin_az, cos_alt],
            [-sin_az, -cos_az, 0.0],
            [cos_alt * cos_az, -cos_alt * sin_az, sin_alt],
        ]
    )


@compiled
def reflect(rng, rays, axes, mirror):
    """
    Reflect light at random points of the dish, and follow it to the camera.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    rays : numpy.ndarray
        Direction of flight in the ground frame, and time in ns at which it passes the
        telescope; shape (n, 4).
    axes : numpy.ndarray
        From `pointing_axes`.
    mirror : Mirror
        The mirror.

    Returns
    -------
    numpy.ndarray
        Camera x and y in m in ctapipe's `CameraFrame` (a source above the pointing is
        at positive x, one at larger azimuth at positive y), and the time of arrival in
        ns, less the time that light takes from the dish's vertex to the camera; shape
        (n, 3). NaN for light from behind.
    """
    if rays.shape[1] != 4 or axes.shape[0] != 3 or axes.shape[1] != 3:
        raise ValueError("rays have 4 columns, axes are 3 x 3")
    landed = np.empty((rays.shape[0], 3))
    focal_length = mirror.focal_length_m
    for i in range(rays.shape[0]):
        # direction towards the source: altitude, azimuth and pointing components
        sx, sy, sz = 0.0, 0.0, 0.0
        for k in range(3):
            sx -= rays[i, k] * axes[0, k]
            sy -= rays[i, k] * axes[1, k]
            sz -= rays[i, k] * axes[2, k]
        if sz < 0.9:
            landed[i, :] = np.nan
            continue
        # a point of the dish, above its vertex, and its distance from the focus
        r = mirror.radius_m * math.sqrt(rng.random())
        angle = 2 * math.pi * rng.random()
        mx, my = r * math.cos(angle), r * math.sin(angle)
        mz = r * r / (2 * mirror.curvature_m)
        to_focus = math.sqrt(r * r + (focal_length - mz) ** 2)
        # its normal halves the angle between pointing and focus
        nx, ny = -mx / to_focus, -my / to_focus
        nz = 1 + (focal_length - mz) / to_focus
        projection = 2 * (sx * nx + sy * ny + sz * nz) / (nx * nx + ny * ny + nz * nz)
        rx, ry, rz = projection * nx - sx, projection * ny - sy, projection * nz - sz
        path = (focal_length - mz) / rz
        spread_x = focal_length * mirror.point_spread_rad * rng.standard_normal()
        spread_y = focal_length * mirror.point_spread_rad * rng.standard_normal()
        # The image is upside down; ctapipe's frame turns it back.
        landed[i, 0] = -(mx + rx * path) + spread_x
        landed[i, 1] = -(my + ry * path) + spread_y
        # path from the plane through the vertex, normal to the ray, less the vertex's
        earlier = sx * mx + sy * my + sz * mz
        landed[i, 2] = rays[i, 3] + (path - earlier - focal_length) / SPEED_OF_LIGHT
    return landed
