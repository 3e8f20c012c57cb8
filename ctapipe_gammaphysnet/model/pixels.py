"""Compare the pixels of two cameras by their places, in any order.

Places are complex numbers x + iy.
"""

import numpy as np
from scipy.spatial import KDTree

__all__ = ["describe_move", "fitted_rotation", "match_pixels", "pixel_pitch"]


def pixel_pitch(places):
    """Measure the distance between neighbouring pixels.

    Parameters
    ----------
    places : numpy.ndarray
        Pixels of a camera, shape (n,), complex.

    Returns
    -------
    float
        The median of the distances to the closest other pixel.
    """
    xy = _xy(places)
    return np.median(KDTree(xy).query(xy, k=2)[0][:, 1])


def match_pixels(here, there):
    """Find the closest pixel of one camera to each pixel of another.

    Parameters
    ----------
    here, there : numpy.ndarray
        Pixels of the cameras, shape (n,), complex.

    Returns
    -------
    order : numpy.ndarray
        For each pixel there the closest one here, shape (n,), int. Each pixel here
        occurs once if all are closer than half a pitch.
    distance : numpy.ndarray
        Their distance, shape (n,).
    """
    distance, order = KDTree(_xy(here)).query(_xy(there))
    return order, distance


def fitted_rotation(here, there):
    """Fit a rotation about the origin.

    Parameters
    ----------
    here, there : numpy.ndarray
        Pixels of two cameras in the same order, shape (n,), complex.

    Returns
    -------
    float
        Angle in rad by which those here are rotated relative to those there.
    """
    return np.angle(np.vdot(there, here))


def describe_move(here, there, tolerance):
    """Find a rotation or a reflection that moves one camera onto another.

    Parameters
    ----------
    here, there : numpy.ndarray
        Pixels of the cameras, shape (n,), complex.
    tolerance : float
        Largest distance between pixels at the same place.

    Returns
    -------
    str or None
        How the camera here is moved relative to the one there; None if it is neither
        rotated nor reflected. The smallest rotation comes first.
    """
    angle = _find_rotation(here, there, tolerance)
    if angle is not None:
        return f"rotated by {np.rad2deg(angle):.2f}°"
    angle = _find_rotation(here, there.conj(), tolerance)
    if angle is not None:
        # The reflected pixel at angle φ is at 2 axis - φ.
        axis = np.rad2deg(angle) / 2 % 180
        return f"mirrored about the axis at {axis:.2f}° from its x axis"
    return None


def _find_rotation(here, there, tolerance):
    """Smallest rotation that moves pixels there onto those here, in rad, or None."""
    outermost = there[np.abs(there).argmax()]
    is_as_far = np.abs(np.abs(here) - np.abs(outermost)) < 2 * tolerance
    candidates = np.angle(here[is_as_far] * outermost.conj())
    for angle in sorted(candidates, key=abs):
        rotated = there * np.exp(1j * angle)
        # One pixel shows the angle roughly, all of them exactly.
        order, _ = match_pixels(here, rotated)
        angle += fitted_rotation(here[order], rotated)
        _, distance = match_pixels(here, there * np.exp(1j * angle))
        if distance.max() < tolerance:
            return angle
    return None


def _xy(places):
    return np.column_stack([places.real, places.imag])
