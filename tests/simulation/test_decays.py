"""Decays conserve what they must, and have the published rates and spectra."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from ctapipe_gammaphysnet.simulation import decays
from ctapipe_gammaphysnet.simulation.particles import (
    C_TAU_M,
    CHARGE,
    MASS_GEV,
    Particle,
)
from ctapipe_gammaphysnet.simulation.vectors import normalise

# Products and percentages, Particle Data Group; letters as below.
BRANCHING = {
    "mu+": {"e+ nu nu": 100},
    "pi0": {"gamma gamma": 100},
    "pi+": {"mu+ nu": 100},
    "K+": {
        "mu+ nu": 63.56,
        "pi+ pi0": 20.67,
        "pi+ pi+ pi-": 5.583,
        "pi0 e+ nu": 5.07,
        "pi0 mu+ nu": 3.352,
        "pi+ pi0 pi0": 1.760,
    },
    "KS": {"pi+ pi-": 69.20, "pi0 pi0": 30.69},
    "KL": {
        "pi+ e- nu": 20.275,
        "pi- e+ nu": 20.275,
        "pi+ mu- nu": 13.52,
        "pi- mu+ nu": 13.52,
        "pi0 pi0 pi0": 19.52,
        "pi+ pi- pi0": 12.54,
    },
    "Lambda": {"p pi-": 64.1, "n pi0": 35.9},
}
LETTERS = {
    "e-": Particle.ELECTRON,
    "e+": Particle.POSITRON,
    "mu-": Particle.MUON_MINUS,
    "mu+": Particle.MUON_PLUS,
    "pi-": Particle.PION_MINUS,
    "pi+": Particle.PION_PLUS,
    "pi0": Particle.PION_ZERO,
    "K-": Particle.KAON_MINUS,
    "K+": Particle.KAON_PLUS,
    "KS": Particle.KAON_SHORT,
    "KL": Particle.KAON_LONG,
    "gamma": Particle.GAMMA,
    "nu": Particle.NEUTRINO,
    "p": Particle.PROTON,
    "n": Particle.NEUTRON,
    "Lambda": Particle.LAMBDA,
}
DECAYING = [*BRANCHING, "mu-", "pi-", "K-"]
BARYONS = {Particle.PROTON, Particle.NEUTRON, Particle.LAMBDA}
DOWN = (0.0, 0.0, -1.0)


def opposite(text):
    """The same with all charges exchanged."""
    return text.translate(str.maketrans("+-", "-+"))


def branching(parent):
    """Published rates by the sorted products."""
    channels = BRANCHING.get(parent)
    if channels is None:
        channels = {
            opposite(products): percent
            for products, percent in BRANCHING[opposite(parent)].items()
        }
    total = sum(channels.values())
    return {
        tuple(sorted(LETTERS[letter] for letter in products.split())): percent / total
        for products, percent in channels.items()
    }


def products_of(codes):
    return tuple(sorted(Particle(code) for code in codes if code >= 0))


def sample(parent, energy_gev, n, direction=DOWN, seed=0):
    """Codes (n, 3) and four-momenta (n, 3, 4) of products."""
    rng = np.random.default_rng(seed)
    codes, momenta = zip(
        *(decays.decay(rng, LETTERS[parent], energy_gev, direction) for _ in range(n)),
        strict=True,
    )
    return np.array(codes), np.array(
        [[(energy, *momentum) for energy, momentum in three] for three in momenta]
    )


def lepton_number(code):
    leptons = {Particle.ELECTRON: 1, Particle.MUON_MINUS: 1}
    antileptons = {Particle.POSITRON: -1, Particle.MUON_PLUS: -1}
    return (leptons | antileptons).get(code, 0)


def assert_uniform(values, low, high):
    assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 0.001


@pytest.mark.parametrize("parent", DECAYING)
def test_particles_decay_as_often_as_published(parent):
    expected = branching(parent)
    n = 25000 if len(expected) > 1 else 100
    rng = np.random.default_rng(0)
    rows = Counter(decays.draw_channel(rng, LETTERS[parent]) for _ in range(n))
    drawn = {products_of(row): number for row, number in rows.items()}
    assert len(drawn) == len(rows)
    assert drawn.keys() == expected.keys()
    if len(expected) > 1:
        observed = [drawn[products] for products in expected]
        test = stats.chisquare(observed, n * np.array(list(expected.values())))
        assert test.pvalue > 0.001


@pytest.mark.parametrize("parent", DECAYING)
@pytest.mark.parametrize("boost", [1.0, 1.3, 1e4])
def test_four_momentum_is_conserved_and_masses_are_on_shell(parent, boost):
    mass = MASS_GEV[LETTERS[parent]]
    energy = mass * boost
    direction = np.array(normalise(0.4, -0.2, -0.9))
    codes, momenta = sample(parent, energy, 500, tuple(direction))
    p = math.sqrt(energy**2 - mass**2)
    np.testing.assert_allclose(
        momenta.sum(axis=1) - [energy, *(p * direction)], 0, atol=1e-9 * energy
    )
    assert (momenta[codes < 0] == 0).all()
    mass2 = momenta[..., 0] ** 2 - np.sum(momenta[..., 1:] ** 2, axis=-1)
    expected = np.where(codes < 0, 0, MASS_GEV[codes])
    np.testing.assert_allclose(
        mass2, expected**2, rtol=0, atol=1e-11 * energy**2 + 1e-9 * mass**2
    )


@pytest.mark.parametrize("parent", DECAYING)
def test_charge_and_baryons_are_conserved_and_leptons_have_a_neutrino(parent):
    code = LETTERS[parent]
    rng = np.random.default_rng(1)
    for _ in range(1000):
        products = products_of(decays.draw_channel(rng, code))
        assert sum(CHARGE[product] for product in products) == CHARGE[code]
        assert len(BARYONS.intersection(products)) == (code in BARYONS)
        neutrinos = products.count(Particle.NEUTRINO)
        charged = sum(abs(lepton_number(product)) for product in (*products, code))
        assert neutrinos == charged


def test_only_unstable_particles_decay_and_into_lighter_ones():
    rng = np.random.default_rng(0)
    decaying = {LETTERS[parent] for parent in DECAYING}
    for code in Particle:
        assert np.isfinite(C_TAU_M[code]) == (code in decaying)
        if code in decaying:
            masses = MASS_GEV[list(products_of(decays.draw_channel(rng, code)))]
            assert masses.sum() < MASS_GEV[code]


def test_photons_of_neutral_pions_have_a_flat_spectrum():
    energy = 1.0
    _, momenta = sample("pi0", energy, 10000)
    beta = math.sqrt(1 - MASS_GEV[Particle.PION_ZERO] ** 2)
    for photon in (0, 1):
        assert_uniform(momenta[:, photon, 0], (1 - beta) / 2, (1 + beta) / 2)
    # no closer together than their mass allows
    opening = np.sum(momenta[:, 0, 1:] * momenta[:, 1, 1:], axis=1) / np.prod(
        momenta[:, :2, 0], axis=1
    )
    smallest = 2 * math.asin(MASS_GEV[Particle.PION_ZERO] / energy)
    assert np.arccos(opening).min() == pytest.approx(smallest, rel=0.001)


@pytest.mark.parametrize(
    ("parent", "neutrino_mev", "muon_mev"),
    [("pi+", 29.79, 109.78), ("K-", 235.53, 258.15)],
)
def test_muons_at_rest_and_their_neutrinos_have_the_published_energies(
    parent, neutrino_mev, muon_mev
):
    codes, momenta = sample(parent, MASS_GEV[LETTERS[parent]], 200)
    chosen = (codes[:, 2] < 0) & (codes[:, 1] == Particle.NEUTRINO)
    muon, neutrino = momenta[chosen, :2, 0].T * 1e3
    np.testing.assert_allclose(neutrino, neutrino_mev, rtol=5e-4)
    np.testing.assert_allclose(muon, muon_mev, rtol=5e-4)


def test_neutrinos_of_fast_pions_have_a_flat_spectrum():
    _, momenta = sample("pi-", 100.0, 10000)
    highest = 1 - (MASS_GEV[Particle.MUON_PLUS] / MASS_GEV[Particle.PION_PLUS]) ** 2
    assert highest == pytest.approx(0.427, abs=0.001)
    assert_uniform(momenta[:, 1, 0], 0, 100 * highest)


@pytest.mark.parametrize("parent", ["mu+", "mu-"])
def test_the_three_of_a_muon_decay_share_its_energy_evenly(parent):
    """By phase space: the density of a massless product goes with its energy."""
    codes, momenta = sample(parent, MASS_GEV[Particle.MUON_PLUS], 10000)
    assert (CHARGE[codes[:, 0]] == CHARGE[LETTERS[parent]]).all()
    share = momenta[..., 0] / MASS_GEV[Particle.MUON_PLUS]
    np.testing.assert_allclose(share.mean(axis=0), 1 / 3, atol=0.005)
    for product in share.T:
        assert stats.kstest(product * 2, lambda x: x**2).pvalue > 0.001


def test_three_bodies_are_uniform_in_the_dalitz_plot():
    """The area of squared masses of two pairs is that which kinematics leaves."""
    mass, masses = MASS_GEV[Particle.KAON_LONG], (0.1396, 0.1057, 0.0)
    rng = np.random.default_rng(0)
    momenta = np.array(
        [
            [(energy, *p) for energy, p in three]
            for three in (
                decays.three_body(rng, mass, mass, (0.0, 0.0, 0.0), *masses)
                for _ in range(10000)
            )
        ]
    )
    kinetic = momenta[..., 0] - masses
    # uniform in any two energies: here by brute force
    energies = rng.uniform(0, mass, (400_000, 2)) + masses[:2]
    third = mass - energies.sum(axis=1) - masses[2]
    energies = np.column_stack([energies, third + masses[2]])
    energies = energies[third > 0]
    a, b, c = np.sqrt(np.maximum(energies**2 - np.square(masses), 0)).T
    energies = energies[(abs(a - b) < c) & (c < a + b)]
    for product in range(3):
        expected = energies[:, product] - masses[product]
        assert stats.ks_2samp(kinetic[:, product], expected).pvalue > 0.001


@pytest.mark.parametrize("parent", ["pi0", "mu+", "K-"])
def test_decays_have_no_preferred_direction(parent):
    _, momenta = sample(parent, MASS_GEV[LETTERS[parent]], 5000)
    for product in (0, 1):
        p = momenta[:, product, 1:]
        p = p / np.linalg.norm(p, axis=1, keepdims=True)
        for axis in range(3):
            assert_uniform(p[:, axis], -1, 1)


def test_fast_products_fly_along_their_parent():
    direction = normalise(-0.3, 0.5, -0.7)
    _, momenta = sample("pi+", 1e4, 200, direction)
    muon = momenta[:, 0, 1:]
    cosine = muon @ direction / np.linalg.norm(muon, axis=1)
    assert np.arccos(np.minimum(cosine, 1)).max() < 1e-4
