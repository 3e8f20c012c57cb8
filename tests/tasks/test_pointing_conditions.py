"""What heads know beside the image: its numbers, against astropy and known values."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, SkyCoord
from ctapipe.coordinates import TelescopeFrame
from numpy.testing import assert_allclose, assert_array_equal

from ctapipe_gammaphysnet.tasks import TASKS
from ctapipe_gammaphysnet.tasks.conditions import (
    CONDITIONS,
    as_columns,
    conditions_of,
    count_columns,
    that_need,
)
from ctapipe_gammaphysnet.training.augmentation import turn_targets

#: North, west and up on La Palma, in µT.
LA_PALMA = (30.8, 2.3, -23.4)


def conditions(name, alt_deg, az_deg=0.0, field=LA_PALMA):
    alt, az = np.broadcast_arrays(np.deg2rad(alt_deg), np.deg2rad(az_deg))
    alt, az = np.atleast_1d(alt, az)
    return conditions_of((name,), alt, az, field, np.full(len(alt), 2.0))[name]


def test_the_noise_is_its_logarithm():
    noise = np.array([1.5, 1.5 * np.sqrt(3), 0.75, 0.0, np.nan, 1e-3, 1e3])
    found = conditions_of(("noise",), noise_pe=noise)["noise"][:, 0]
    # Three times the night sky is the square root of that in noise.
    assert_allclose(found[:3], [0, 1.5 * np.log(3), -3 * np.log(2)], atol=1e-6)
    assert found.dtype == np.float32
    assert np.isnan(found[3:5]).all()
    # Of two pixels that are alike, say.
    assert_array_equal(found[5:], [-5, 5])


def test_each_needs_what_it_is_computed_from():
    assert that_need(CONDITIONS, "pointing") == ["zenith", "geomagnetic_field"]
    assert that_need(CONDITIONS, "field") == ["geomagnetic_field"]
    assert that_need(CONDITIONS, "noise") == ["noise"]
    unknown = np.array([np.nan])
    noise = conditions_of(("noise",), unknown, unknown, None, np.ones(1))
    assert np.isfinite(noise["noise"]).all()


def test_zenith_is_its_cosine():
    found = conditions("zenith", [90.0, 60.0, 45.0, 30.0])[:, 0]
    expected = 5 * (np.cos(np.deg2rad([0, 30, 45, 60])) - 0.8)
    assert found.dtype == np.float32
    assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found).max() < 2


@pytest.mark.parametrize(("alt", "az"), [(70.0, 180.0), (45.0, 0.0), (20.0, 77.0)])
def test_the_field_is_where_astropy_sees_it(alt, az):
    """A telescope near the field's direction sees it on that side."""
    north, west, up = field = LA_PALMA
    total = np.linalg.norm(field)
    direction = AltAz(
        alt=np.arcsin(up / total) * u.rad, az=np.arctan2(-west, north) * u.rad
    )
    pointing = AltAz(alt=alt * u.deg, az=az * u.deg)
    seen = SkyCoord(direction).transform_to(TelescopeFrame(telescope_pointing=pointing))
    # Gnomonic components of the unit vector across the pointing.
    lon, lat = seen.fov_lon.rad, seen.fov_lat.rad
    across = total * np.array([np.cos(lat) * np.sin(lon), np.sin(lat)])
    assert_allclose(conditions("geomagnetic_field", alt, az)[0], across / 30, atol=1e-5)


def test_a_field_along_the_pointing_is_not_seen():
    alt, az = np.deg2rad(50), np.deg2rad(30)
    field = 40 * np.array(
        [np.cos(alt) * np.cos(az), -np.cos(alt) * np.sin(az), np.sin(alt)]
    )
    assert_allclose(conditions("geomagnetic_field", 50, 30, field), 0, atol=1e-6)


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("alt", [90.0, 89.9999, 60.0, 0.0])
def test_north_is_no_jump(name, alt):
    found = conditions(name, alt, [-1e-5, 0.0, 1e-5, 360.0 - 1e-5, 360.0, 720.0])
    assert_allclose(found, np.broadcast_to(found[1], found.shape), atol=1e-6)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_turned_image_is_that_of_a_turned_field(name):
    """At the zenith, turning the camera is turning the azimuth."""
    turns = np.arange(6)
    before = np.repeat(conditions(name, 90.0, 20.0), 6, axis=0)
    (turned,) = turn_targets({name: before}, turns).values()
    # Towards larger azimuths the sky is seen on the other side of the camera.
    expected = conditions(name, 90.0, 20.0 - 60.0 * turns)
    assert_allclose(turned, expected, atol=1e-6)
    assert turned.dtype == np.float32
    if name != "geomagnetic_field":
        assert_array_equal(turned, before)
    else:
        assert np.abs(turned[1:] - before[1:]).max(axis=1).min() > 0.5


def test_they_are_joined_in_the_order_of_their_names():
    alt, az = np.deg2rad([70.0, 50.0, np.nan]), np.deg2rad([0.0, 90.0, 0.0])
    names = ("geomagnetic_field", "zenith")
    found = conditions_of(names, alt, az, LA_PALMA)
    columns = as_columns(found, 3)
    assert columns.shape == (3, count_columns(names)) == (3, 3)
    assert columns.dtype == np.float32
    assert_array_equal(columns[:, :2], found["geomagnetic_field"])
    assert_array_equal(columns[:, 2:], found["zenith"])
    assert np.isnan(columns[2]).all()
    assert np.isfinite(columns[:2]).all()


def test_without_names_there_are_no_columns():
    assert as_columns(conditions_of((), np.zeros(4), np.zeros(4)), 4).shape == (4, 0)
    assert count_columns(()) == 0


def test_names_are_unique():
    assert not {*CONDITIONS} & {*TASKS}


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_has_as_many_columns_as_it_says(name):
    assert conditions(name, [70.0, 60.0]).shape == (2, CONDITIONS[name].n_columns)
