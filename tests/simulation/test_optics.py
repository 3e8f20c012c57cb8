"""Mirrors make the images that CTAO's make, the way round that ctapipe has them."""

import math

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, SkyCoord
from ctapipe.coordinates import CameraFrame, TelescopeFrame

from ctapipe_gammaphysnet.simulation.optics import (
    MIRRORS,
    pointing_axes,
    reflect,
)
from ctapipe_gammaphysnet.simulation.vectors import from_altaz

C = 0.299792458  # m/ns
# Effective focal lengths in CTAO's simulations, with coma
EFFECTIVE_M = {"LST": 29.237, "MST": 16.44505}
POINTINGS = [(70, 0), (70, 180), (52, 90), (40, 359.8), (20, 233), (89.5, 45)]

both = pytest.mark.parametrize("name", MIRRORS)


def sharp(name):
    return MIRRORS[name]._replace(point_spread_rad=0.0)


def image(mirror, pointing, source, n=2000, time_ns=0.0, seed=0):
    """Where light from altitude and azimuth lands; all angles in rad."""
    rays = np.zeros((n, 4))
    rays[:, :3] = -np.array(from_altaz(*source))
    rays[:, 3] = time_ns
    return reflect(np.random.default_rng(seed), rays, pointing_axes(*pointing), mirror)


@pytest.mark.parametrize("alt_deg", [20.0, 70.0, 90.0])
@pytest.mark.parametrize("az_deg", [0.0, 123.0, 300.0])
def test_axes_are_where_altitude_and_azimuth_increase(alt_deg, az_deg):
    alt, az, step = math.radians(alt_deg), math.radians(az_deg), 1e-6
    axes = pointing_axes(alt, az)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(axes[2], from_altaz(alt, az), atol=1e-15)
    ahead, behind = (np.array(from_altaz(alt + s, az)) for s in (step, -step))
    np.testing.assert_allclose(axes[0], (ahead - behind) / (2 * step), atol=1e-9)
    if alt_deg < 90:
        ahead, behind = (np.array(from_altaz(alt, az + s)) for s in (step, -step))
        along = (ahead - behind) / (2 * step * math.cos(alt))
        np.testing.assert_allclose(axes[1], along, atol=1e-9)


@both
def test_light_from_the_pointing_goes_to_the_focus(name):
    x, y, _ = image(sharp(name), (1.2, 0.3), (1.2, 0.3)).T
    np.testing.assert_allclose([x, y], 0, atol=1e-12)


def test_a_paraboloid_is_isochronous():
    *_, time = image(sharp("LST"), (1.2, 0.3), (1.2, 0.3), time_ns=5.0).T
    np.testing.assert_allclose(time, 5.0, atol=1e-12)


def test_a_medium_sized_dish_spreads_times():
    """By less than the 0.8 ns that its specification allows, and early at the edge: an
    edge at height h saves h, and the rest of the way to the focus."""
    *_, time = image(sharp("MST"), (1.2, 0.3), (1.2, 0.3), n=20000).T
    edge_m = 6.0**2 / 2 / 19.2
    earliest = (math.hypot(6.0, 16.0 - edge_m) - edge_m - 16.0) / C
    assert time.min() == pytest.approx(earliest, rel=1e-3)
    assert time.max() == pytest.approx(0, abs=1e-3)
    assert 0.4 < time.std() < 0.8


@both
@pytest.mark.parametrize("offset_deg", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("axis", [0, 1])
def test_coma_makes_the_focal_length_the_effective_one(name, offset_deg, axis):
    pointing = np.array([0.0, 1.0])
    offset = math.radians(offset_deg) * np.eye(2)[axis]
    landed = image(sharp(name), pointing, pointing + offset, n=20000)
    effective = landed[:, axis].mean() / math.tan(math.radians(offset_deg))
    assert effective == pytest.approx(EFFECTIVE_M[name], rel=0.005)
    assert landed[:, 1 - axis].mean() == pytest.approx(0, abs=1e-3)


@both
def test_images_are_blurred_more_off_the_axis(name):
    pointing = (1.0, 1.0)
    width = [
        image(sharp(name), pointing, (1.0 + math.radians(offset), 1.0))[:, 0].std()
        for offset in (0.0, 0.5, 1.0, 2.0)
    ]
    assert (np.diff(width) > 0).all()
    # but by less than a pixel, 0.1° and 0.18°, within 1°
    assert width[2] / EFFECTIVE_M[name] < math.radians(0.1)


@both
def test_the_point_spread_is_the_given_one(name):
    mirror = MIRRORS[name]
    x, y, _ = image(mirror, (1.2, 0.3), (1.2, 0.3), n=20000).T
    expected = mirror.focal_length_m * mirror.point_spread_rad
    for values in (x, y):
        assert values.std() == pytest.approx(expected, rel=0.02)
        assert values.mean() == pytest.approx(0, abs=4 * expected / math.sqrt(20000))
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(0, abs=0.03)


def test_a_star_is_as_sharp_as_in_lst_1():
    """Its image has 39 % of the light within 0.0152 deg, and 80 % within 0.0303 deg."""
    mirror = MIRRORS["LST"]
    x, y, _ = image(mirror, (1.2, 0.3), (1.2, 0.3), n=20000).T
    radius_deg = np.degrees(np.hypot(x, y) / mirror.focal_length_m)
    assert np.quantile(radius_deg, 0.39) == pytest.approx(0.0152, rel=0.05)
    # a Gaussian lacks the tails of the mirror's facets
    assert np.quantile(radius_deg, 0.80) == pytest.approx(0.0303, rel=0.15)


@both
@pytest.mark.parametrize("pointing_deg", POINTINGS)
@pytest.mark.parametrize("offset_deg", [(1.0, 0.0), (0.0, 1.0), (-0.7, 0.9), (0.3, -1)])
def test_sources_are_where_ctapipe_expects_them(name, pointing_deg, offset_deg):
    pointing = SkyCoord(
        alt=pointing_deg[0] * u.deg, az=pointing_deg[1] * u.deg, frame=AltAz()
    )
    source = SkyCoord(
        fov_lon=offset_deg[0] * u.deg,
        fov_lat=offset_deg[1] * u.deg,
        frame=TelescopeFrame(telescope_pointing=pointing),
    ).transform_to(AltAz())
    expected = source.transform_to(
        CameraFrame(focal_length=EFFECTIVE_M[name] * u.m, telescope_pointing=pointing)
    )
    landed = image(
        MIRRORS[name],
        (pointing.alt.rad, pointing.az.rad),
        (source.alt.rad, source.az.rad),
    )
    # a tenth of a pixel
    np.testing.assert_allclose(
        landed[:, :2].mean(axis=0), [expected.x.value, expected.y.value], atol=5e-3
    )


def test_light_from_above_is_at_positive_x_and_from_larger_azimuth_at_positive_y():
    above = image(sharp("LST"), (1.0, 1.0), (1.02, 1.0)).mean(axis=0)
    east = image(sharp("LST"), (1.0, 1.0), (1.0, 1.02)).mean(axis=0)
    assert above[0] == pytest.approx(0.02 * 29.3, rel=0.01)
    assert east[1] == pytest.approx(0.02 * math.cos(1.0) * 29.3, rel=0.01)


@both
def test_times_off_the_axis_are_those_of_the_dish(name):
    """Light passes the vertex when it is said to, and the dish is symmetric."""
    on, off = (
        image(sharp(name), (1.0, 1.0), (1.0 + offset, 1.0), n=50000, time_ns=7.0)[:, 2]
        for offset in (0.0, math.radians(1.5))
    )
    assert off.mean() == pytest.approx(on.mean(), abs=0.05)
    # the front is inclined to the dish by 1.5°, and the camera is shifted
    assert off.std() == pytest.approx(on.std(), abs=0.4)


@both
@pytest.mark.parametrize("altitude", [-1.0, 0.0])
def test_light_from_behind_or_aside_does_not_land(name, altitude):
    landed = image(MIRRORS[name], (1.4, 0.3), (altitude, 0.3), n=10)
    assert np.isnan(landed).all()
