"""The light of a track is what Frank and Tamm say, and goes where geometry sends it."""

import math

import numpy as np
import pytest
from scipy import stats

from ctapipe_gammaphysnet.simulation import atmosphere
from ctapipe_gammaphysnet.simulation.cherenkov import (
    YIELD_STEP_M,
    Photoelectrons,
    Targets,
    emit,
    photoelectron_yield,
)
from ctapipe_gammaphysnet.simulation.extinction import transmission
from ctapipe_gammaphysnet.simulation.vectors import normalise

C = 0.299792458  # m/ns
GROUND_M = 2158.0
DOWN = (0.0, 0.0, -1.0)
SLANTING = normalise(0.3, -0.2, -0.9)
EVERYWHERE_M = 1e5  # radius of a telescope that catches all
N_HEIGHTS = int(atmosphere.TOP_M / YIELD_STEP_M) + 1
REFRACTIVITY = 1.5e-4
AIR = atmosphere.ATMOSPHERES["la_palma"]
GAMMA = 1e5


def make_targets(*positions_m, radius_m=11.5, focus_m=np.inf, light=1e4, at_once=1e3):
    """Telescopes that get so many photoelectrons per m and sin²."""
    positions_m = np.array(positions_m or [(0.0, 0.0, GROUND_M)], float)
    return Targets(
        position_m=positions_m,
        overburden=np.array([atmosphere.overburden(AIR, z) for z in positions_m[:, 2]]),
        kind=np.zeros(len(positions_m), int),
        radius_m=np.full(len(positions_m), radius_m),
        focus_m=np.full(len(positions_m), focus_m),
        yield_per_m=np.full((1, N_HEIGHTS), float(light)),
        photoelectrons_per_point=at_once,
    )


def track(
    targets,
    start,
    length_m,
    direction=DOWN,
    *,
    n_steps=1,
    to=None,
    wobble_rad=0.0,
    gammas=(GAMMA, GAMMA),
    refractivity=REFRACTIVITY,
    time_ns=0.0,
    beta=1.0,
    capacity=200_000,
    seed=0,
):
    """Let a particle go straight; give targets, rays and how many there were."""
    rng = np.random.default_rng(seed)
    photoelectrons = Photoelectrons.with_capacity(capacity)
    step_m = length_m / n_steps
    displacement = tuple(step_m * component for component in direction)
    for k in range(n_steps):
        point = tuple(a + k * b for a, b in zip(start, displacement, strict=True))
        depths = [
            atmosphere.overburden(AIR, max(z, 0.0))
            for z in (point[2], point[2] + displacement[2])
        ]
        emit(
            rng,
            targets,
            photoelectrons,
            point,
            displacement,
            step_m,
            (direction, to or direction),
            wobble_rad,
            gammas,
            (refractivity, refractivity),
            tuple(depths),
            time_ns + k * step_m / (C * beta),
            beta,
        )
    count = int(photoelectrons.count[0])
    kept = min(count, capacity)
    return photoelectrons.target[:kept], photoelectrons.ray[:kept], count


def cone(refractivity=REFRACTIVITY, gamma=GAMMA):
    """Cherenkov angle, without approximation."""
    beta = math.sqrt(1 - gamma**-2)
    return math.acos(1 / ((1 + refractivity) * beta))


def angle_between(rays, direction):
    across = np.cross(rays[:, :3].astype(float), direction)
    return np.arcsin(np.linalg.norm(across, axis=1))


def assert_poisson(count, mean):
    assert mean > 1000
    assert count == pytest.approx(mean, abs=3.5 * math.sqrt(mean))


def disc_over_distance(radius_m, distance_m):
    """Integral of 1 / r over a disc, where r is the distance from a point."""
    r = np.linspace(max(distance_m - radius_m, 1e-9), distance_m + radius_m, 200_001)
    cosine = (r**2 + distance_m**2 - radius_m**2) / (2 * r * distance_m)
    return np.trapezoid(2 * np.arccos(np.clip(cosine, -1, 1)), r)


def test_the_yield_is_that_of_frank_and_tamm():
    """PDG: 370 sin² photons per cm and eV."""
    wavelength_nm = np.linspace(300, 600, 301)
    table = photoelectron_yield(GROUND_M, 1.0, wavelength_nm, np.ones(301))
    energy_ev = 1239.84 / 300 - 1239.84 / 600
    np.testing.assert_allclose(table, 37000 * energy_ev, rtol=1e-3)
    assert table.shape == (N_HEIGHTS,)


def test_the_yield_goes_with_the_efficiency():
    wavelength_nm = np.linspace(300, 600, 301)
    efficiency = np.where(wavelength_nm < 400, 0.2, 0.0)
    blue = photoelectron_yield(0.0, 1.0, wavelength_nm, efficiency)
    energy_ev = 1239.84 / 300 - 1239.84 / 400
    np.testing.assert_allclose(blue, 0.2 * 37000 * energy_ev, rtol=0.01)


@pytest.mark.parametrize("cos_zenith", [1.0, 0.6])
@pytest.mark.parametrize("site", ["la_palma", "paranal"])
def test_the_atmosphere_absorbs_by_height(site, cos_zenith):
    wavelength_nm = np.linspace(399, 401, 3)
    clear, hazy = (
        photoelectron_yield(GROUND_M, cos_zenith, wavelength_nm, np.ones(3), air)
        for air in (None, site)
    )
    heights_m = np.arange(N_HEIGHTS) * YIELD_STEP_M
    expected = transmission(site, heights_m, GROUND_M, 400.0, cos_zenith)
    np.testing.assert_allclose(hazy / clear, expected, rtol=1e-4)


def test_the_yield_is_taken_at_the_middle_of_a_step():
    table = np.zeros(N_HEIGHTS)
    table[20] = 1e5  # at 4000 m
    targets = make_targets(radius_m=EVERYWHERE_M)._replace(
        yield_per_m=table[np.newaxis]
    )
    sine2 = math.sin(cone()) ** 2
    for top_m, share in ((4050.0, 1.0), (4100.0, 0.75), (3900.0, 0.25), (4350.0, 0.0)):
        _, _, count = track(targets, (0.0, 0.0, top_m), 100.0)
        expected = 1e7 * sine2 * share
        assert count == pytest.approx(expected, abs=4 * math.sqrt(expected + 1e-9))


@pytest.mark.parametrize(
    ("refractivity", "gamma"), [(2.8e-4, 1e5), (1e-4, 200.0), (1e-4, 80.0)]
)
def test_a_telescope_that_catches_all_gets_all(refractivity, gamma):
    targets = make_targets(radius_m=EVERYWHERE_M)
    _, _, count = track(
        targets,
        (30.0, 40.0, 6000.0),
        3000.0,
        n_steps=3,
        refractivity=refractivity,
        gammas=(gamma, gamma),
    )
    sine2 = math.sin(cone(refractivity, gamma)) ** 2
    assert_poisson(count, 1e4 * 3000 * sine2)


@pytest.mark.parametrize("distance_m", [5.0, 20.0, 60.0])
@pytest.mark.parametrize("azimuth", [0.0, 2.0])
@pytest.mark.parametrize("at_once", [30.0, 1e9])
def test_a_telescope_gets_its_part_of_the_ring(distance_m, azimuth, at_once):
    """Of a track down to the ground: dN/dA = yield sin cos / (2 pi r)."""
    x, y = distance_m * math.cos(azimuth), distance_m * math.sin(azimuth)
    targets = make_targets(radius_m=6.0, light=2e5, at_once=at_once)
    _, rays, count = track(
        targets, (x, y, GROUND_M + 6000.0), 6000.0, n_steps=6000, capacity=50_000
    )
    theta = cone()
    expected = (
        2e5
        * math.sin(theta)
        * math.cos(theta)
        / (2 * math.pi)
        * disc_over_distance(6.0, distance_m)
    )
    assert_poisson(count, expected)
    # light goes from the track to the telescope
    mean = rays[:, :2].mean(axis=0) * distance_m
    towards = mean @ [-x, -y] / distance_m
    assert towards > 0.8 * np.linalg.norm(mean)
    assert angle_between(rays, DOWN) == pytest.approx(theta, rel=1e-3)


@pytest.mark.parametrize("at_once", [10.0, 1e3, 1e9])
def test_the_number_of_points_does_not_change_the_mean(at_once):
    """Steps so long that the ring of one point often misses the telescope."""
    targets = make_targets((70.0, 0.0, GROUND_M), at_once=at_once, light=100.0)
    counts = [
        track(targets, (0.0, 0.0, GROUND_M + 8000.0), 8000.0, seed=seed)[2]
        for seed in range(4000)
    ]
    theta = cone()
    expected = (
        100.0
        * math.sin(theta)
        * math.cos(theta)
        / (2 * math.pi)
        * disc_over_distance(11.5, 70.0)
    )
    error = np.std(counts) / math.sqrt(len(counts))
    assert error < 0.05 * expected
    assert np.mean(counts) == pytest.approx(expected, abs=3.5 * error)


@pytest.mark.parametrize("direction", [DOWN, SLANTING])
@pytest.mark.parametrize(
    ("refractivity", "gamma"), [(2.8e-4, 1e5), (1e-4, 100.0), (1e-5, 1e5)]
)
def test_light_lies_on_the_cone_all_around(direction, refractivity, gamma):
    targets = make_targets(radius_m=EVERYWHERE_M, light=1e6)
    _, rays, _ = track(
        targets,
        (100.0, 0.0, 8000.0),
        100.0,
        direction,
        refractivity=refractivity,
        gammas=(gamma, gamma),
    )
    theta = cone(refractivity, gamma)
    assert angle_between(rays, direction) == pytest.approx(theta, rel=2e-3)
    np.testing.assert_allclose(np.linalg.norm(rays[:, :3], axis=1), 1, atol=1e-6)
    across = rays[:, :3].astype(float)
    mean = across.mean(axis=0) / math.cos(theta)
    np.testing.assert_allclose(
        mean, direction, atol=4 * theta / math.sqrt(len(rays)) + theta**2
    )


@pytest.mark.parametrize("offset_m", [0.0, 1e-3, 2.0])
def test_a_ring_within_the_mirror_is_complete(offset_m):
    """50 m up it is 0.9 m large. Also of a track that leads right to the centre."""
    targets = make_targets(light=1e7)
    start = (offset_m, 0.0, GROUND_M + 50.0)
    _, rays, count = track(targets, start, 1.0)
    theta = cone()
    assert_poisson(count, 1e7 * math.sin(theta) ** 2)
    assert angle_between(rays, DOWN) == pytest.approx(theta, rel=1e-3)
    azimuth = np.arctan2(rays[:, 1], rays[:, 0]) / (2 * np.pi) + 0.5
    assert stats.kstest(azimuth, "uniform").pvalue > 0.001


@pytest.mark.parametrize("distance_m", [0.0, 50.0, 200.0])
def test_telescopes_off_the_ring_get_nothing(distance_m):
    targets = make_targets(light=1e7)
    start = (distance_m, 0.0, GROUND_M + 5000.0)  # with a ring of 87 m
    assert track(targets, start, 10.0)[2] == 0
    assert track(targets, (87.0, 0.0, GROUND_M + 5000.0), 10.0)[2] > 0


def test_telescopes_behind_the_track_get_nothing():
    """Neither right above nor where the cone would be if light went backwards."""
    start = (0.0, 0.0, 4500.0)
    ring_m = 4500 * math.tan(cone())
    above = (0.0, 0.0, 9000.0), (ring_m, 0.0, 9000.0), (0.0, -ring_m, 9000.0)
    for radius_m in (11.5, EVERYWHERE_M):
        targets = make_targets(*above, radius_m=radius_m, light=1e6)
        assert track(targets, start, 1000.0)[2] == 0


def test_slow_particles_are_dark():
    targets = make_targets(radius_m=EVERYWHERE_M)
    threshold = 1 / math.sqrt(2 * REFRACTIVITY)
    start = (0.0, 0.0, 8000.0)
    for share, shines in ((0.999, False), (1.01, True)):
        gamma = share * threshold
        _, _, count = track(targets, start, 1000.0, gammas=(gamma, gamma))
        assert (count > 0) == shines


def test_a_particle_that_slows_down_fades():
    """To the threshold at half of its way: the integral of sin² over the first half."""
    targets = make_targets(radius_m=EVERYWHERE_M, at_once=10.0)
    threshold = 1 / math.sqrt(2 * REFRACTIVITY)
    gammas = (1.2 * threshold, 0.8 * threshold)
    _, rays, count = track(targets, (0.0, 0.0, 8000.0), 1000.0, gammas=gammas)
    f = np.linspace(0, 1, 10001)
    sine2 = 2 * REFRACTIVITY - (gammas[0] + (gammas[1] - gammas[0]) * f) ** -2.0
    mean = 1e7 * np.trapezoid(np.maximum(sine2, 0), f)
    assert count == pytest.approx(mean, rel=0.1)
    assert angle_between(rays, DOWN).max() < cone(gamma=gammas[0]) * 1.01


@pytest.mark.parametrize("direction", [DOWN, SLANTING])
@pytest.mark.parametrize("height_m", [3000.0, 12000.0])
def test_light_arrives_when_it_should(direction, height_m):
    """Straight on, delayed by the refractivity along the way."""
    theta = cone()
    start = np.array([-40.0, 70.0, height_m])
    side = np.cross(direction, (0.6, 0.8, 0.1))
    side /= np.linalg.norm(side)
    emitted = math.cos(theta) * np.array(direction) + math.sin(theta) * side
    distance = (GROUND_M - height_m) / emitted[2]
    targets = make_targets(start + distance * emitted, radius_m=0.5, light=1e11)
    _, rays, _ = track(targets, tuple(start), 1e-2, direction, time_ns=123.0)
    heights_m = np.linspace(GROUND_M, height_m, 20001)
    refractivity = [atmosphere.refractivity(AIR, z) for z in heights_m]
    excess = np.trapezoid(refractivity, heights_m) / -emitted[2]
    assert len(rays) > 100
    assert rays[:, 3] == pytest.approx(123.0 + (distance + excess) / C, abs=0.05)
    assert abs(rays[:, :3] - emitted).max() < 0.6 / distance


def test_times_are_of_the_plane_through_the_telescopes_centre():
    """Light of a point far away is a plane wave."""
    targets = make_targets(radius_m=1e3, light=1e6)
    _, rays, _ = track(targets, (0.0, 0.0, GROUND_M + 5000.0), 1e-2)
    expected = rays[:, :3].astype(float) @ (0.0, 0.0, -5000.0)
    slope = (expected - expected[0]) / C
    np.testing.assert_allclose(rays[:, 3] - rays[0, 3], slope, atol=5e-3)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_particle_takes_its_time(beta):
    targets = make_targets(radius_m=EVERYWHERE_M, light=1e6, at_once=1.0)
    # Light of the end, which is 300 m lower, has a way that is that much shorter.
    _, rays, _ = track(targets, (0.0, 0.0, GROUND_M + 5000.0), 300.0, beta=beta)
    first, last = rays[:, 3].min(), rays[:, 3].max()
    assert last - first == pytest.approx(300 / C * (1 / beta - 1), abs=0.01 * 300 / C)


def test_types_of_telescopes_have_their_own_yield():
    """Whichever of them comes first."""
    for order in ([0, 1], [1, 0]):
        targets = make_targets(*[(0.0, 0.0, GROUND_M)] * 2, radius_m=EVERYWHERE_M)
        table = np.outer([1e6, 2e5], np.ones(N_HEIGHTS))
        targets = targets._replace(kind=np.array(order), yield_per_m=table)
        target, _, _ = track(targets, (0.0, 0.0, 9e3), 20.0)
        counts = np.bincount(target, minlength=2)
        expected = np.array([1e6, 2e5])[order] * 20 * math.sin(cone()) ** 2
        assert expected.min() > 900
        np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(expected).max())


def test_telescopes_have_their_own_radius():
    """Light that falls straight on the middle of a telescope is on a circle of 87 m."""
    places = [(80.0, 0.0, GROUND_M)] * 2
    both = make_targets(*places, light=1e8)._replace(radius_m=np.array([6.0, 11.5]))
    target, _, _ = track(both, (0.0, 0.0, 7e3), 20.0)
    counts = np.bincount(target, minlength=2)
    for count, radius_m in zip(counts, both.radius_m, strict=True):
        alone = make_targets(places[0], light=1e8, radius_m=radius_m)
        _, _, expected = track(alone, (0.0, 0.0, 7e3), 20.0, seed=1)
        assert expected > 1000
        assert count == pytest.approx(expected, abs=7 * np.sqrt(expected))
    assert counts[1] > 1.5 * counts[0]


def test_telescopes_have_their_own_focus():
    places = [(0.0, 0.0, 0.0)] * 2
    targets = make_targets(*places, light=1e13)._replace(
        focus_m=np.array([10e3, np.inf])
    )
    x = 10e3 * math.tan(cone())
    target, rays, _ = track(targets, (x, 0.0, 10e3), 1e-4)
    spread = [rays[target == i, 1].std() for i in (0, 1)]
    assert spread[0] < 1e-3 * spread[1]


@pytest.mark.parametrize("focus_m", [10e3, np.inf])
def test_a_focused_camera_sees_a_point_from_one_direction(focus_m):
    distance_m = 10e3
    targets = make_targets((0.0, 0.0, 0.0), radius_m=11.5, light=1e13, focus_m=focus_m)
    x = distance_m * math.tan(cone())
    _, rays, _ = track(targets, (x, 0.0, distance_m), 1e-4)
    towards = np.array(normalise(-x, 0.0, -distance_m))
    spread = np.std(rays[:, :2], axis=0)
    assert len(rays) > 100
    assert rays[:, :3].mean(axis=0) == pytest.approx(towards, abs=2e-4)
    if np.isinf(focus_m):
        # uniform along a chord of the mirror: the ring is wide
        assert spread[1] == pytest.approx(11.5 / math.sqrt(3) / distance_m, rel=0.05)
    else:
        assert spread.max() < 1e-3 * 11.5 / distance_m
        assert abs(rays[:, :3] - towards).max() < 2e-7


@pytest.mark.parametrize("distance_m", [2500.0, 5000.0, 20e3])
def test_nearer_and_farther_points_are_blurred(distance_m):
    """By the mirror's radius over the distance less over the focus; nearer light seems
    to come from the other side than farther light does."""
    targets = make_targets((0.0, 0.0, 0.0), radius_m=11.5, light=1e13, focus_m=10e3)
    sharp = targets._replace(focus_m=np.full(1, np.inf))
    x = distance_m * math.tan(cone())
    (_, rays, _), (_, true, _) = (
        track(t, (x, 0.0, distance_m), 1e-5) for t in (targets, sharp)
    )
    expected = true[:, 1] * (1 - distance_m / 10e3)
    np.testing.assert_allclose(rays[:, 1], expected, atol=1e-6)


@pytest.mark.parametrize("wobble_rad", [0.0, 0.05])
def test_directions_within_a_step_are_a_brownian_bridge(wobble_rad):
    """From the first direction to the last, and in between as broad as f (1 - f)."""
    bend = 0.1
    targets = make_targets(radius_m=EVERYWHERE_M, light=1e6, at_once=1.0)
    rays = np.concatenate(
        [
            track(
                targets,
                (0.0, 0.0, 30e3),
                300.0,
                to=normalise(bend, 0.0, -1.0),
                wobble_rad=wobble_rad,
                refractivity=1e-6,
                seed=seed,
            )[1]
            for seed in range(20)
        ]
    )
    x, y = rays[:, 0], rays[:, 1]
    variance = wobble_rad**2 / 6 + 1e-6
    n_points = 20 * 256
    assert y.mean() == pytest.approx(0, abs=4 * math.sqrt(variance / n_points))
    assert x.mean() == pytest.approx(bend / 2, rel=0.03)
    assert y.var() == pytest.approx(variance, rel=0.1)
    assert x.var() == pytest.approx(variance + bend**2 / 12, rel=0.1)


def test_every_telescope_has_light_of_its_own():
    """Also the same one twice: as many photoelectrons, but other ones."""
    x = 6000.0 * math.tan(cone())
    position = (x, 0.0, GROUND_M)
    targets = make_targets(position, (0.0, 500.0, GROUND_M), position, light=1e6)
    target, rays, count = track(targets, (0.0, 0.0, GROUND_M + 6000.0), 100.0)
    first, none, other = np.bincount(target, minlength=3)
    assert first + other == count
    assert none == 0
    assert first > 1000
    assert abs(first - other) < 4 * math.sqrt(count)
    assert not np.array_equal(rays[target == 0][:100], rays[target == 2][:100])


def test_what_finds_no_space_is_counted():
    targets = make_targets(radius_m=EVERYWHERE_M)
    target, rays, count = track(targets, (0.0, 0.0, 8000.0), 1000.0, capacity=10)
    _, all_rays, same = track(targets, (0.0, 0.0, 8000.0), 1000.0)
    assert count == same > 1000
    assert len(target) == len(rays) == 10
    np.testing.assert_array_equal(rays, all_rays[:10])
