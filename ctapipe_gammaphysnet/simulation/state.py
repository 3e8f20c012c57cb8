"""The air, and the state of a cascade: particles to be followed, and what they left.

Units and frame are those of `cascade`. A `Ledger` accounts for the energy of the
primary.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from .atmosphere import Atmosphere
from .cherenkov import Photoelectrons
from .hadrons import HadronTable

__all__ = ["DEPTH_BIN", "N_DEPTHS", "Air", "Cascade", "Ledger", "Stack"]

#: Bins of `Cascade.radiating_electrons`: their width in g/cm², and their number.
DEPTH_BIN = 10.0
N_DEPTHS = 105


class Ledger(IntEnum):
    """Where energy goes; an index of `Cascade.energy_gev`."""

    IONISATION = 0
    BELOW_CUT = 1  # particles too slow to be followed any further
    GROUND = 2  # particles that reach the observation level
    NEUTRINOS = 3
    SIDEWAYS = 4  # particles flatter than 11.5° above the horizon, or going up
    NUCLEAR = 5  # what the table of hadronic interactions leaves out
    TARGET_MASS = 6  # electrons of the air that joined the cascade: negative


class Air(NamedTuple):
    """The air that the cascade goes through, and its magnetic field."""

    observation_height_m: float
    """Height of the ground above sea level."""

    magnetic_field_ut: tuple
    """North, west and up components in microtesla."""

    hadron_table: HadronTable
    """Final states of hadronic interactions."""

    atmosphere: Atmosphere
    """Its density by height."""


class Cascade(NamedTuple):
    """The result of a primary; filled by compiled code."""

    photoelectrons: Photoelectrons
    """In the telescopes."""

    radiating_electrons: np.ndarray
    """Electrons and positrons above the Cherenkov threshold at the centres of bins of
    10 g/cm² of vertical depth, shape (n_depths,)."""

    energy_gev: np.ndarray
    """Energy by entry of `Ledger`, shape (7,)."""

    first_interaction_m: np.ndarray
    """Height above sea level, shape (1,); NaN if there was none."""


class Stack(NamedTuple):
    """Particles still to be followed; those that do not fit are counted, not kept."""

    particle: np.ndarray
    state: np.ndarray  # energy, position, direction, time
    size: np.ndarray
    largest: np.ndarray
