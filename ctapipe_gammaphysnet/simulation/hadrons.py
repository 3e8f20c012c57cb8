"""Collisions of hadrons with nuclei of the air, drawn from a table of final states.

The table was made by `make_hadron_table`, with SIBYLL 2.3d (F. Riehn et al., Phys. Rev.
D 102 (2020) 063002) from 64 GeV on and PYTHIA 8 in its cascade mode (C. Bierlich et
al., SciPost Phys. Codebases 8 (2022); T. Sjöstrand and M. Utheim, Eur. Phys. J. C 82
(2022) 21) below, both run by chromo (A. Fedynitch et al., Comput. Phys. Commun. 321
(2026) 110031). None of them is needed here.

Between the energies of the table, one of the two neighbours is drawn, so that means are
linear in the logarithm of the energy, and longitudinal momenta are scaled. Projectiles
are protons, positive pions and positive kaons; others are treated like the one they
resemble, with charges exchanged if they are negative or antimatter.
"""

import json
import math
import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from ctapipe.core import ToolConfigurationError

from .atmosphere import MEAN_MASS_NUMBER
from .compiled import compiled
from .particles import MASS_GEV, Particle

__all__ = [
    "FORMAT",
    "MOMENTUM_SCALE",
    "PROJECTILES",
    "TABLE",
    "HadronTable",
    "HadronTableError",
    "cross_section_mb",
    "draw_interaction",
    "load_hadron_table",
    "mean_free_path",
    "read_provenance",
    "secondary",
]

TABLE = Path(__file__).parent / "data" / "hadrons.npz"
FORMAT = 1
PROJECTILES = (Particle.PROTON, Particle.PION_PLUS, Particle.KAON_PLUS)
# Longitudinal momenta are stored in half precision, in units of the projectile's energy
# divided by this number, which keeps them far from underflow.
MOMENTUM_SCALE = 1024.0

_MB_PER_G_CM2 = MEAN_MASS_NUMBER * 1.66053907e-24 / 1e-27  # mean free path x section

# Antiparticle of each `Particle`.
_CONJUGATE = np.arange(len(Particle))
for _one, _other in (
    (Particle.ELECTRON, Particle.POSITRON),
    (Particle.MUON_MINUS, Particle.MUON_PLUS),
    (Particle.PION_MINUS, Particle.PION_PLUS),
    (Particle.KAON_MINUS, Particle.KAON_PLUS),
    (Particle.NEUTRON, Particle.ANTINEUTRON),
    (Particle.PROTON, Particle.ANTIPROTON),
):
    _CONJUGATE[_one], _CONJUGATE[_other] = _other, _one

# Row of the table for each particle: the projectile that it resembles.
_ROW = np.zeros(len(Particle), np.int64)
_ROW[[Particle.PION_MINUS, Particle.PION_PLUS]] = 1
_ROW[Particle.KAON_MINUS : Particle.KAON_SHORT + 1] = 2
_IS_CONJUGATE = np.zeros(len(Particle), np.bool_)
_IS_CONJUGATE[
    [
        Particle.PION_MINUS,
        Particle.KAON_MINUS,
        Particle.ANTINEUTRON,
        Particle.ANTIPROTON,
    ]
] = True
# Particles whose rest mass may come from the nucleus.
_IS_BARYON = np.zeros(len(Particle), np.bool_)
_IS_BARYON[[Particle.NEUTRON, Particle.PROTON, Particle.LAMBDA]] = True
# Largest accepted energy of the secondaries, relative to that of the projectile.
_MAX_SHARE = 1.01


class HadronTableError(ToolConfigurationError, ValueError):
    """The table of hadronic collisions cannot be used; the message says why."""


class HadronTable(NamedTuple):
    """Final states of collisions with air, for compiled code."""

    energy_gev: np.ndarray
    """Total energies of projectiles, in equal steps of log E, shape (n_energies,)."""

    cross_section_mb: np.ndarray
    """Production cross sections, shape (3, n_energies)."""

    first: np.ndarray
    """Index of the first secondary of each collision, and of the end of the last,
    shape (3, n_energies, n_collisions + 1)."""

    particle: np.ndarray
    """Codes of secondaries, shape (n_secondaries,)."""

    momentum_gev: np.ndarray
    """Momenta, z along the projectile, shape (n_secondaries, 3)."""


@cache
def load_hadron_table():
    """
    Read the table that comes with the package.

    Returns
    -------
    HadronTable
        The table.

    Raises
    ------
    HadronTableError
        If it is damaged, or its format is unknown.
    """
    return _read(TABLE)


def _read(path):
    try:
        table = _read_arrays(path)
        _check(table)
    except HadronTableError:
        raise
    # numpy's errors for a file that is truncated, corrupted, or lacks an array.
    except (OSError, EOFError, BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise HadronTableError(
            f"{path}: the table of hadronic collisions is missing or damaged "
            f"({error}); install the package again"
        ) from error
    return table


def _check(table):
    """Check all that compiled code relies on: it does not check indices."""
    n_rows, n_energies = len(PROJECTILES), len(table.energy_gev)
    n_secondaries = len(table.particle)
    shapes_fit = (
        table.energy_gev.shape == (n_energies,)
        and table.cross_section_mb.shape == (n_rows, n_energies)
        and table.first.ndim == 3
        and table.first.shape[:2] == (n_rows, n_energies)
        and table.first.shape[2] > 1
        and table.particle.shape == (n_secondaries,)
        and table.momentum_gev.shape == (n_secondaries, 3)
    )
    if n_energies < 2 or not shapes_fit:
        raise ValueError("shapes of arrays")
    if not (table.energy_gev[0] > 0 and (np.diff(table.energy_gev) > 0).all()):
        raise ValueError("energies")
    if not (np.isfinite(table.cross_section_mb) & (table.cross_section_mb > 0)).all():
        raise ValueError("cross sections")
    if not (
        table.first.min() >= 0
        and table.first.max() <= n_secondaries
        and (np.diff(table.first, axis=-1) >= 0).all()
    ):
        raise ValueError("numbers of secondaries")
    if not ((table.particle >= 0) & (table.particle < len(Particle))).all():
        raise ValueError("codes of particles")
    if not np.isfinite(table.momentum_gev).all():
        raise ValueError("momenta")


def _read_arrays(path):
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        if int(file["format"]) != FORMAT:
            raise HadronTableError(
                f"{path}: format {int(file['format'])} of the table of hadronic "
                f"collisions is not known, only {FORMAT}; make the table again with "
                "python -m ctapipe_gammaphysnet.simulation.make_hadron_table "
                f"--output {path}"
            )
        energy = file["energy_gev"]
        count = file["count"]
        first = np.zeros(count.size + 1, np.int64)
        np.cumsum(count, out=first[1:])
        edges = np.arange(count.size).reshape(count.shape)[..., :1]
        first = first[edges + np.arange(count.shape[-1] + 1)]
        momentum = file["momentum"].astype(np.float64)
        per_energy = count.sum(axis=-1).ravel()
        momentum[:, 2] *= np.repeat(np.tile(energy, 3), per_energy) / MOMENTUM_SCALE
        return HadronTable(
            energy_gev=energy,
            cross_section_mb=file["cross_section_mb"],
            first=first,
            particle=file["particle"].astype(np.int64),
            momentum_gev=momentum,
        )


def read_provenance():
    """
    Read how the table was made.

    Returns
    -------
    dict
        Models and their versions, seed, cuts, composition of the air, and losses.
    """
    with np.load(TABLE, allow_pickle=False) as file:
        return json.loads(str(file["provenance"]))


@compiled
def _energy_index(table, energy_gev):
    """Fractional index of an energy, clipped to the table."""
    step = math.log(table.energy_gev[1] / table.energy_gev[0])
    index = math.log(energy_gev / table.energy_gev[0]) / step
    return min(max(index, 0.0), table.energy_gev.shape[0] - 1.0)


@compiled
def cross_section_mb(table, particle, energy_gev):
    """
    Cross section for the production of particles in air (compiled).

    Parameters
    ----------
    table : HadronTable
        The table.
    particle : int
        Code of a hadron.
    energy_gev : float
        Its total energy; beyond the ends of the table, 4 GeV and 33 TeV, the cross
        section is that of the end (too small by up to 8 % at 100 TeV).

    Returns
    -------
    float
        In mb for a mean nucleus.
    """
    index = _energy_index(table, energy_gev)
    i = min(int(index), table.energy_gev.shape[0] - 2)
    row = table.cross_section_mb[_ROW[particle]]
    return row[i] + (index - i) * (row[i + 1] - row[i])


@compiled
def mean_free_path(table, particle, energy_gev):
    """
    Mean thickness of air between collisions (compiled).

    Parameters
    ----------
    table : HadronTable
        The table.
    particle : int
        Code of a hadron.
    energy_gev : float
        Its total energy.

    Returns
    -------
    float
        In g/cm².
    """
    return _MB_PER_G_CM2 / cross_section_mb(table, particle, energy_gev)


@compiled
def draw_interaction(rng, table, particle, energy_gev):
    """
    Draw a collision (compiled).

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    table : HadronTable
        The table.
    particle : int
        Code of the hadron that collides.
    energy_gev : float
        Its total energy.

    Returns
    -------
    first, last : int
        Range of its secondaries in the table.
    scale : float
        Factor of their longitudinal momenta.
    conjugate : bool
        Whether to exchange particles with antiparticles.
    """
    row = _ROW[particle]
    index = int(_energy_index(table, energy_gev) + rng.random())
    index = min(index, table.energy_gev.shape[0] - 1)
    scale = energy_gev / table.energy_gev[index]
    while True:
        collision = int(rng.random() * (table.first.shape[2] - 1))
        first = table.first[row, index, collision]
        last = table.first[row, index, collision + 1]
        # Masses and transverse momenta do not shrink with the energy.
        if scale >= 1.0 or _released_gev(table, first, last, scale) < (
            _MAX_SHARE * energy_gev
        ):
            return first, last, scale, _IS_CONJUGATE[particle]


@compiled
def _released_gev(table, first, last, scale):
    """Energy of secondaries, without the rest mass of baryons."""
    released = 0.0
    for i in range(first, last):
        particle, energy, _, _, _ = secondary(table, i, scale, False)
        released += energy
        if _IS_BARYON[particle]:
            released -= MASS_GEV[particle]
    return released


@compiled
def secondary(table, i, scale, conjugate):
    """
    Look up a secondary of a collision (compiled).

    Parameters
    ----------
    table : HadronTable
        The table.
    i : int
        Its index.
    scale : float
        Factor of its longitudinal momentum.
    conjugate : bool
        Whether to exchange it with its antiparticle.

    Returns
    -------
    particle : int
        Its code.
    energy_gev : float
        Its total energy.
    px, py, pz : float
        Its momentum in GeV, z along the projectile.
    """
    particle = table.particle[i]
    if conjugate:
        particle = _CONJUGATE[particle]
    px, py = table.momentum_gev[i, 0], table.momentum_gev[i, 1]
    pz = table.momentum_gev[i, 2] * scale
    energy = math.sqrt(px * px + py * py + pz * pz + MASS_GEV[particle] ** 2)
    return particle, energy, px, py, pz
