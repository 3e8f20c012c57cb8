"""Limits of a card: how many particles and how much light may be simulated.

The work is estimated before a simulation starts, well enough to distinguish an hour
from a year, and 1 GB from 100 GB. One core follows some 300,000 particles, and makes a
million photoelectrons, per second.
"""

import astropy.units as u
import numpy as np

from .card_quantities import limits
from .instruments import ARRAYS

__all__ = [
    "MAX_PARTICLES",
    "MAX_PHOTOELECTRONS",
    "MAX_RUNS",
    "MAX_SHOWER_PHOTOELECTRONS",
    "check_runs",
    "check_shower",
    "mean_energy_gev",
    "particles",
    "photoelectrons",
]

#: Particles of all showers that one process simulates: some 10 hours on one core.
MAX_PARTICLES = 10**10
#: Photoelectrons of all showers that one process simulates: about a day on one core.
MAX_PHOTOELECTRONS = 10**11
#: Photoelectrons of a shower, all its uses and telescopes: about 6 GB of memory.
MAX_SHOWER_PHOTOELECTRONS = 10**8
#: Runs in a file: their list has 64 kB in HDF5.
MAX_RUNS = 5000

_PARTICLES_PER_GEV = 32  # for gammas and electrons; half of it for protons
_PARTICLES_PER_SHOWER = 300  # as much work as is done once for each shower
# In an LST near the core, where the light is; an MST has less.
_PHOTOELECTRONS_PER_GEV = 20
_LIT_RADIUS_M = 150
_PIXEL_NS = 1e5  # of night sky in an image: pixels of a camera times its readout window


def mean_energy_gev(card):
    """Mean energy of the showers of a card.

    Parameters
    ----------
    card : AirShowerCard
        What is simulated.

    Returns
    -------
    float
        In GeV.
    """
    low, high = (e.to_value(u.GeV) for e in (card.energy_min, card.energy_max))
    log_ratio = np.log(high / low)
    if log_ratio == 0:
        return low

    index = card.spectral_index
    return low * _integral(index + 1, log_ratio) / _integral(index, log_ratio)


def _integral(index, log_ratio):
    """Integral of a power of the energy, from 1 to exp(log_ratio)."""
    exponent = index + 1
    return np.expm1(exponent * log_ratio) / exponent if exponent else log_ratio


def particles(card, n_runs):
    """Estimate how many particles are followed.

    Parameters
    ----------
    card : AirShowerCard
        What is simulated.
    n_runs : int
        How many of its runs.

    Returns
    -------
    float
        Their number, including the fixed work for each shower.
    """
    each = _PARTICLES_PER_SHOWER + _PARTICLES_PER_GEV * mean_energy_gev(card)
    return n_runs * card.showers * each


def photoelectrons(card, n_runs):
    """Estimate how many photoelectrons are made.

    Parameters
    ----------
    card : AirShowerCard
        What is simulated.
    n_runs : int
        How many of its runs.

    Returns
    -------
    float
        Their number in all telescopes and uses of all showers, including the night sky
        in the images.
    """
    images = n_runs * card.showers * _uses_nearby(card) * len(ARRAYS[card.array])
    brightest = limits(card.night_sky_rate).high
    night_sky = _PIXEL_NS * brightest.to_value("1/ns")
    return images * (_PHOTOELECTRONS_PER_GEV * mean_energy_gev(card) + night_sky)


def _uses_nearby(card):
    """Mean number of uses of a shower that are near enough to have light."""
    radius_m = max(card.scatter_radius.to_value(u.m), _LIT_RADIUS_M)
    return card.reuse * (_LIT_RADIUS_M / radius_m) ** 2


def check_shower(card):
    """Check that any shower of a card fits into the memory of a computer.

    Parameters
    ----------
    card : AirShowerCard
        What is simulated.

    Raises
    ------
    ValueError
        If the brightest showers may have too much light.
    """
    images = max(_uses_nearby(card), 1) * len(ARRAYS[card.array])
    light = card.energy_max.to_value(u.GeV) * _PHOTOELECTRONS_PER_GEV * images
    if light > MAX_SHOWER_PHOTOELECTRONS:
        raise ValueError(
            f"reuse: a shower of {card.energy_max:g} that is used {card.reuse} times "
            f"would make {light:.1e} photoelectrons in {card.array}, and at most "
            f"{MAX_SHOWER_PHOTOELECTRONS:.0e} fit into memory; lower reuse to "
            f"{int(card.reuse * MAX_SHOWER_PHOTOELECTRONS / light)}, or energy_max"
        )


def check_runs(card, n_runs):
    """Check that one process can simulate runs in a reasonable time.

    Parameters
    ----------
    card : AirShowerCard
        What is simulated.
    n_runs : int
        How many of its runs one process simulates.

    Raises
    ------
    ValueError
        If they take more particles or light than one process should make.
    """
    name, number, largest = max(
        ("particles", particles(card, n_runs), MAX_PARTICLES),
        ("photoelectrons", photoelectrons(card, n_runs), MAX_PHOTOELECTRONS),
        key=lambda asked: asked[1] / asked[2],
    )
    if number <= largest:
        return
    excess = number / largest
    advice = (
        f"lower it to {int(card.showers / excess)} and raise runs"
        if n_runs == 1
        else f"simulate at most {int(n_runs / excess)} runs in one process, with "
        "AirShowerEventSource.runs"
    )
    raise ValueError(
        f"showers: {n_runs * card.showers} would make {number:.1e} {name}, "
        f"more than one process should ({largest:.0e}); {advice}"
    )
