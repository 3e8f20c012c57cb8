"""Showers are drawn from the distributions that the card names."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import angular_separation, position_angle
from ctapipe.coordinates import altaz_to_righthanded_cartesian
from scipy.stats import kstest

from ctapipe_gammaphysnet.simulation.card import AirShowerCard
from ctapipe_gammaphysnet.simulation.conditions import draw_conditions
from ctapipe_gammaphysnet.simulation.primaries import draw_primary, shower_distribution

POINTINGS = [(90, 0), (90, 180), (70, 180), (45, 350), (30, 77)]


def make_card(altitude=70, azimuth=180, **values):
    return AirShowerCard(
        **{
            "particle": "gamma",
            "showers": 2000,
            "seed": 5,
            "pointing": {"altitude": altitude * u.deg, "azimuth": azimuth * u.deg},
        }
        | values
    )


def draw(card, run=1):
    return [draw_primary(card, run, shower)[0] for shower in range(1, card.showers + 1)]


@pytest.mark.parametrize("index", [-0.5, -1, -2, -2.7])
def test_energies_follow_the_power_law(index):
    card = make_card(spectral_index=index, energy_min=20 * u.GeV, energy_max=50 * u.TeV)
    energies = np.array([primary.energy_gev for primary in draw(card)])
    assert energies.min() >= 20
    assert energies.max() <= 50e3

    def cumulative(energy):
        if index == -1:
            return np.log(energy / 20) / np.log(50e3 / 20)
        power = index + 1
        return (energy**power - 20**power) / (50e3**power - 20**power)

    assert kstest(energies, cumulative).pvalue > 0.01


def test_equal_limits_are_one_energy():
    card = make_card(showers=5, energy_min=300 * u.GeV, energy_max=0.3 * u.TeV)
    assert {primary.energy_gev for primary in draw(card)} == {300.0}


@pytest.mark.parametrize(("altitude", "azimuth"), POINTINGS)
def test_directions_are_uniform_in_the_view_cone(altitude, azimuth):
    card = make_card(altitude, azimuth, view_cone=8 * u.deg)
    primaries = draw(card)
    alt = np.array([primary.alt_rad for primary in primaries])
    az = np.array([primary.az_rad for primary in primaries])
    assert np.all((az >= 0) & (az <= 2 * np.pi))
    separation = angular_separation(np.deg2rad(azimuth), np.deg2rad(altitude), az, alt)
    cosine_of_edge = np.cos(np.deg2rad(8))
    share_of_solid_angle = (1 - np.cos(separation)) / (1 - cosine_of_edge)
    assert kstest(share_of_solid_angle, "uniform").pvalue > 0.01

    # Around the pointing, too.
    sky = altaz_to_righthanded_cartesian(alt=alt * u.rad, az=az * u.rad)
    pointing = altaz_to_righthanded_cartesian(alt=altitude * u.deg, az=azimuth * u.deg)
    sideways = np.cross(pointing, [np.cos(1), np.sin(1), 0.1])
    sideways /= np.linalg.norm(sideways)
    third = np.cross(pointing, sideways)
    turn = np.arctan2(sky @ third, sky @ sideways) / (2 * np.pi) % 1
    assert kstest(turn, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("altitude", "azimuth"), POINTINGS)
def test_point_source_is_at_the_pointing(altitude, azimuth):
    card = make_card(altitude, azimuth, showers=5, view_cone=0 * u.deg)
    for primary in draw(card):
        separation = angular_separation(
            np.deg2rad(azimuth), np.deg2rad(altitude), primary.az_rad, primary.alt_rad
        )
        assert separation < 1e-12
        assert primary.alt_rad <= np.pi / 2


def separation_and_angle(altitude, azimuth, primaries):
    """Of the directions from a pointing, in deg."""
    pointing = np.radians([azimuth, altitude])
    az = np.array([primary.az_rad for primary in primaries])
    alt = np.array([primary.alt_rad for primary in primaries])
    separation = angular_separation(*pointing, az, alt)
    return np.degrees(separation), position_angle(*pointing, az, alt).to_value(u.deg)


@pytest.mark.parametrize(("altitude", "azimuth"), [(70, 180), (45, 350), (30, 77)])
@pytest.mark.parametrize("turn", [0, 90, 200])
def test_a_source_is_where_the_card_says(altitude, azimuth, turn):
    """Position angles are those of astropy."""
    card = make_card(
        altitude,
        azimuth,
        showers=4,
        source_offset=0.7 * u.deg,
        position_angle=turn * u.deg,
    )
    separation, angle = separation_and_angle(altitude, azimuth, draw(card))
    assert separation == pytest.approx(0.7)
    assert (angle - turn + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


def test_a_source_at_a_random_angle_is_all_around():
    card = make_card(70, 180, source_offset=0.7 * u.deg)
    separation, angle = separation_and_angle(70, 180, draw(card))
    assert separation == pytest.approx(0.7)
    assert kstest(angle / 360 % 1, "uniform").pvalue > 0.01


def test_a_source_changes_nothing_but_directions():
    one = make_card(showers=1)
    other = make_card(showers=1, source_offset=0.7 * u.deg)
    (primary,), (offset,) = draw(one), draw(other)
    assert primary.energy_gev == offset.energy_gev
    assert primary.core_x_m == pytest.approx(offset.core_x_m, rel=0.1, abs=5)


def test_showers_come_from_where_their_run_points():
    card = make_card(
        pointing={"altitude": ["40 deg", "80 deg"], "azimuth": ["0 deg", "90 deg"]},
        showers=3,
    )
    for run in (1, 2):
        night = draw_conditions(card, run)
        for primary in draw(card, run):
            assert primary.alt_rad == pytest.approx(night.altitude.to_value(u.rad))
            assert primary.az_rad == pytest.approx(night.azimuth.to_value(u.rad))


@pytest.mark.parametrize(("altitude", "azimuth"), POINTINGS)
def test_cores_are_uniform_in_the_disc_across_the_axis(altitude, azimuth):
    card = make_card(altitude, azimuth, showers=200, view_cone=5 * u.deg)
    distances, turns = [], []
    for primary in draw(card):
        axis = altaz_to_righthanded_cartesian(
            alt=primary.alt_rad * u.rad, az=primary.az_rad * u.rad
        )
        cores = np.column_stack(
            [primary.core_x_m, primary.core_y_m, np.zeros(card.reuse)]
        )
        across = cores - np.outer(cores @ axis, axis)
        distances.append(np.linalg.norm(across, axis=1))
        east = np.cross(axis, [0, 1, 0])
        east /= np.linalg.norm(east)
        turns.append(np.arctan2(across @ np.cross(axis, east), across @ east))
    distances, turns = np.concatenate(distances), np.concatenate(turns)
    assert len(distances) == 200 * card.reuse
    assert distances.max() <= 350 * (1 + 1e-9)
    assert kstest((distances / 350) ** 2, "uniform").pvalue > 0.01
    assert kstest(turns / (2 * np.pi) % 1, "uniform").pvalue > 0.01


def test_inclined_showers_have_long_footprints():
    card = make_card(30, 0, reuse=100, showers=50)  # from the north
    primaries = draw(card)
    x = np.concatenate([primary.core_x_m for primary in primaries])
    y = np.concatenate([primary.core_y_m for primary in primaries])
    assert np.abs(x).max() == pytest.approx(350 / np.sin(np.deg2rad(30)), rel=0.01)
    assert np.abs(y).max() == pytest.approx(350, rel=0.01)


def equal(first, second):
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in vars(first)
    )


def test_showers_do_not_depend_on_each_other():
    card = make_card(showers=20, view_cone=3 * u.deg)
    in_sequence = draw(card)
    for shower in (7, 3):
        primary, rng = draw_primary(card, 1, shower)
        assert equal(primary, in_sequence[shower - 1])
        assert rng.random() == draw_primary(card, 1, shower)[1].random()
    more_showers = make_card(showers=40, runs=7, view_cone=3 * u.deg)
    assert equal(draw_primary(more_showers, 1, 7)[0], in_sequence[6])


def test_showers_runs_seeds_and_particles_differ():
    card = make_card(energy_min=40 * u.GeV)
    energies = [
        draw_primary(*arguments)[0].energy_gev
        for arguments in (
            (card, 1, 1),
            (card, 1, 2),
            (card, 2, 1),
            (make_card(energy_min=40 * u.GeV, seed=6), 1, 1),
            (make_card(energy_min=40 * u.GeV, particle="electron"), 1, 1),
        )
    ]
    assert len(set(energies)) == len(energies)


@pytest.mark.parametrize("radius", [0, 350, 1200])
def test_shower_distribution_counts_all(radius):
    card = make_card(
        showers=300, scatter_radius=radius * u.m, energy_min=1 * u.GeV, reuse=7
    )
    histogram, energy_edges, core_edges = shower_distribution(card, 1)
    assert histogram.shape == (len(energy_edges) - 1, len(core_edges) - 1)
    assert histogram.sum() == 300 * 7
    assert core_edges[-1] == (radius or 1) * u.m
    energies = [primary.energy_gev for primary in draw(card)]
    expected, _ = np.histogram(energies, energy_edges.to_value(u.GeV))
    assert np.array_equal(histogram.sum(axis=1), 7 * expected)
    if radius:
        inner = histogram[:, : len(core_edges) // 2].sum()
        assert inner == pytest.approx(0.25 * 300 * 7, abs=4 * np.sqrt(300 * 7))
    else:
        assert histogram[:, 0].sum() == 300 * 7


@pytest.mark.parametrize("energy", [1 * u.GeV, 0.1 * u.TeV, 100 * u.TeV])
def test_shower_distribution_of_one_energy_is_in_one_bin(energy):
    card = make_card(showers=5, energy_min=energy, energy_max=energy)
    histogram, energy_edges, _ = shower_distribution(card, 1)
    (filled,) = np.nonzero(histogram.sum(axis=1))[0]
    assert energy_edges[filled] <= energy * (1 + 1e-9)
    assert energy_edges[filled + 1] >= energy * (1 - 1e-9)
