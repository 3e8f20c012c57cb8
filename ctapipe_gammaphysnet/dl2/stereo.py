"""The telescopes' predictions to those of the array, for many events at once.

What ctapipe's `StereoMeanCombiner` does with one event, in arrays. A prediction here is
of one telescope in one event; ``event`` numbers the events from 0.
"""

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz
from ctapipe.coordinates import GroundFrame, TiltedGroundFrame

__all__ = [
    "combine_cores",
    "combine_directions",
    "intensity_weights",
    "weighted_mean",
]


def weighted_mean(values, weights, event, n_events):
    """Average over the predictions of each event.

    Parameters
    ----------
    values : numpy.ndarray
        What to average, shape (n,).
    weights : numpy.ndarray
        Weights, shape (n,).
    event : numpy.ndarray
        Event of each value, shape (n,), int.
    n_events : int
        Number of events.

    Returns
    -------
    mean, spread : numpy.ndarray
        Weighted mean and standard deviation, shape (n_events,). The mean is NaN without
        values or with negative weights, and the standard deviation with fewer than two
        values. It is that of `numpy.cov` with ``aweights``, which corrects for the
        number of values.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        total, of_values, of_squares = (
            np.bincount(event, weights=terms, minlength=n_events)
            for terms in (weights, weights * values, weights**2)
        )
        is_negative = np.bincount(event, weights=weights < 0, minlength=n_events) > 0
        total = np.where(is_negative, np.nan, total)
        mean = of_values / total
        deviations = weights * (values - mean[event]) ** 2
        deviations = np.bincount(event, weights=deviations, minlength=n_events)
        variance = deviations / (total - of_squares / total)
        several = np.bincount(event, minlength=n_events) > 1
        return mean, np.sqrt(np.where(several, variance, np.nan))


def combine_directions(alt, az, weights, event, n_events):
    """Average the directions of each event on the sphere.

    Parameters
    ----------
    alt, az : numpy.ndarray
        Directions in deg, shape (n,).
    weights : numpy.ndarray
        Weights, shape (n,).
    event : numpy.ndarray
        Event of each direction, shape (n,), int.
    n_events : int
        Number of events.

    Returns
    -------
    alt, az, spread : numpy.ndarray
        Direction of the mean vector, and the spread that its length tells, in deg,
        shape (n_events,). All are NaN without directions, and the spread is with
        fewer than two.
    """
    alt, az = np.deg2rad(alt), np.deg2rad(az)
    vectors = np.cos(alt) * np.cos(az), np.cos(alt) * np.sin(az), np.sin(alt)
    x, y, z = (weighted_mean(v, weights, event, n_events)[0] for v in vectors)
    several = np.bincount(event, minlength=n_events) > 1
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(-2 * np.log(np.sqrt(x**2 + y**2 + z**2)))
    return (
        np.rad2deg(np.arctan2(z, np.hypot(x, y))),
        np.rad2deg(np.arctan2(y, x)) % 360,
        np.where(several, np.rad2deg(spread), np.nan),
    )


def intensity_weights(intensity, event, n_events):
    """Weights by the images' intensity, where it is known of all images of an event.

    Parameters
    ----------
    intensity : numpy.ndarray
        Intensity of the images, shape (n,).
    event : numpy.ndarray
        Event of each image, shape (n,), int.
    n_events : int
        Number of events.

    Returns
    -------
    numpy.ndarray
        The intensities; 1 for all images of an event where one of them is not positive
        or not finite, shape (n,).
    """
    is_good = (intensity > 0) & np.isfinite(intensity)
    is_bad = np.bincount(event, weights=~is_good, minlength=n_events) > 0
    return np.where(is_bad[event], 1, intensity)


def combine_cores(core_x, core_y, intensity, event, array_alt, array_az):
    """Average the impact points of each event, weighted by the images' intensity.

    Parameters
    ----------
    core_x, core_y : numpy.ndarray
        Impact points in the GroundFrame in m, shape (n,).
    intensity : numpy.ndarray
        Intensity of the images, shape (n,), for `intensity_weights`.
    event : numpy.ndarray
        Event of each impact point, shape (n,), int.
    array_alt, array_az : astropy.units.Quantity
        Pointing of the array at each event, shape (n_events,).

    Returns
    -------
    dict of str to numpy.ndarray
        Columns of the geometry in m, shape (n_events,): ``core_x`` and ``core_y``, the
        weighted standard deviations ``core_uncert_x`` and ``core_uncert_y``, and
        ``core_tilted_x`` and ``core_tilted_y`` in the frame of the array's pointing.
    """
    n_events = len(array_alt)
    weights = intensity_weights(intensity, event, n_events)
    x, x_uncert = weighted_mean(core_x, weights, event, n_events)
    y, y_uncert = weighted_mean(core_y, weights, event, n_events)
    frame = TiltedGroundFrame(pointing_direction=AltAz(alt=array_alt, az=array_az))
    tilted = GroundFrame(x=x * u.m, y=y * u.m, z=np.zeros(n_events) * u.m).transform_to(
        frame
    )
    return {
        "core_x": x,
        "core_y": y,
        "core_uncert_x": x_uncert,
        "core_uncert_y": y_uncert,
        "core_tilted_x": tilted.x.to_value(u.m),
        "core_tilted_y": tilted.y.to_value(u.m),
    }
