"""Telescopes are combined by their errors: planted ellipses and outliers."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord, angular_separation

from ctapipe_gammaphysnet.dl2.ellipses import _SHARED_ERRORS, _combine_energies
from ctapipe_gammaphysnet.dl2.product import combine_directions, combine_values
from ctapipe_gammaphysnet.tasks.ellipse import RADIUS, containment_radius
from ctapipe_gammaphysnet.tasks.metric import CONTAINMENT

N_EVENTS, N_TEL = 4000, 4


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def random_covariances(rng, n, n_dimensions):
    """Ellipses of many sizes and shapes."""
    axes = rng.normal(size=(n, n_dimensions, n_dimensions))
    size = 10 ** rng.uniform(-1, 0.3, (n, 1, 1))
    return size**2 * (axes @ np.swapaxes(axes, 1, 2) + 0.05 * np.eye(n_dimensions))


def draw(rng, covariances):
    root = np.linalg.cholesky(covariances)
    return np.einsum("nij,nj->ni", root, rng.normal(size=covariances.shape[:2]))


def pulls2(mean, covariance, truth=0):
    off = mean - truth
    return np.einsum("ni,nij,nj->n", off, np.linalg.inv(covariance), off)


@pytest.mark.parametrize("n_dimensions", [1, 2])
def test_consistent_telescopes_give_the_product(rng, n_dimensions):
    event = rng.permutation(np.repeat(np.arange(N_EVENTS), N_TEL))
    covariances = random_covariances(rng, len(event), n_dimensions)
    values = draw(rng, covariances) + 1e4
    mean, covariance = combine_values(values, covariances, event, N_EVENTS)
    distance2 = pulls2(mean, covariance, 1e4)
    # Distances squared of a normal distribution have this mean, its standard error, and
    # the limits of 68.27 %; few telescopes are beyond three standard deviations.
    error = np.sqrt(2 * n_dimensions / N_EVENTS)
    assert distance2.mean() == pytest.approx(n_dimensions, abs=4 * error)
    inside = np.mean(distance2 < RADIUS[n_dimensions] ** 2)
    error = np.sqrt(CONTAINMENT * (1 - CONTAINMENT) / N_EVENTS)
    assert inside == pytest.approx(CONTAINMENT, abs=3 * error)
    # Where all agree, it is the product to rounding.
    agree = np.full(N_EVENTS, True)
    deviation = values - mean[event]
    far = np.einsum("ni,nij,nj->n", deviation, np.linalg.inv(covariances), deviation)
    agree[event[far > 9]] = False
    assert agree.mean() > 0.9
    for number in np.flatnonzero(agree)[:50]:
        precision = np.linalg.inv(covariances[event == number])
        expected = np.linalg.inv(precision.sum(axis=0))
        np.testing.assert_allclose(covariance[number], expected)
        weighted = np.einsum("nij,nj->i", precision, values[event == number])
        np.testing.assert_allclose(mean[number], expected @ weighted)


def test_one_telescope_is_the_array(rng):
    covariances = random_covariances(rng, 5, 2)
    values = rng.normal(size=(5, 2))
    mean, covariance = combine_values(values, covariances, np.array([7, 0, 3, 4, 1]), 9)
    np.testing.assert_allclose(mean[[7, 0, 3, 4, 1]], values)
    np.testing.assert_allclose(covariance[[7, 0, 3, 4, 1]], covariances)
    assert np.isnan(mean[[2, 5, 6, 8]]).all()
    assert np.isnan(covariance[[2, 5, 6, 8]]).all()


@pytest.mark.parametrize(
    ("distance", "sharp"), [(10, 1), (100, 1), (1e6, 1), (100, 0.2), (1e6, 0.2)]
)
def test_an_outlier_does_not_drag_the_array(rng, distance, sharp):
    """One of three telescopes is far off what it says, however sure it is."""
    event = np.repeat(np.arange(500), 3)
    covariances = np.tile(np.eye(2), (len(event), 1, 1))
    covariances[::3] *= sharp**2
    values = draw(rng, covariances)
    without, of_two = combine_values(
        values[np.arange(len(event)) % 3 > 0],
        covariances[np.arange(len(event)) % 3 > 0],
        np.repeat(np.arange(500), 2),
        500,
    )
    values[::3] += distance * sharp * np.array([0.6, 0.8])
    mean, covariance = combine_values(values, covariances, event, 500)
    plain = np.einsum("nij,nj->ni", np.linalg.inv(covariances), values)
    plain = plain.reshape(500, 3, 2).sum(axis=1) / (2 + sharp**-2)
    dragged = np.linalg.norm(plain - without, axis=1)
    moved = np.linalg.norm(mean - without, axis=1)
    # Two telescopes with errors of 1 are combined to 0.7.
    close = moved < 0.7
    assert close.mean() > 0.98
    assert np.median(moved) < 0.3 * np.median(dragged)
    if distance >= 100:
        np.testing.assert_allclose(covariance[close], of_two[close], rtol=0.15)


def test_a_certain_telescope_outvotes_two_that_it_does_not_contradict():
    """It is within their errors, they are beyond its own."""
    values = np.array([[0.0], [0.1], [2.0]])
    covariances = np.array([1.0, 1.0, 0.04]).reshape(3, 1, 1)
    mean, _ = combine_values(values, covariances, np.zeros(3, int), 1)
    precision = 1 / covariances[:, 0, 0]
    assert mean[0, 0] == pytest.approx(
        np.average(values[:, 0], weights=precision), abs=0.1
    )


@pytest.mark.parametrize("shower_alt", [20, 70, 89.95, 90])
@pytest.mark.parametrize("az", [0.01, 123])
def test_directions_on_the_sphere(rng, shower_alt, az):
    """Telescopes around a shower: pulls, coverage, and no distortion anywhere."""
    n, shower_alt = 1500, np.deg2rad(shower_alt)
    event = np.repeat(np.arange(n), 3)
    covariances = np.deg2rad(0.1) ** 2 * random_covariances(rng, len(event), 2)
    # Drawn in the plane of the shower, with its axes.
    off = draw(rng, covariances)
    centre = SkyCoord(az * u.deg, shower_alt * u.rad)
    position = np.arctan2(off[:, 0], off[:, 1]) * u.rad
    seen = centre.directional_offset_by(position, np.hypot(*off.T) * u.rad)
    # The axes at the telescope's direction are turned against those at the shower's.
    turn = seen.position_angle(centre) + 180 * u.deg - position
    cos, sin = np.cos(turn).value, np.sin(turn).value
    turn = np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2)
    local = turn @ covariances @ np.swapaxes(turn, 1, 2)
    alt, azimuth, covariance = combine_directions(
        seen.dec.rad, seen.ra.rad, local, event, n
    )
    separation = angular_separation(azimuth, alt, np.deg2rad(az), shower_alt)
    # The ellipse's own plane, at the result.
    found = SkyCoord(azimuth * u.rad, alt * u.rad)
    angle = found.position_angle(centre).rad
    towards = separation[:, None] * np.column_stack([np.sin(angle), np.cos(angle)])
    distance2 = pulls2(towards, covariance)
    assert distance2.mean() == pytest.approx(2, abs=4 * np.sqrt(4 / n))
    inside = np.mean(distance2 < RADIUS[2] ** 2)
    error = np.sqrt(CONTAINMENT * (1 - CONTAINMENT) / n)
    assert inside == pytest.approx(CONTAINMENT, abs=3 * error)
    circles = np.mean(separation < containment_radius(covariance))
    assert circles == pytest.approx(CONTAINMENT, abs=3 * error)


def test_nothing_to_combine():
    alt, az, covariance = combine_directions(
        np.empty(0), np.empty(0), np.empty((0, 2, 2)), np.empty(0, int), 2
    )
    assert np.isnan([alt, az]).all()
    assert covariance.shape == (2, 2, 2)


def test_telescopes_share_a_part_of_their_errors(rng):
    """Four equal telescopes whose errors are correlated as the combiner expects."""
    n = 3000
    shared = _SHARED_ERRORS["energy"]
    common = rng.normal(size=(n, 1)) * np.sqrt(shared)
    errors = 0.2 * (common + rng.normal(size=(n, 4)) * np.sqrt(1 - shared))
    event = np.repeat(np.arange(n), 4)
    energy = np.exp(errors.ravel())
    columns, used = _combine_energies(
        {"energy": energy, "energy_uncert": energy * np.sinh(0.2)},
        np.full(4 * n, True),
        event,
        n,
    )
    assert used.all()
    pull = np.log(columns["energy"]) / np.arcsinh(
        columns["energy_uncert"] / columns["energy"]
    )
    assert pull.std() == pytest.approx(1, abs=0.05)
    # Independent, they would be taken for far too good.
    assert errors.mean(axis=1).std() > 1.3 * 0.1


@pytest.mark.parametrize("n_dimensions", [1, 2])
def test_an_event_alone_is_as_among_others(rng, n_dimensions):
    """Some need many steps; in others a telescope is far off the first result only."""
    n, n_events = 3000, 900
    event = rng.integers(0, n_events, n)
    values = rng.standard_t(2, size=(n, n_dimensions))
    covariances = random_covariances(rng, n, n_dimensions)
    means, _ = combine_values(values, covariances, event, n_events)
    for number in range(n_events):
        rows = event == number
        zeros = np.zeros(rows.sum(), int)
        (mean,), _ = combine_values(values[rows], covariances[rows], zeros, 1)
        np.testing.assert_allclose(mean, means[number], rtol=1e-9, atol=1e-9)
