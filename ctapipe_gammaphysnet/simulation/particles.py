"""The particles that the cascade follows: their codes, masses, charges, lifetimes.

Values: Particle Data Group, Phys. Rev. D 110 (2024) 030001.
"""

from enum import IntEnum

import numpy as np

__all__ = ["C_TAU_M", "CHARGE", "MASS_GEV", "Particle"]


class Particle(IntEnum):
    """Code of a particle: its row in `MASS_GEV`, `CHARGE` and `C_TAU_M`."""

    GAMMA = 0
    ELECTRON = 1
    POSITRON = 2
    MUON_MINUS = 3
    MUON_PLUS = 4
    PION_MINUS = 5
    PION_PLUS = 6
    KAON_MINUS = 7
    KAON_PLUS = 8
    KAON_LONG = 9
    KAON_SHORT = 10
    NEUTRON = 11
    PROTON = 12
    ANTINEUTRON = 13
    ANTIPROTON = 14
    LAMBDA = 15
    PION_ZERO = 16
    NEUTRINO = 17


_PROPERTIES = {  # mass in GeV, charge in e, c tau in m (infinite where it is stable)
    Particle.GAMMA: (0.0, 0, np.inf),
    Particle.ELECTRON: (0.51099895e-3, -1, np.inf),
    Particle.POSITRON: (0.51099895e-3, 1, np.inf),
    Particle.MUON_MINUS: (0.1056583755, -1, 658.638),
    Particle.MUON_PLUS: (0.1056583755, 1, 658.638),
    Particle.PION_MINUS: (0.13957039, -1, 7.8045),
    Particle.PION_PLUS: (0.13957039, 1, 7.8045),
    Particle.KAON_MINUS: (0.493677, -1, 3.711),
    Particle.KAON_PLUS: (0.493677, 1, 3.711),
    Particle.KAON_LONG: (0.497611, 0, 15.34),
    Particle.KAON_SHORT: (0.497611, 0, 0.026844),
    Particle.NEUTRON: (0.93956542, 0, np.inf),
    Particle.PROTON: (0.93827209, 1, np.inf),
    Particle.ANTINEUTRON: (0.93956542, 0, np.inf),
    Particle.ANTIPROTON: (0.93827209, -1, np.inf),
    Particle.LAMBDA: (1.115683, 0, 0.0789),
    Particle.PION_ZERO: (0.1349768, 0, 25.3e-9),
    Particle.NEUTRINO: (0.0, 0, np.inf),
}

# Arrays over `Particle`, which compiled code reads.
MASS_GEV = np.array([_PROPERTIES[particle][0] for particle in Particle])
CHARGE = np.array([_PROPERTIES[particle][1] for particle in Particle])
C_TAU_M = np.array([_PROPERTIES[particle][2] for particle in Particle])
