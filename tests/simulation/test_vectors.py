"""Directions turn and four-momenta transform as geometry and relativity want it."""

import math

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, SkyCoord
from ctapipe.coordinates import GroundFrame, TiltedGroundFrame
from scipy import stats

from ctapipe_gammaphysnet.simulation import vectors

DIRECTIONS = {
    "up": (0.0, 0.0, 1.0),
    "down": (0.0, 0.0, -1.0),
    "nearly up": vectors.normalise(1e-10, -2e-10, 1.0),
    "nearly down": vectors.normalise(1e-10, 2e-10, -1.0),
    "off up": vectors.normalise(1e-7, 2e-7, 1.0),
    "off down": vectors.normalise(-1e-7, 2e-7, -1.0),
    "north": (1.0, 0.0, 0.0),
    "west": (0.0, 1.0, 0.0),
    "slanting down": vectors.normalise(0.3, -0.2, -0.8),
    "slanting up": vectors.normalise(-0.5, -0.6, 0.2),
}
POLAR_RAD = [0.0, 1e-6, 0.01, 1.0, math.pi / 2, 2.5, math.pi]


def turned(direction, polar, azimuth):
    return np.array(
        vectors.turn(direction, math.cos(polar), abs(math.sin(polar)), azimuth)
    )


def lorentz_matrix(energy, momentum, mass):
    """From the rest frame of a particle to where it moves."""
    beta = np.array(momentum) / energy
    gamma = energy / mass
    matrix = np.empty((4, 4))
    matrix[0, 0] = gamma
    matrix[0, 1:] = matrix[1:, 0] = gamma * beta
    matrix[1:, 1:] = np.eye(3) + (gamma - 1) * np.outer(beta, beta) / (beta @ beta)
    return matrix


@pytest.mark.parametrize("vector", [(3.0, 4.0, 12.0), (0.0, 0.0, -1e-8), (1e9, -1, 0)])
def test_a_vector_is_scaled_to_length_one(vector):
    direction = vectors.normalise(*vector)
    np.testing.assert_allclose(np.cross(direction, vector), 0, atol=1e-12)
    np.testing.assert_allclose(np.dot(direction, vector), np.linalg.norm(vector))
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("polar", POLAR_RAD)
def test_a_direction_turns_by_the_polar_angle(direction, polar):
    for azimuth in np.linspace(-7, 7, 9):
        result = turned(direction, polar, azimuth)
        assert np.linalg.norm(result) == pytest.approx(1, abs=1e-14)
        between = math.atan2(
            np.linalg.norm(np.cross(direction, result)), np.dot(direction, result)
        )
        assert between == pytest.approx(polar, abs=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_azimuths_are_angles_around_the_direction(direction):
    azimuths = np.linspace(0, 2 * np.pi, 25)
    across = np.array([turned(direction, math.pi / 2, angle) for angle in azimuths])
    np.testing.assert_allclose(across @ direction, 0, atol=1e-9)
    np.testing.assert_allclose(
        across @ across.T,
        np.cos(azimuths - azimuths[:, np.newaxis]),
        rtol=0,
        atol=1e-9,
    )


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_opposite_azimuths_balance(direction):
    """As a photon and an electron do that fly apart."""
    one, other = (turned(direction, 0.3, azimuth) for azimuth in (2.0, 2.0 + math.pi))
    np.testing.assert_allclose(
        one + other, 2 * math.cos(0.3) * np.array(direction), atol=1e-9
    )


def test_isotropic_directions_are_everywhere_alike():
    rng = np.random.default_rng(0)
    directions = np.array([vectors.isotropic(rng) for _ in range(20000)])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-14)
    # Archimedes: the projection on any axis is uniform
    oblique = np.array([1, -2, 2]) / 3
    for axis in (*np.eye(3), oblique):
        assert stats.kstest(directions @ axis, "uniform", (-1, 2)).pvalue > 0.001


@pytest.mark.parametrize(
    "momentum", [(0.3, -0.4, 1.2), (0.0, 0.0, -50.0), (1e3, 2e3, 3e3)]
)
def test_a_boost_is_the_lorentz_transformation(momentum):
    mass = 0.1396
    energy = math.hypot(mass, *momentum)
    particle = np.array([0.07, 0.03, -0.05, 0.02])
    boosted = vectors.boost(particle[0], tuple(particle[1:]), energy, momentum, mass)
    np.testing.assert_allclose(
        [boosted[0], *boosted[1]],
        lorentz_matrix(energy, momentum, mass) @ particle,
        rtol=1e-8,
    )


def test_a_boost_of_what_rests_is_the_moving_particle():
    momentum = (1.0, -2.0, 3.0)
    energy, boosted = vectors.boost(
        0.5, (0.0, 0.0, 0.0), math.hypot(0.5, *momentum), momentum, 0.5
    )
    assert energy == pytest.approx(math.hypot(0.5, *momentum), rel=1e-14)
    np.testing.assert_allclose(boosted, momentum, rtol=1e-14)


def test_a_boost_to_a_particle_at_rest_changes_nothing():
    energy, momentum = vectors.boost(0.5, (0.1, 0.2, 0.3), 2.0, (0.0, 0.0, 0.0), 2.0)
    assert energy == pytest.approx(0.5)
    np.testing.assert_allclose(momentum, (0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("alt_deg", "az_deg", "expected"),
    [
        (0, 0, (1, 0, 0)),
        (0, 90, (0, -1, 0)),
        (0, 270, (0, 1, 0)),
        (90, 12, (0, 0, 1)),
        (45, 180, (-(0.5**0.5), 0, 0.5**0.5)),
    ],
)
def test_the_ground_frame_looks_north_west_and_up(alt_deg, az_deg, expected):
    direction = vectors.from_altaz(math.radians(alt_deg), math.radians(az_deg))
    np.testing.assert_allclose(direction, expected, atol=1e-15)


@pytest.mark.parametrize(("alt_deg", "az_deg"), [(70, 0), (52, 123), (30, 290)])
def test_a_direction_is_that_of_ctapipes_frames(alt_deg, az_deg):
    """What lies along the pointing is at the origin of the tilted frame."""
    pointing = SkyCoord(alt=alt_deg * u.deg, az=az_deg * u.deg, frame=AltAz())
    direction = np.array(
        vectors.from_altaz(math.radians(alt_deg), math.radians(az_deg))
    )
    x, y, z = 1000 * direction * u.m
    tilted = GroundFrame(x=x, y=y, z=z).transform_to(
        TiltedGroundFrame(pointing_direction=pointing)
    )
    np.testing.assert_allclose([tilted.x.value, tilted.y.value], 0, atol=1e-9)
    assert direction[2] > 0
