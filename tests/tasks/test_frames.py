"""Changes of frames, against astropy's and ctapipe's own, over the whole sphere."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import (
    AltAz,
    SkyCoord,
    angular_separation,
    offset_by,
)
from ctapipe.coordinates import (
    GroundFrame,
    TelescopeFrame,
    TiltedGroundFrame,
    altaz_to_righthanded_cartesian,
    project_to_ground,
)

from ctapipe_gammaphysnet.tasks.frames import (
    ground_from_tilted,
    horizontal_from_offset,
    offset_from_horizontal,
    offset_on_sky,
    shower_axis,
    tilted_from_ground,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::ctapipe.coordinates.MissingFrameAttributeWarning"
)


def sphere(n=2000, seed=0):
    """Directions (longitude from 0 to 2π, latitude), with poles and the north."""
    rng = np.random.default_rng(seed)
    lon = rng.uniform(0, 2 * np.pi, n)
    lat = np.arcsin(rng.uniform(-1, 1, n))
    special = [0, 1e-12, np.pi / 2, np.pi, 2 * np.pi - 1e-12]
    poles = [np.pi / 2, np.pi / 2 - 1e-9, 0, -np.pi / 2]
    edges = np.array([(x, y) for x in special for y in poles]).T
    return np.concatenate([lon, edges[0]]), np.concatenate([lat, edges[1]])


def telescope_frame(alt, az):
    return TelescopeFrame(telescope_pointing=AltAz(alt=alt * u.rad, az=az * u.rad))


@pytest.fixture
def pairs():
    """Directions and pointings: each direction with a random one, and with itself."""
    (az, alt), (pointing_az, pointing_alt) = sphere(seed=1), sphere(seed=2)
    rng = np.random.default_rng(3)
    order = rng.permutation(len(az))
    pointing_az, pointing_alt = pointing_az[order], pointing_alt[order]
    return tuple(
        np.concatenate(parts)
        for parts in (
            (az, az),
            (alt, alt),
            (pointing_az, az + 1e-3 * rng.standard_normal(len(az))),
            (pointing_alt, np.clip(alt, -1.5, 1.5)),
        )
    )


def assert_same_direction(lon, lat, other_lon, other_lat):
    separation = angular_separation(lon, lat, other_lon, other_lat)
    assert np.abs(separation).max() < 1e-9


def test_offsets_are_those_of_the_telescope_frame(pairs):
    az, alt, pointing_az, pointing_alt = pairs
    lon, lat = offset_from_horizontal(alt, az, pointing_alt, pointing_az)
    expected = SkyCoord(alt=alt * u.rad, az=az * u.rad, frame=AltAz()).transform_to(
        telescope_frame(pointing_alt, pointing_az)
    )
    assert_same_direction(lon, lat, expected.fov_lon.rad, expected.fov_lat.rad)
    assert (np.abs(lon) <= np.pi).all()


def test_directions_are_those_of_astropy(pairs):
    lon, lat, pointing_az, pointing_alt = pairs
    alt, az = horizontal_from_offset(lon, lat, pointing_alt, pointing_az)
    expected = SkyCoord(
        fov_lon=lon * u.rad,
        fov_lat=lat * u.rad,
        frame=telescope_frame(pointing_alt, pointing_az),
    ).transform_to(AltAz())
    assert_same_direction(az, alt, expected.az.rad, expected.alt.rad)
    assert ((az >= 0) & (az < 2 * np.pi)).all()
    back = offset_from_horizontal(alt, az, pointing_alt, pointing_az)
    assert_same_direction(*back, lon, lat)


def test_azimuths_at_the_north_are_no_whole_turn():
    lon, az = np.array([-1e-17, 1e-17, -1e-9]), np.zeros(3)
    _, found = horizontal_from_offset(lon, np.zeros(3), np.zeros(3), az)
    np.testing.assert_allclose(found, [0, 0, 2 * np.pi - 1e-9], atol=1e-15)


def test_ground_and_tilted_ground_are_those_of_ctapipe():
    az, alt = sphere(seed=4)
    position = np.random.default_rng(5).uniform(-2000, 2000, (len(az), 3))
    frame = TiltedGroundFrame(pointing_direction=AltAz(alt=alt * u.rad, az=az * u.rad))
    ground = GroundFrame(*(position.T * u.m))
    expected = ground.transform_to(frame)
    tilted = tilted_from_ground(position, alt, az)
    np.testing.assert_allclose(tilted[:, 0], expected.x.to_value(u.m), atol=1e-6)
    np.testing.assert_allclose(tilted[:, 1], expected.y.to_value(u.m), atol=1e-6)


def test_projections_to_the_ground_are_those_of_ctapipe():
    az, alt = sphere(seed=6)
    # Near the horizon they are far away, and no use.
    az, alt = az[alt > 0.1], alt[alt > 0.1]
    xy = np.random.default_rng(7).uniform(-2000, 2000, (len(az), 2))
    frame = TiltedGroundFrame(pointing_direction=AltAz(alt=alt * u.rad, az=az * u.rad))
    x, y = xy.T * u.m
    expected = project_to_ground(SkyCoord(x, y, np.zeros(len(x)) * u.m, frame=frame))
    found = ground_from_tilted(xy, alt, az)
    np.testing.assert_allclose(found[:, 0], expected.x.to_value(u.m), atol=1e-6)
    np.testing.assert_allclose(found[:, 1], expected.y.to_value(u.m), atol=1e-6)
    back = tilted_from_ground(np.pad(found, ((0, 0), (0, 1))), alt, az)
    np.testing.assert_allclose(back, xy, atol=1e-6)


def test_shower_axes_are_those_of_ctapipe():
    az, alt = sphere(seed=8)
    expected = altaz_to_righthanded_cartesian(alt=alt, az=az)
    np.testing.assert_allclose(shower_axis(alt, az), expected, atol=1e-15)


def test_offsets_on_the_sky_lead_back_to_the_direction(pairs):
    az, alt, from_az, from_alt = pairs
    offset = offset_on_sky(alt, az, from_alt, from_az)
    length = np.linalg.norm(offset, axis=1)
    separation = angular_separation(az, alt, from_az, from_alt)
    np.testing.assert_allclose(length, separation, atol=1e-7)
    moved = offset_by(from_az, from_alt, np.arctan2(*offset.T), length)
    found = (angle.to_value(u.rad) for angle in moved)
    # astropy's function rounds at the poles.
    assert angular_separation(az, alt, *found).max() < 1e-7
