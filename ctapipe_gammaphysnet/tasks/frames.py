"""Changes of ctapipe's frames, as plain arrays.

astropy's frames take milliseconds for a single event. Angles are in rad, lengths in m.
"""

import numpy as np

__all__ = [
    "field_across",
    "ground_from_tilted",
    "horizontal_from_offset",
    "offset_from_horizontal",
    "offset_on_sky",
    "radians",
    "shower_axis",
    "tilted_from_ground",
    "turn_to_horizontal",
]


def radians(angle):
    """Convert angles to plain arrays.

    Parameters
    ----------
    angle : astropy.units.Quantity
        Angles, shape (n,) or ().

    Returns
    -------
    numpy.ndarray
        The angles in rad, float64: ctapipe's tables have float32, which is too coarse
        to compute with.
    """
    import astropy.units as u

    return np.asarray(angle.astype(float, copy=False).to_value(u.rad))


def offset_from_horizontal(alt, az, pointing_alt, pointing_az):
    """Transform directions from the AltAz frame to the TelescopeFrame.

    Parameters
    ----------
    alt, az : numpy.ndarray
        Direction, shape (n,).
    pointing_alt, pointing_az : numpy.ndarray
        Pointing of the telescope, shape (n,) or ().

    Returns
    -------
    lon, lat : numpy.ndarray
        fov_lon, from -π to π, and fov_lat, shape (n,).
    """
    x, y, z = _unit_vector(az - pointing_az, alt)
    return _angles(*_tilted_up(x, y, z, -pointing_alt))


def offset_on_sky(alt, az, from_alt, from_az):
    """Find the offsets of directions from others, along azimuth and altitude.

    Parameters
    ----------
    alt, az : numpy.ndarray
        Directions, shape (n,).
    from_alt, from_az : numpy.ndarray
        Directions at which azimuth and altitude are drawn, shape (n,) or ().

    Returns
    -------
    numpy.ndarray
        Angles on the sky along azimuth and altitude, shape (n, 2). Their length is the
        angle between both directions, wherever they are.
    """
    x, y, z = _unit_vector(az - from_az, alt)
    x, y, z = _tilted_up(x, y, z, -from_alt)
    sin = np.hypot(y, z)
    angle = np.arctan2(sin, x)
    stretch = np.divide(angle, sin, out=np.ones_like(angle), where=sin > 0)
    return np.stack([y, z], axis=-1) * stretch[..., np.newaxis]


def horizontal_from_offset(lon, lat, pointing_alt, pointing_az):
    """Transform directions from the TelescopeFrame to the AltAz frame.

    Parameters
    ----------
    lon, lat : numpy.ndarray
        fov_lon and fov_lat, shape (n,).
    pointing_alt, pointing_az : numpy.ndarray
        Pointing of the telescope, shape (n,) or ().

    Returns
    -------
    alt, az : numpy.ndarray
        Altitude, and azimuth from 0 to 2π, shape (n,).
    """
    x, y, z = _unit_vector(lon, lat)
    az, alt = _angles(*_tilted_up(x, y, z, pointing_alt))
    az = (az + pointing_az) % (2 * np.pi)
    # A tiny negative angle would be rounded to a whole turn.
    return alt, np.where(az == 2 * np.pi, 0, az)


def turn_to_horizontal(lon, lat, pointing_alt):
    """Make matrices from the axes of the TelescopeFrame to those of the AltAz frame.

    Parameters
    ----------
    lon, lat : numpy.ndarray
        fov_lon and fov_lat of a direction, shape (n,).
    pointing_alt : numpy.ndarray
        Altitude of the pointing, shape (n,).

    Returns
    -------
    numpy.ndarray
        Matrices that turn small vectors on the sky at that direction, from (fov_lon,
        fov_lat) to (azimuth, altitude), both in units of angle on the sky, shape
        (n, 2, 2).
    """
    # The angle from fov_lat to altitude at the direction: its corner in the triangle
    # with the frame's pole and the zenith, which lies at fov_lon 0.
    sin = -np.sin(lon) * np.sin(pointing_alt)
    cos = np.cos(lat) * np.cos(pointing_alt)
    cos = cos - np.sin(lat) * np.sin(pointing_alt) * np.cos(lon)
    length = np.hypot(sin, cos)
    sin, cos = sin / length, cos / length
    return np.stack([cos, -sin, sin, cos], axis=-1).reshape(*lon.shape, 2, 2)


def _unit_vector(lon, lat):
    cos = np.cos(lat)
    return cos * np.cos(lon), cos * np.sin(lon), np.sin(lat)


def _tilted_up(x, y, z, angle):
    """Turn vectors about the y axis, from x to z."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * z, y, sin * x + cos * z


def _angles(x, y, z):
    return np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))


def shower_axis(alt, az):
    """Find the unit vector to a direction in the GroundFrame.

    Parameters
    ----------
    alt, az : numpy.ndarray
        Direction, shape (n,).

    Returns
    -------
    numpy.ndarray
        Components to the north, to the west and up, shape (n, 3).
    """
    return np.stack(_unit_vector(-az, alt), axis=-1)


def tilted_from_ground(position, pointing_alt, pointing_az):
    """Transform positions from the GroundFrame to the TiltedGroundFrame.

    Parameters
    ----------
    position : numpy.ndarray
        Position in the GroundFrame, shape (n, 3).
    pointing_alt, pointing_az : numpy.ndarray
        Direction of the TiltedGroundFrame, shape (n,) or ().

    Returns
    -------
    numpy.ndarray
        x and y in the TiltedGroundFrame, shape (n, 2).
    """
    north, west, up = position.T
    cos, sin = np.cos(pointing_az), np.sin(pointing_az)
    along = cos * north - sin * west
    x = np.sin(pointing_alt) * along - np.cos(pointing_alt) * up
    return np.column_stack([x, sin * north + cos * west])


def ground_from_tilted(tilted, pointing_alt, pointing_az):
    """Project positions from the TiltedGroundFrame onto the ground.

    Parameters
    ----------
    tilted : numpy.ndarray
        x and y in the TiltedGroundFrame, shape (n, 2).
    pointing_alt, pointing_az : numpy.ndarray
        Direction of the TiltedGroundFrame, along which is projected, shape (n,) or ().

    Returns
    -------
    numpy.ndarray
        x and y in the GroundFrame at z = 0, shape (n, 2).
    """
    x, y = tilted.T
    along = x / np.sin(pointing_alt)
    cos, sin = np.cos(pointing_az), np.sin(pointing_az)
    return np.column_stack([cos * along + sin * y, cos * y - sin * along])


def field_across(field, pointing_alt, pointing_az):
    """Project a vector of the GroundFrame onto the plane across the pointing.

    Parameters
    ----------
    field : sequence of float
        Components to the north, to the west and up, shape (3,).
    pointing_alt, pointing_az : numpy.ndarray
        Pointing of the telescope, shape (n,).

    Returns
    -------
    numpy.ndarray
        Components along fov_lon and fov_lat of the TelescopeFrame at its centre, shape
        (n, 2).
    """
    north, west, up = field
    cos, sin = np.cos(pointing_az), np.sin(pointing_az)
    along = cos * north - sin * west
    lon = -sin * north - cos * west
    return np.column_stack(
        [lon, np.cos(pointing_alt) * up - np.sin(pointing_alt) * along]
    )
