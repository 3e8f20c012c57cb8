"""Decays of muons, pions, kaons and Lambdas, all by phase space.

Channels and branching ratios: Particle Data Group, Phys. Rev. D 110 (2024) 030001,
without channels rarer than one percent, the others scaled to one. No polarisation, no
matrix elements: the electron of a muon gets 1/3 of its energy instead of 7/20. Neutral
pions always decay into two photons.
"""

import math

import numpy as np

from .compiled import compiled
from .particles import MASS_GEV, Particle
from .vectors import boost, isotropic

__all__ = ["decay", "draw_channel", "three_body", "two_body"]

_P = Particle
_CHANNELS = {
    _P.MUON_PLUS: [(1.0, (_P.POSITRON, _P.NEUTRINO, _P.NEUTRINO))],
    _P.PION_ZERO: [(1.0, (_P.GAMMA, _P.GAMMA))],
    _P.PION_PLUS: [(1.0, (_P.MUON_PLUS, _P.NEUTRINO))],
    _P.KAON_PLUS: [
        (0.6356, (_P.MUON_PLUS, _P.NEUTRINO)),
        (0.2067, (_P.PION_PLUS, _P.PION_ZERO)),
        (0.0558, (_P.PION_PLUS, _P.PION_PLUS, _P.PION_MINUS)),
        (0.0507, (_P.PION_ZERO, _P.POSITRON, _P.NEUTRINO)),
        (0.0335, (_P.PION_ZERO, _P.MUON_PLUS, _P.NEUTRINO)),
        (0.0176, (_P.PION_PLUS, _P.PION_ZERO, _P.PION_ZERO)),
    ],
    _P.KAON_SHORT: [
        (0.6920, (_P.PION_PLUS, _P.PION_MINUS)),
        (0.3069, (_P.PION_ZERO, _P.PION_ZERO)),
    ],
    _P.KAON_LONG: [
        (0.2028, (_P.PION_PLUS, _P.ELECTRON, _P.NEUTRINO)),
        (0.2028, (_P.PION_MINUS, _P.POSITRON, _P.NEUTRINO)),
        (0.1352, (_P.PION_PLUS, _P.MUON_MINUS, _P.NEUTRINO)),
        (0.1352, (_P.PION_MINUS, _P.MUON_PLUS, _P.NEUTRINO)),
        (0.1952, (_P.PION_ZERO, _P.PION_ZERO, _P.PION_ZERO)),
        (0.1254, (_P.PION_PLUS, _P.PION_MINUS, _P.PION_ZERO)),
    ],
    _P.LAMBDA: [
        (0.641, (_P.PROTON, _P.PION_MINUS)),
        (0.359, (_P.NEUTRON, _P.PION_ZERO)),
    ],
}
_CONJUGATE = {
    _P.ELECTRON: _P.POSITRON,
    _P.MUON_MINUS: _P.MUON_PLUS,
    _P.PION_MINUS: _P.PION_PLUS,
    _P.KAON_MINUS: _P.KAON_PLUS,
}
_CONJUGATE |= {anti: particle for particle, anti in _CONJUGATE.items()}
_CHANNELS |= {
    _CONJUGATE[parent]: [
        (ratio, tuple(_CONJUGATE.get(product, product) for product in products))
        for ratio, products in channels
    ]
    for parent, channels in list(_CHANNELS.items())
    if parent in _CONJUGATE
}

# The same for compiled code: rows of channels, from _FIRST[p] to _FIRST[p + 1] for the
# particle p; -1 where there is no third product.
_ROWS = [
    (particle, ratio, (*products, -1)[:3])
    for particle in Particle
    for ratio, products in _CHANNELS.get(particle, [])
]
_FIRST = np.searchsorted([row[0] for row in _ROWS], np.arange(len(Particle) + 1))
_RATIO = np.array([row[1] for row in _ROWS])
_PRODUCTS = np.array([row[2] for row in _ROWS], dtype=np.int64)
for _first, _last in zip(_FIRST[:-1], _FIRST[1:], strict=True):
    _RATIO[_first:_last] /= _RATIO[_first:_last].sum()


@compiled
def draw_channel(rng, particle):
    """
    Draw the decay channel of a particle.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    particle : int
        Code of a particle that decays.

    Returns
    -------
    tuple of int
        Codes of two or three products; the third is -1 where there are two.
    """
    u = rng.random()
    row = _FIRST[particle]
    while row < _FIRST[particle + 1] - 1 and u >= _RATIO[row]:
        u -= _RATIO[row]
        row += 1
    return _PRODUCTS[row, 0], _PRODUCTS[row, 1], _PRODUCTS[row, 2]


@compiled
def _momentum(mass, mass_1, mass_2):
    """Momentum of either product in the rest frame of a two-body decay."""
    total = mass * mass - (mass_1 + mass_2) ** 2
    difference = mass * mass - (mass_1 - mass_2) ** 2
    return math.sqrt(max(total * difference, 0.0)) / (2 * mass)


@compiled
def two_body(rng, mass, energy, momentum, mass_1, mass_2):
    """
    Draw an isotropic decay into two particles.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    mass, energy : float
        Of the particle that decays.
    momentum : tuple of float
        Its momentum.
    mass_1, mass_2 : float
        Of the products.

    Returns
    -------
    tuple of tuple
        (energy, (px, py, pz)) of either product.
    """
    p = _momentum(mass, mass_1, mass_2)
    x, y, z = isotropic(rng)
    energy_1 = math.sqrt(p * p + mass_1 * mass_1)
    energy_2 = math.sqrt(p * p + mass_2 * mass_2)
    first = boost(energy_1, (p * x, p * y, p * z), energy, momentum, mass)
    second = boost(energy_2, (-p * x, -p * y, -p * z), energy, momentum, mass)
    return first, second


@compiled
def three_body(rng, mass, energy, momentum, mass_1, mass_2, mass_3):
    """
    Draw a decay into three particles, uniform in phase space.

    The first two are one particle of random mass, which then decays.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    mass, energy : float
        Of the particle that decays.
    momentum : tuple of float
        Its momentum.
    mass_1, mass_2, mass_3 : float
        Of the products.

    Returns
    -------
    tuple of tuple
        (energy, (px, py, pz)) of each product.
    """
    lowest = mass_1 + mass_2
    highest = mass - mass_3
    bound = _momentum(mass, lowest, mass_3) * _momentum(highest, mass_1, mass_2)
    while True:
        pair = lowest + (highest - lowest) * rng.random()
        weight = _momentum(mass, pair, mass_3) * _momentum(pair, mass_1, mass_2)
        if rng.random() * bound < weight:
            break
    (pair_energy, pair_momentum), third = two_body(
        rng, mass, energy, momentum, pair, mass_3
    )
    first, second = two_body(rng, pair, pair_energy, pair_momentum, mass_1, mass_2)
    return first, second, third


@compiled
def decay(rng, particle, energy_gev, direction):
    """
    Draw the products of a decay in flight.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    particle : int
        Code of a particle that decays.
    energy_gev : float
        Its total energy.
    direction : tuple of float
        Unit vector along which it moves.

    Returns
    -------
    codes : tuple of int
        Codes of three products; the third is -1 where there are two.
    momenta : tuple of tuple
        (energy, (px, py, pz)) in GeV of each of the three; the third is zero where
        there are two.
    """
    mass = MASS_GEV[particle]
    p = math.sqrt(max(energy_gev * energy_gev - mass * mass, 0.0))
    momentum = (p * direction[0], p * direction[1], p * direction[2])
    one, two, three = draw_channel(rng, particle)
    if three < 0:
        first, second = two_body(
            rng, mass, energy_gev, momentum, MASS_GEV[one], MASS_GEV[two]
        )
        third = (0.0, (0.0, 0.0, 0.0))
    else:
        first, second, third = three_body(
            rng,
            mass,
            energy_gev,
            momentum,
            MASS_GEV[one],
            MASS_GEV[two],
            MASS_GEV[three],
        )
    return (one, two, three), (first, second, third)
