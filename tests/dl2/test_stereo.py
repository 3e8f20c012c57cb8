"""Many events combined at once, against ctapipe's combination of single events."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz
from ctapipe.coordinates import GroundFrame, TiltedGroundFrame

from ctapipe_gammaphysnet.dl2.stereo import combine_geometry, weighted_mean

# Event 1 has nothing, event 3 a single value.
EVENT = np.array([0, 2, 0, 3, 2, 2, 0])
N_EVENTS = 5


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_means_and_spreads_are_those_of_numpy(rng):
    values, weights = rng.normal(size=7), rng.uniform(0.1, 10, size=7)
    mean, spread = weighted_mean(values, weights, EVENT, N_EVENTS)
    for event in (0, 2):
        of = event == EVENT
        assert mean[event] == pytest.approx(np.average(values[of], weights=weights[of]))
        expected = np.sqrt(np.cov(values[of], aweights=weights[of]))
        assert spread[event] == pytest.approx(expected)
    assert mean[3] == pytest.approx(values[3])
    assert np.isnan(spread[3])
    assert np.isnan(mean[[1, 4]]).all()
    assert np.isnan(spread[[1, 4]]).all()


def test_no_values_at_all():
    nothing = np.array([])
    for result in weighted_mean(nothing, nothing, np.array([], int), 2):
        assert np.isnan(result).all()
        assert result.shape == (2,)


def test_an_unknown_weight_spoils_no_other_event():
    weights = np.array([np.nan, 1.0])
    mean, _ = weighted_mean(np.array([1.0, 2.0]), weights, np.array([0, 1]), 2)
    assert np.isnan(mean[0])
    assert mean[1] == 2


def test_cores_are_weighted_by_intensity(rng):
    x, y = rng.normal(scale=100, size=(2, 7))
    intensity = rng.uniform(50, 500, size=7)
    # An intensity of event 2 is not known: all of it weigh the same.
    intensity[4] = np.nan
    alt, az = np.linspace(60, 80, 5) * u.deg, np.linspace(0, 300, 5) * u.deg
    columns = combine_geometry({"core_x": x, "core_y": y}, intensity, EVENT, alt, az)
    for event, weights in ((0, intensity), (2, np.ones(7)), (3, intensity)):
        of = event == EVENT
        mean = [np.average(v[of], weights=weights[of]) for v in (x, y)]
        assert columns["core_x"][event] == pytest.approx(mean[0])
        assert columns["core_y"][event] == pytest.approx(mean[1])
        frame = TiltedGroundFrame(
            pointing_direction=AltAz(alt=alt[event], az=az[event])
        )
        tilted = GroundFrame(*mean * u.m, 0 * u.m).transform_to(frame)
        assert columns["core_tilted_x"][event] == pytest.approx(tilted.x.value)
        assert columns["core_tilted_y"][event] == pytest.approx(tilted.y.value)
    assert np.isnan(columns["core_uncert_x"][3])
    assert np.isfinite(columns["core_uncert_y"][[0, 2]]).all()


def test_heights_of_the_maximum_are_averaged_as_impact_points_are():
    """Of those telescopes that know them."""
    height = np.array([9e3, 8e3, 11e3, 7e3, np.nan, 10e3, 10e3])
    intensity = np.array([1.0, 2, 3, 4, 5, 6, 6])
    columns = combine_geometry(
        {"h_max": height}, intensity, EVENT, [70] * 5 * u.deg, [0] * 5 * u.deg
    )
    assert set(columns) == {"h_max", "h_max_uncert"}
    np.testing.assert_allclose(columns["h_max"], [10.2e3, np.nan, 9.5e3, 7e3, np.nan])
    assert np.isfinite(columns["h_max_uncert"]).tolist() == [
        True,
        False,
        True,
        *[False] * 2,
    ]
