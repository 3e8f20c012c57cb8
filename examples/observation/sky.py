"""Where things are: simulated directions on the sky of a night.

Simulated showers come from fixed horizontal coordinates, but a source moves across the
sky. An image shows only where a shower came from relative to the telescope's pointing.
So each run keeps the source at the place in the camera where it was simulated, and the
pointing follows: it moves around the source by some degrees in a run, as the sky turns.

Horizontal coordinates are without refraction, as in the simulation. All horizontal
coordinates and offsets are `astropy.units.Quantity` objects or scalars of them.
"""

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz, SkyCoord


def horizontal(alt, az, time=None, location=None):
    """Make a direction in horizontal coordinates.

    Parameters
    ----------
    alt, az : astropy.units.Quantity
        Altitude, and azimuth from north towards east, shape (n,) or ().
    time : astropy.time.Time, optional
        When; only needed to change to other frames than those of the camera.
    location : astropy.coordinates.EarthLocation, optional
        Where on Earth; needed with the time.

    Returns
    -------
    astropy.coordinates.SkyCoord
        The direction.
    """
    return SkyCoord(alt=alt, az=az, frame=AltAz(obstime=time, location=location))


def offsets(directions, pointing):
    """Express directions by their offsets from the pointing, in the telescope frame.

    Parameters
    ----------
    directions, pointing : astropy.coordinates.SkyCoord
        In horizontal coordinates, shape (n,), or () for the pointing.

    Returns
    -------
    lon, lat : astropy.units.Quantity
        Offsets, shape (n,), in deg: towards larger azimuth and altitude.
    """
    seen = directions.transform_to(pointing.skyoffset_frame())
    angles = seen.lon.wrap_at(180 * u.deg), seen.lat
    return tuple(u.Quantity(angle, u.deg, subok=False) for angle in angles)


def directions_at(lon, lat, pointing):
    """Find the directions that have these offsets from the pointing.

    Parameters
    ----------
    lon, lat : astropy.units.Quantity
        Offsets in the telescope frame, shape (n,).
    pointing : astropy.coordinates.SkyCoord
        In horizontal coordinates, shape (n,) or ().

    Returns
    -------
    alt, az : astropy.units.Quantity
        Shape (n,), in deg.
    """
    seen = SkyCoord(lon=lon, lat=lat, frame=pointing.skyoffset_frame())
    found = seen.transform_to(pointing.frame)
    return found.alt.to(u.deg), found.az.to(u.deg)


def pointing_with_source_at(lon, lat, source):
    """Find where a telescope must point to see the source at these offsets.

    Parameters
    ----------
    lon, lat : astropy.units.Quantity
        Offsets of the source in the telescope frame, shape ().
    source : astropy.coordinates.SkyCoord
        Horizontal coordinates of the source, shape (n,).

    Returns
    -------
    alt, az : astropy.units.Quantity
        Pointing, shape (n,), in deg.
    """
    # The source's unit vector, written in the telescope frame (x to the pointing, y to
    # larger azimuth, z up), is turned up by the altitude of the pointing.
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    alt = np.arcsin(np.sin(source.alt) / np.hypot(x, z)) - np.arctan2(z, x)
    forward = x * np.cos(alt) - z * np.sin(alt)
    az = source.az - np.arctan2(y, forward)
    return alt.to(u.deg), az.to(u.deg) % (360 * u.deg)


def to_icrs(alt, az, time, location):
    """Change horizontal coordinates to ICRS.

    Parameters
    ----------
    alt, az : astropy.units.Quantity
        Horizontal coordinates, shape (n,).
    time : astropy.time.Time
        When, shape (n,).
    location : astropy.coordinates.EarthLocation
        Where on Earth.

    Returns
    -------
    astropy.coordinates.SkyCoord
        Directions, shape (n,).
    """
    return horizontal(alt, az, time, location).icrs


def seen_from(source, time, location):
    """Change a position on the sky to horizontal coordinates.

    Parameters
    ----------
    source : astropy.coordinates.SkyCoord
        Position, shape ().
    time : astropy.time.Time
        When, shape (n,).
    location : astropy.coordinates.EarthLocation
        Where on Earth.

    Returns
    -------
    astropy.coordinates.SkyCoord
        Horizontal coordinates, shape (n,).
    """
    return source.transform_to(AltAz(obstime=time, location=location))
