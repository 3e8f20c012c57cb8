"""Each run has its own night, the same whoever simulates it."""

import astropy.units as u
import numpy as np
import pytest
from scipy.stats import kstest

from ctapipe_gammaphysnet.simulation.card import AirShowerCard
from ctapipe_gammaphysnet.simulation.conditions import draw_conditions

RANGES = {
    "pointing": {
        "altitude": ["30 deg", "85 deg"],
        "azimuth": ["-60 deg", "200 deg"],
    },
    "night_sky_rate": ["0.2 GHz", "0.5 GHz"],
}


def make_card(**values):
    return AirShowerCard(**{"particle": "gamma", "showers": 1, "seed": 4} | values)


def draw(card, n_runs=500):
    return [draw_conditions(card, run) for run in range(1, n_runs + 1)]


def test_without_ranges_all_nights_are_as_the_card_says():
    card = make_card(pointing={"altitude": "52 deg"}, night_sky_rate="300 MHz")
    for conditions in draw(card, 5):
        assert conditions.altitude == 52 * u.deg
        assert conditions.azimuth == 180 * u.deg
        assert conditions.night_sky_rate == 0.3 * u.GHz


def test_runs_fill_the_ranges():
    altitude, azimuth, rate = (
        u.Quantity(values) for values in zip(*draw(make_card(**RANGES)), strict=True)
    )
    low, high = np.sin(np.radians([30, 85]))
    sine = np.sin(altitude).value
    for share in (
        (sine - low) / (high - low),  # solid angle
        (azimuth.to_value(u.deg) + 60) / 260,
        (rate.to_value(u.GHz) - 0.2) / 0.3,
    ):
        assert 0 <= share.min() < 0.02
        assert 0.98 < share.max() <= 1
        assert kstest(share, "uniform").pvalue > 0.01
    correlations = np.corrcoef([sine, azimuth.value, rate.value])
    assert np.abs(correlations - np.eye(3)).max() < 0.2


def test_limits_of_a_range_may_be_equal():
    card = make_card(pointing={"altitude": ["90 deg", "90 deg"]})
    for conditions in draw(card, 5):
        assert conditions.altitude == 90 * u.deg


def test_runs_take_the_pointings_of_a_list_in_turn():
    pointings = [
        {"altitude": "70 deg"},
        {"altitude": "50 deg", "azimuth": "0 deg"},
        {"altitude": ["30 deg", "40 deg"]},
    ]
    card = make_card(pointing=pointings, first_run=3, runs=5)
    nights = {run: draw_conditions(card, run) for run in card.run_numbers}
    assert [n.altitude.value for n in nights.values() if n.altitude > 40 * u.deg] == [
        70,
        50,
        70,
    ]
    assert nights[5].azimuth == 0 * u.deg
    assert 30 * u.deg < nights[3].altitude < 40 * u.deg
    assert nights[3] != nights[6]


def test_a_night_depends_on_seed_and_run_alone():
    """Otherwise it would tell gammas from protons."""
    card = make_card(**RANGES)
    others = (
        make_card(**RANGES, runs=9, first_run=2, showers=7, view_cone="2 deg"),
        make_card(**RANGES, particle="proton", array="lst4"),
    )
    for other in others:
        assert draw(other, 5) == draw(card, 5)
    assert draw(make_card(**RANGES | {"seed": 5}), 5) != draw(card, 5)
    fixed = make_card(**RANGES | {"pointing": {"altitude": "70 deg"}})
    for one, same_sky in zip(draw(card, 5), draw(fixed, 5), strict=True):
        assert one.night_sky_rate == same_sky.night_sky_rate


@pytest.mark.parametrize("run", [1, 2**31 - 1])
def test_any_run_number_has_a_night(run):
    assert (
        30 * u.deg <= draw_conditions(make_card(**RANGES), run).altitude <= 85 * u.deg
    )
