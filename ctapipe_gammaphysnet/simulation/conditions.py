"""The conditions of each run: where the telescopes point, and how bright the sky is.

They do not depend on other runs, on the particle, or on the number of processes.
Gammas and protons of the same seed have the same nights, so that the night cannot tell
one from the other.
"""

from typing import NamedTuple

import astropy.units as u
import numpy as np

from .card_quantities import Range

__all__ = ["Conditions", "draw_conditions"]


class Conditions(NamedTuple):
    """What is the same for all showers of a run, and may differ between runs."""

    altitude: u.Quantity
    """Of the pointing."""

    azimuth: u.Quantity
    """Of the pointing, from geographic north towards east."""

    night_sky_rate: u.Quantity
    """Photoelectrons from the night sky per time in each pixel."""


def draw_conditions(card, run):
    """
    Draw the conditions of a run.

    Parameters
    ----------
    card : AirShowerCard
        What is simulated.
    run : int
        Number of the run.

    Returns
    -------
    Conditions
        The same for the same seed, run, and ranges of the card.
    """
    rng = np.random.default_rng(np.random.SeedSequence(card.seed, spawn_key=(run,)))
    pointing = card.pointing
    if isinstance(pointing, tuple):
        pointing = pointing[(run - 1) % len(pointing)]
    # All are drawn, so that a range in one does not change the others.
    shares = rng.random(3)
    return Conditions(
        altitude=_within(pointing.altitude, shares[0], _uniform_in_solid_angle),
        azimuth=_within(pointing.azimuth, shares[1], _uniform),
        night_sky_rate=_within(card.night_sky_rate, shares[2], _uniform),
    )


def _within(value, share, distribution):
    return distribution(*value, share) if isinstance(value, Range) else value


def _uniform(low, high, share):
    return low + share * (high - low)


def _uniform_in_solid_angle(low, high, share):
    sine = _uniform(np.sin(low), np.sin(high), share)
    return np.clip(np.arcsin(sine).to(u.deg), low, high)
