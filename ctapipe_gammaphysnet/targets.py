"""Physical quantities to what the network regresses, and back.

No target depends on where the telescope points: directions are offsets in the telescope
frame and impact points are offsets from the telescope in the tilted ground frame. A
network trained at one azimuth then means the same at another, and nothing wraps at
north. (The paper regresses altitude and azimuth themselves.)
"""

import warnings

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz, SkyCoord
from ctapipe.coordinates import (
    GroundFrame,
    MissingFrameAttributeWarning,
    TelescopeFrame,
    TiltedGroundFrame,
    project_to_ground,
)
from ctapipe.reco.preprocessing import telescope_to_horizontal

__all__ = [
    "direction_from_target",
    "direction_to_target",
    "energy_from_target",
    "energy_to_target",
    "impact_from_target",
    "impact_to_target",
]


def energy_to_target(energy):
    """Take energies to their targets.

    Parameters
    ----------
    energy : astropy.units.Quantity
        Energy, shape (n,).

    Returns
    -------
    numpy.ndarray
        log10(E / TeV), shape (n, 1).
    """
    return np.log10(energy.to_value(u.TeV))[:, np.newaxis]


def energy_from_target(target):
    """Take the network's output back to energies.

    Parameters
    ----------
    target : numpy.ndarray
        log10(E / TeV), shape (..., 1).

    Returns
    -------
    astropy.units.Quantity
        Energy in TeV, shape (...).
    """
    return u.Quantity(10 ** target[..., 0], u.TeV)


def direction_to_target(alt, az, pointing_alt, pointing_az):
    """Take directions to their offsets from the pointing.

    Parameters
    ----------
    alt, az : astropy.units.Quantity
        Direction on the sky, shape (n,).
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope, shape (n,) or ().

    Returns
    -------
    numpy.ndarray
        fov_lon, fov_lat in the TelescopeFrame in deg, shape (n, 2).
    """
    frame = TelescopeFrame(telescope_pointing=AltAz(alt=pointing_alt, az=pointing_az))
    with warnings.catch_warnings():
        # No time nor place is needed: both frames move with the sky's horizon.
        warnings.simplefilter("ignore", MissingFrameAttributeWarning)
        offset = SkyCoord(alt=alt, az=az, frame=AltAz()).transform_to(frame)
    return np.column_stack(
        [offset.fov_lon.to_value(u.deg), offset.fov_lat.to_value(u.deg)]
    )


def direction_from_target(target, pointing_alt, pointing_az):
    """Take offsets from the pointing back to directions.

    Parameters
    ----------
    target : numpy.ndarray
        fov_lon, fov_lat in the TelescopeFrame in deg, shape (n, 2).
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope, shape (n,) or ().

    Returns
    -------
    alt, az : astropy.units.Quantity
        Direction on the sky in deg, shape (n,); NaN for offsets beyond 180° in
        fov_lon or 90° in fov_lat.
    """
    # A network can give any number: beyond the sky there is no direction, and astropy
    # stops at such latitudes.
    on_sky = (np.abs(target) <= [180, 90]).all(axis=1)
    lon, lat = np.where(on_sky, target.T, np.nan)
    alt, az = telescope_to_horizontal(
        lon=u.Quantity(lon, u.deg),
        lat=u.Quantity(lat, u.deg),
        pointing_alt=pointing_alt,
        pointing_az=pointing_az,
    )
    # Not as astropy's Latitude and Longitude, which forbid arithmetic.
    return u.Quantity(alt, u.deg), u.Quantity(az, u.deg)


def _tilted_frame(pointing_alt, pointing_az):
    pointing = AltAz(alt=pointing_alt, az=pointing_az)
    return TiltedGroundFrame(pointing_direction=pointing)


def _ground_to_tilted(position, frame):
    """Positions in the ground frame in m, (n, 3), to tilted x and y in m, (n, 2)."""
    x, y, z = u.Quantity(position, u.m).T
    tilted = GroundFrame(x=x, y=y, z=z).transform_to(frame)
    return np.column_stack([tilted.x.to_value(u.m), tilted.y.to_value(u.m)])


def impact_to_target(core_x, core_y, position, pointing_alt, pointing_az):
    """Take impact points to their offsets from the telescope.

    Parameters
    ----------
    core_x, core_y : astropy.units.Quantity
        Impact point in the GroundFrame, at z = 0, shape (n,).
    position : astropy.units.Quantity
        Telescope in the GroundFrame, shape (n, 3).
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope, shape (n,).

    Returns
    -------
    numpy.ndarray
        Impact point minus telescope in the TiltedGroundFrame of the pointing, in km,
        shape (n, 2).
    """
    core = np.column_stack(
        [core_x.to_value(u.m), core_y.to_value(u.m), np.zeros(len(core_x))]
    )
    offset = core - position.to_value(u.m)
    return _ground_to_tilted(offset, _tilted_frame(pointing_alt, pointing_az)) / 1000


def impact_from_target(target, position, pointing_alt, pointing_az):
    """Take offsets from the telescope back to impact points.

    Parameters
    ----------
    target : numpy.ndarray
        Impact point minus telescope in the TiltedGroundFrame of the pointing, in km,
        shape (n, 2).
    position : astropy.units.Quantity
        Telescope in the GroundFrame, shape (n, 3).
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope, shape (n,).

    Returns
    -------
    core : astropy.units.Quantity
        x and y of the impact point in the GroundFrame, at z = 0, in m, shape (n, 2).
    core_tilted : astropy.units.Quantity
        x and y in the TiltedGroundFrame of the pointing, in m, shape (n, 2).
    """
    frame = _tilted_frame(pointing_alt, pointing_az)
    tilted = _ground_to_tilted(position.to_value(u.m), frame) + 1000 * target
    core = project_to_ground(
        SkyCoord(*u.Quantity(tilted, u.m).T, np.zeros(len(tilted)) * u.m, frame=frame)
    )
    core = np.column_stack([core.x.to_value(u.m), core.y.to_value(u.m)])
    return u.Quantity(core, u.m), u.Quantity(tilted, u.m)
