"""Showers conserve energy, grow and shine as they do in nature and in theory."""

import math
import os
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from ctapipe_gammaphysnet.simulation.atmosphere import (
    ATMOSPHERES,
    TOP_M,
    height,
    overburden,
    refractivity,
)
from ctapipe_gammaphysnet.simulation.cherenkov import YIELD_STEP_M, Targets
from ctapipe_gammaphysnet.simulation.electromagnetic import photon_attenuation
from ctapipe_gammaphysnet.simulation.hadrons import load_hadron_table, mean_free_path
from ctapipe_gammaphysnet.simulation.particles import Particle
from ctapipe_gammaphysnet.simulation.shower import simulate
from ctapipe_gammaphysnet.simulation.state import DEPTH_BIN, Air, Ledger
from ctapipe_gammaphysnet.simulation.vectors import from_altaz, normalise

C = 0.299792458  # m/ns
X0 = 36.62  # g/cm²
CRITICAL_GEV = 0.081
GROUND_M = 2158.0
AIR = ATMOSPHERES["la_palma"]
DOWN = (0.0, 0.0, -1.0)
SLANTING = normalise(0.5, -0.3, -0.9)
NO_FIELD = (0.0, 0.0, 0.0)
LA_PALMA_UT = (30.8, 2.3, -23.4)
EVERYWHERE_M = 1e5  # radius of a telescope that catches all
N_HEIGHTS = int(TOP_M / YIELD_STEP_M) + 1

MUON_GEV = 0.1056583755
MUON_C_TAU_M = 658.638
ELECTRON_GEV = 0.51099895e-3


def make_targets(*positions_m, radius_m=11.5, light=3e4):
    """Telescopes at heights above the ground; without any, there is no light."""
    positions_m = np.array(positions_m, float).reshape(-1, 3) + [0, 0, GROUND_M]
    return Targets(
        position_m=positions_m,
        overburden=np.array([overburden(AIR, z) for z in positions_m[:, 2]]),
        kind=np.zeros(len(positions_m), int),
        radius_m=np.full(len(positions_m), radius_m),
        focus_m=np.full(len(positions_m), 1e12),
        yield_per_m=np.full((1, N_HEIGHTS), light),
        photoelectrons_per_point=30.0,
    )


NO_TARGETS = make_targets()
FOUR_TARGETS = make_targets((0, 0, 0), (50, 0, 0), (0, -80, 0), (120, 90, 0), light=1e4)


def shower(
    particle,
    energy_gev,
    seed=0,
    *,
    targets=NO_TARGETS,
    direction=DOWN,
    field=NO_FIELD,
    ground_m=GROUND_M,
    **options,
):
    """One shower; seed is that of its random numbers, or their generator."""
    air = Air(ground_m, field, load_hadron_table(), AIR)
    rng = np.random.default_rng(seed)
    return simulate(rng, air, targets, particle, energy_gev, direction, **options)


def rays_of(cascade, target=0):
    """Directions and times of the light of one telescope."""
    photoelectrons = cascade.photoelectrons
    return photoelectrons.ray[photoelectrons.target == target].astype(float)


def light_of(showers, n_targets):
    """Photoelectrons by shower and telescope."""
    return np.array(
        [
            np.bincount(cascade.photoelectrons.target, minlength=n_targets)
            for cascade in showers
        ]
    )


def assert_equal_showers(one, other):
    np.testing.assert_array_equal(one.radiating_electrons, other.radiating_electrons)
    np.testing.assert_array_equal(one.energy_gev, other.energy_gev)
    np.testing.assert_array_equal(one.first_interaction_m, other.first_interaction_m)
    for name in ("target", "ray", "count"):
        np.testing.assert_array_equal(
            getattr(one.photoelectrons, name), getattr(other.photoelectrons, name)
        )


PRIMARIES = [
    (Particle.GAMMA, 1.0),
    (Particle.GAMMA, 50.0),
    (Particle.GAMMA, 1000.0),
    (Particle.ELECTRON, 1.0),
    (Particle.ELECTRON, 300.0),
    (Particle.PROTON, 5.0),
    (Particle.PROTON, 100.0),
    (Particle.PROTON, 2000.0),
    (Particle.MUON_PLUS, 4.0),
    (Particle.PION_MINUS, 50.0),
    (Particle.KAON_PLUS, 50.0),
    (Particle.KAON_LONG, 50.0),
    (Particle.ANTINEUTRON, 50.0),
    (Particle.LAMBDA, 50.0),
    (Particle.PION_ZERO, 50.0),
]


@pytest.mark.parametrize(("particle", "energy_gev"), PRIMARIES)
@pytest.mark.parametrize("direction", [DOWN, SLANTING])
def test_energy_is_conserved(particle, energy_gev, direction):
    for seed in range(3):
        cascade = shower(
            particle, energy_gev, seed, direction=direction, field=LA_PALMA_UT
        )
        assert cascade.energy_gev.sum() == pytest.approx(energy_gev, rel=1e-9)


def test_energy_goes_where_it_belongs():
    gamma, proton = (
        sum(shower(particle, 500.0, seed).energy_gev for seed in range(20)) / 1e4
        for particle in (Particle.GAMMA, Particle.PROTON)
    )
    assert gamma[Ledger.NEUTRINOS] == gamma[Ledger.NUCLEAR] == 0
    assert 0.05 < proton[Ledger.NEUTRINOS] < 0.25
    assert 0.01 < proton[Ledger.NUCLEAR] < 0.2
    # Protons bring more to the ground, with muons and hadrons.
    assert proton[Ledger.GROUND] > 2 * gamma[Ledger.GROUND] > 0
    for energy in (gamma, proton):
        assert energy[Ledger.IONISATION] > 0.25
        assert -0.01 < energy[Ledger.TARGET_MASS] < 0
        assert energy[Ledger.SIDEWAYS] < 0.05


@pytest.mark.parametrize("particle", [Particle.GAMMA, Particle.PROTON])
def test_the_same_random_numbers_make_the_same_shower(particle):
    options = {"targets": FOUR_TARGETS, "field": LA_PALMA_UT}
    one, again, other = (shower(particle, 200.0, seed, **options) for seed in (4, 4, 5))
    assert_equal_showers(one, again)
    assert one.energy_gev[Ledger.IONISATION] != other.energy_gev[Ledger.IONISATION]


@pytest.mark.parametrize("particle", [Particle.GAMMA, Particle.PROTON])
@pytest.mark.parametrize("capacity", ["_STACK_CAPACITY", "_PHOTOELECTRON_CAPACITY"])
def test_a_shower_that_does_not_fit_is_done_again(particle, capacity, monkeypatch):
    rng, rng_again = np.random.default_rng(1), np.random.default_rng(1)
    whole = shower(particle, 200.0, rng, targets=FOUR_TARGETS)
    monkeypatch.setattr(f"{simulate.__module__}.{capacity}", 5)
    again = shower(particle, 200.0, rng_again, targets=FOUR_TARGETS)
    assert len(whole.photoelectrons.target) > 100
    assert_equal_showers(whole, again)
    assert rng.random() == rng_again.random()


def test_no_photoelectron_is_lost_and_they_are_sorted_by_telescope():
    cascade = shower(Particle.GAMMA, 300.0, targets=FOUR_TARGETS)
    target, ray, count = cascade.photoelectrons
    assert len(target) == len(ray) == count[0] > 10000
    assert set(target) == {0, 1, 2, 3}
    assert (np.diff(target) >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(ray[:, :3], axis=1), 1, atol=1e-5)


@cache
def mean_profile(particle, energy_gev, n):
    """Of radiating electrons."""
    return np.mean(
        [shower(particle, energy_gev, [1, s]).radiating_electrons for s in range(n)],
        axis=0,
    )


def maximum(profile):
    """Depth of the maximum: of a parabola through the logarithm of its top."""
    depth = (np.arange(len(profile)) + 0.5) * DEPTH_BIN
    top = profile > 0.7 * profile.max()
    a, b, _ = np.polyfit(depth[top], np.log(profile[top]), 2)
    return -b / (2 * a)


GAMMAS = {10.0: 300, 100.0: 120, 1000.0: 25}  # how many by energy


def greisen_hillas(energy_gev):
    """Electrons by depth (K. Greisen, Prog. Cosmic Ray Phys. 3 (1956) 1) times the
    share above the threshold there (A. M. Hillas, J. Phys. G 8 (1982) 1461)."""
    depth = np.arange(20.0, 800.0)
    t = depth / X0
    y = math.log(energy_gev / CRITICAL_GEV)
    age = 3 * t / (t + 2 * y)
    electrons = 0.31 / math.sqrt(y) * np.exp(t * (1 - 1.5 * np.log(age)))
    n_minus_one = np.array([refractivity(AIR, height(AIR, x)) for x in depth])
    threshold_mev = 1e3 * ELECTRON_GEV / np.sqrt(2 * n_minus_one)
    scale_mev = np.where(age < 0.4, 26, 44 - 17 * (age - 1.46) ** 2)
    share = ((0.89 * scale_mev - 1.2) / (scale_mev + threshold_mev)) ** age
    return depth, electrons * share / (1 + 1e-4 * age * threshold_mev) ** 2


@pytest.mark.parametrize("energy_gev", [100.0, 1000.0])
def test_gammas_make_as_many_electrons_as_greisen_and_hillas_say(energy_gev):
    profile = mean_profile(Particle.GAMMA, energy_gev, GAMMAS[energy_gev])
    _, expected = greisen_hillas(energy_gev)
    assert profile.max() == pytest.approx(expected.max(), rel=0.25)
    assert profile.sum() * DEPTH_BIN == pytest.approx(expected.sum(), rel=0.25)


def test_the_maximum_gets_deeper_with_the_logarithm_of_the_energy():
    depths = [maximum(mean_profile(Particle.GAMMA, e, n)) for e, n in GAMMAS.items()]
    assert np.diff(depths).mean() == pytest.approx(X0 * math.log(10), abs=10)
    for energy_gev, found in zip(GAMMAS, depths, strict=True):
        depth, expected = greisen_hillas(energy_gev)
        assert found == pytest.approx(depth[expected.argmax()], abs=25)


@pytest.mark.parametrize(("share", "counted"), [(0.97, False), (1.5, True)])
def test_electrons_below_the_threshold_are_not_counted(share, counted):
    start_m = 12e3
    threshold_gev = ELECTRON_GEV / math.sqrt(2 * refractivity(AIR, start_m))
    showers = [
        shower(Particle.ELECTRON, share * threshold_gev, seed, start_m=start_m)
        for seed in range(20)
    ]
    assert any(cascade.radiating_electrons.any() for cascade in showers) == counted


def test_electrons_reach_their_maximum_before_photons():
    """About one radiation length earlier (Rossi)."""
    photon, electron = (
        maximum(mean_profile(particle, 100.0, GAMMAS[100.0]))
        for particle in (Particle.GAMMA, Particle.ELECTRON)
    )
    assert photon - electron == pytest.approx(X0, abs=0.7 * X0)


def first_depths(particle, energy_gev, n, direction=DOWN, deepest=60.0):
    """Slant depths of first interactions above a ground high up in the air."""
    ground_m = height(AIR, -deepest * direction[2])
    heights = [
        shower(
            particle, energy_gev, seed, direction=direction, ground_m=ground_m
        ).first_interaction_m[0]
        for seed in range(n)
    ]
    depths = np.array([overburden(AIR, h) for h in heights if not math.isnan(h)])
    return depths / -direction[2]


def assert_exponential(depths, n, mean, deepest=60.0):
    """Depths of n particles, of which those that get deeper are missing."""
    reached = -math.expm1(-deepest / mean)
    error = math.sqrt(n * reached * (1 - reached))
    assert len(depths) == pytest.approx(n * reached, abs=3.5 * error)
    distribution = stats.truncexpon(deepest / mean, scale=mean)
    assert stats.kstest(depths, distribution.cdf).pvalue > 0.001


@pytest.mark.parametrize("direction", [DOWN, SLANTING])
def test_photons_interact_first_after_9_7_radiation_lengths(direction):
    depths = first_depths(Particle.GAMMA, 150.0, 1500, direction)
    assert_exponential(depths, 1500, 9 / 7 * X0)


def test_slow_photons_interact_by_pair_production_and_compton_scattering():
    depths = first_depths(Particle.GAMMA, 0.05, 1500)
    assert_exponential(depths, 1500, 1 / sum(photon_attenuation(0.05)))


@pytest.mark.parametrize("direction", [DOWN, SLANTING])
def test_protons_interact_first_after_their_mean_free_path(direction):
    depths = first_depths(Particle.PROTON, 20.0, 4000, direction, deepest=150.0)
    mean = mean_free_path(load_hadron_table(), Particle.PROTON, 20.0)
    assert_exponential(depths, 4000, mean, deepest=150.0)


def bethe(energy_gev):
    """Mean loss of a muon in GeV per g/cm², below where there is a density effect."""
    gamma = energy_gev / MUON_GEV
    beta_gamma2 = gamma**2 - 1
    beta2 = beta_gamma2 / gamma**2
    ratio = ELECTRON_GEV / MUON_GEV
    largest = 2 * ELECTRON_GEV * beta_gamma2 / (1 + 2 * gamma * ratio + ratio**2)
    argument = 2 * ELECTRON_GEV * beta_gamma2 * largest / (85.7e-9) ** 2
    return 0.307075e-3 * 0.49919 / beta2 * (0.5 * math.log(argument) - beta2)


def muons(energy_gev, n, start_m, particle=Particle.MUON_MINUS):
    showers = [shower(particle, energy_gev, seed, start_m=start_m) for seed in range(n)]
    return np.array([cascade.energy_gev for cascade in showers])


def test_muons_lose_what_bethe_says():
    energy = muons(3.0, 100, GROUND_M + 3000)
    survived = energy[:, Ledger.NEUTRINOS] == 0
    thickness = overburden(AIR, GROUND_M) - overburden(AIR, GROUND_M + 3000)
    mean_loss = energy[survived, Ledger.IONISATION].mean()
    assert survived.mean() > 0.5
    # scattering makes the way a little longer
    assert mean_loss == pytest.approx(bethe(2.7) * thickness, rel=0.02)


def test_muons_stop_at_the_end_of_their_range():
    """A muon of 3 GeV goes through 1.4 kg/cm², one of 1 GeV through half a kg/cm²."""
    for energy_gev, lands in ((3.0, True), (1.2, False)):
        energy = muons(energy_gev, 100, 20e3)
        survived = energy[:, Ledger.NEUTRINOS] == 0
        assert survived.any()
        assert (energy[survived, Ledger.GROUND] > 0).all() == lands


@pytest.mark.parametrize(
    ("particle", "energy_gev"), [(Particle.MUON_MINUS, 3.0), (Particle.MUON_PLUS, 8.0)]
)
def test_as_many_muons_survive_as_their_time_allows(particle, energy_gev):
    """Of which less passes the faster they are; they get slower."""
    start_m, n = 15e3, 3000

    def slow_down(z, state):
        energy, _ = state
        density = (overburden(AIR, z - 5) - overburden(AIR, z + 5)) / 10
        beta_gamma = math.sqrt((energy / MUON_GEV) ** 2 - 1)
        return [bethe(energy) * density, -1 / (MUON_C_TAU_M * beta_gamma)]

    solution = solve_ivp(
        slow_down, (start_m, GROUND_M), [energy_gev, 0.0], rtol=1e-6, max_step=200
    )
    probability = math.exp(-solution.y[1, -1])
    energy = muons(energy_gev, n, start_m, particle)
    survived = np.mean(energy[:, Ledger.NEUTRINOS] == 0)
    error = math.sqrt(probability * (1 - probability) / n)
    assert survived == pytest.approx(probability, abs=3.5 * error)


@pytest.mark.parametrize("direction", [DOWN, SLANTING])
def test_the_ring_of_a_muon_has_the_cherenkov_angle(direction):
    energy_gev = 200.0
    targets = make_targets((0, 0, 0), radius_m=EVERYWHERE_M, light=1e5)
    cascade = shower(
        Particle.MUON_MINUS,
        energy_gev,
        targets=targets,
        direction=direction,
        start_m=GROUND_M + 200,
    )
    rays = rays_of(cascade)
    beta = math.sqrt(1 - (MUON_GEV / energy_gev) ** 2)
    expected = math.acos(1 / ((1 + refractivity(AIR, GROUND_M + 100)) * beta))
    angle = np.arcsin(np.linalg.norm(np.cross(rays[:, :3], direction), axis=1))
    assert len(rays) > 5000
    assert np.median(angle) == pytest.approx(expected, rel=0.005)
    centre = rays[:, :3].mean(axis=0) / math.cos(expected)
    error = expected / math.sqrt(len(rays))
    np.testing.assert_allclose(centre, direction, atol=4 * error + 2e-4)
    length_m = -200 / direction[2]
    assert len(rays) == pytest.approx(
        1e5 * length_m * math.sin(expected) ** 2, rel=0.05
    )


@pytest.mark.parametrize("direction", [DOWN, SLANTING])
def test_muons_go_straight_without_a_field(direction):
    """To the foot of the axis, where light along the axis arrives at time zero."""
    targets = make_targets((0, 0, 0), (30, 0, 0), (0, -30, 0), radius_m=2.0, light=1e7)
    cascade = shower(
        Particle.MUON_PLUS, 1e4, targets=targets, direction=direction, start_m=20e3
    )
    near = rays_of(cascade)
    assert len(near) > 10 * max(len(rays_of(cascade, target)) for target in (1, 2))
    assert abs(np.median(near[:, 3])) < 10
    np.testing.assert_allclose(near[:, :3].mean(axis=0), direction, atol=0.005)


@pytest.mark.parametrize(
    ("particle", "sign"), [(Particle.MUON_PLUS, 1), (Particle.MUON_MINUS, -1)]
)
@pytest.mark.parametrize(
    ("field", "side"),
    [
        # positive particles that come down go east (y is west) in a field to the north
        ((1e5, 0.0, 0.0), (0.0, -1.0)),
        ((0.0, 1e5, 0.0), (1.0, 0.0)),
        ((0.0, 0.0, 1e5), (0.0, 0.0)),
    ],
)
def test_a_field_bends_muons_by_their_momentum(particle, sign, field, side):
    """In a circle with p = 0.3 B R, to the side that their charge says."""
    energy_gev, drop_m = 1000.0, 3000.0
    radius_m = energy_gev / (C * 0.1)
    angle = math.asin(drop_m / radius_m)
    sideways = np.append(side, 0) * sign
    landing = radius_m * (1 - math.cos(angle)) * sideways
    targets = make_targets(landing, -landing, radius_m=2.0, light=1e7)
    cascade = shower(
        particle, energy_gev, targets=targets, field=field, start_m=GROUND_M + drop_m
    )
    rays = rays_of(cascade)
    assert len(rays) > 1000
    if any(side):
        assert len(rays_of(cascade, 1)) == 0
    # seen is the light of the last hundred metres
    expected = math.sin(angle) * sideways[:2]
    np.testing.assert_allclose(rays[:, :2].mean(axis=0), expected, atol=0.004)


def test_light_arrives_as_a_front():
    """At two telescopes at opposite sides of the foot of an inclined shower."""
    direction = tuple(-c for c in from_altaz(math.radians(55), math.radians(30)))
    along = np.array([direction[0], direction[1], 0.0])
    along *= 100 / np.linalg.norm(along)
    targets = make_targets(-along, along, np.cross(along, [0, 0, 1]))
    cascade = shower(Particle.GAMMA, 500.0, targets=targets, direction=direction)
    times = [np.median(rays_of(cascade, i)[:, 3]) for i in range(3)]
    delay = 2 * along @ direction / C
    assert delay > 300
    assert times[1] - times[0] == pytest.approx(delay, abs=3)
    assert times[2] - times[0] == pytest.approx(delay / 2, abs=3)
    # the refractivity of the air delays light by some ns
    assert 0 < times[2] < 10


def assert_alike(light, other):
    """Mean light by telescope is the same within errors."""
    errors = [np.std(x, axis=0) / math.sqrt(len(x)) for x in (light, other)]
    error = np.hypot(*errors)
    assert (error < 0.1 * np.mean(light, axis=0)).all()
    assert (abs(np.mean(light, axis=0) - np.mean(other, axis=0)) < 3.5 * error).all()


def test_light_turns_with_the_array_and_the_shower():
    x, y = np.array([[30, 90, -60, -280, 20], [10, -50, 160, 20, -240]])
    light = []
    for azimuth_deg, (turned_x, turned_y) in ((40, (x, y)), (130, (y, -x))):
        targets = make_targets(*np.column_stack([turned_x, turned_y, np.zeros(5)]))
        sky = from_altaz(math.radians(50), math.radians(azimuth_deg))
        direction = tuple(-component for component in sky)
        showers = (
            shower(
                Particle.GAMMA,
                100.0,
                [azimuth_deg, seed],
                targets=targets,
                direction=direction,
            )
            for seed in range(80)
        )
        light.append(light_of(showers, 5))
    means = np.mean(light[0], axis=0)
    assert means.max() > 1.5 * means.min()
    assert_alike(*light)


COMPASS_M = [(90, 0, 0), (0, -90, 0), (-90, 0, 0), (0, 90, 0)]


def test_a_vertical_shower_shines_alike_to_all_sides():
    targets = make_targets(*COMPASS_M)
    showers = (shower(Particle.GAMMA, 100.0, s, targets=targets) for s in range(150))
    light = light_of(showers, 4)
    for other in (1, 2, 3):
        assert_alike(light[:, [0]], light[:, [other]])


def test_a_field_to_the_north_spreads_light_to_east_and_west():
    """A strong one; electrons leave the plane of field and shower to either side."""
    targets = make_targets(*(10 * np.array(COMPASS_M) / 3))
    field = (400.0, 0.0, 0.0)
    showers = (
        shower(Particle.GAMMA, 100.0, s, targets=targets, field=field)
        for s in range(40)
    )
    north, east, south, west = light_of(showers, 4).mean(axis=0)
    assert east + west > 1.5 * (north + south)
    assert east == pytest.approx(west, rel=0.3)


def test_showers_of_protons_have_less_light_than_those_of_gammas():
    """One third to one half at 1 TeV."""
    targets = make_targets((40, 0, 0), (0, 80, 0), (-120, 0, 0))
    gamma, proton = (
        light_of((shower(particle, 1000.0, s, targets=targets) for s in range(n)), 3)
        for particle, n in ((Particle.GAMMA, 3), (Particle.PROTON, 30))
    )
    assert 0.2 < (proton.mean(axis=0) / gamma.mean(axis=0)).mean() < 0.65


@pytest.mark.parametrize(
    ("start_m", "ground_m", "tolerance"),
    [(30e3, GROUND_M, 0.06), (99.9e3, 31e3, 0.15)],
)
def test_a_track_through_thin_air_has_the_light_of_frank_and_tamm(
    start_m, ground_m, tolerance
):
    """Of a fast muon: 2 (n - 1) along its way, also where steps are very long."""
    light = 1e3 / overburden(AIR, ground_m) * overburden(AIR, GROUND_M)
    targets = make_targets(
        (0, 0, ground_m - GROUND_M), radius_m=EVERYWHERE_M, light=light
    )
    cascade = shower(
        Particle.MUON_PLUS, 1e5, targets=targets, start_m=start_m, ground_m=ground_m
    )
    heights_m = np.linspace(ground_m, start_m, 5001)
    sine2 = 2 * np.array([refractivity(AIR, z) for z in heights_m])
    expected = light * np.trapezoid(sine2, heights_m)
    assert len(rays_of(cascade)) == pytest.approx(expected, rel=tolerance)


BOUNDS_CHECK = """
from pathlib import Path
import sys
from ctapipe_gammaphysnet.simulation.card import read_card
from ctapipe_gammaphysnet.simulation.instruments import make_subarray
from ctapipe_gammaphysnet.simulation.production import Production

for particle, showers in (("gamma", 3), ("proton", 30)):
    card = Path(sys.argv[1]) / "bounds.airshower.yaml"
    card.write_text(
        f"particle: {particle}\\nshowers: {showers}\\nseed: 1\\narray: lst4\\n"
        "multiplicity: 1\\nenergy_min: 200 GeV\\nenergy_max: 500 GeV\\n"
        "scatter_radius: 100 m\\n"
    )
    production = Production(read_card(card), make_subarray("lst4", "la_palma"))
    assert len(list(production.events(1))) > 3
"""


@pytest.mark.slow
def test_compiled_code_stays_within_its_arrays(tmp_path):
    environment = os.environ | {
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
    }
    begin = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", BOUNDS_CHECK, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"compiled and run with bounds checks in {time.monotonic() - begin:.0f} s")
    assert result.returncode == 0, result.stderr
