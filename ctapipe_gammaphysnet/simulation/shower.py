"""One shower: its input is checked, and it gets as much space as it needs.

Units and frame are those of `cascade`.
"""

import math

import numpy as np

from .atmosphere import TOP_M
from .cascade import follow, push
from .cherenkov import SPEED_OF_LIGHT, YIELD_STEP_M, Photoelectrons
from .particles import MASS_GEV, Particle
from .state import N_DEPTHS, Cascade, Ledger, Stack

__all__ = ["simulate"]

_STACK_CAPACITY = 20_000
_PHOTOELECTRON_CAPACITY = 4_000_000


def simulate(rng, air, targets, particle, energy_gev, direction, start_m=TOP_M):
    """
    Simulate one shower.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same shower.
    air : Air
        The air.
    targets : Targets
        The telescopes, relative to the foot of the shower's axis.
    particle : Particle
        The primary.
    energy_gev : float
        Its total energy.
    direction : tuple of float
        Unit vector along which it moves, downwards, in the ground frame.
    start_m : float
        Height above sea level at which it starts.

    Returns
    -------
    Cascade
        The result; its arrays hold exactly the photoelectrons, sorted by target.
    """
    _check_inputs(air, targets, particle, energy_gev, direction)
    stack_capacity = _STACK_CAPACITY
    capacity = _PHOTOELECTRON_CAPACITY
    start = rng.bit_generator.state
    while True:
        stack = Stack(
            np.empty(stack_capacity, np.int64),
            np.empty((stack_capacity, 8)),
            np.zeros(1, np.int64),
            np.zeros(1, np.int64),
        )
        cascade = Cascade(
            Photoelectrons.with_capacity(capacity),
            np.zeros(N_DEPTHS),
            np.zeros(len(Ledger)),
            np.full(1, np.nan),
        )
        x, y, z = direction
        length = (air.observation_height_m - start_m) / z
        push(
            stack,
            int(particle),
            energy_gev,
            (-x * length, -y * length, start_m),
            (x, y, z),
            -length / SPEED_OF_LIGHT,
        )
        follow(rng, air, targets, stack, cascade)
        made = int(cascade.photoelectrons.count[0])
        if stack.largest[0] <= stack_capacity and made <= capacity:
            return cascade._replace(
                photoelectrons=_sorted(cascade.photoelectrons, made)
            )
        # A shower that did not fit is simulated again, identically, with more space.
        stack_capacity = max(stack_capacity, 2 * int(stack.largest[0]))
        capacity = max(capacity, made)
        rng.bit_generator.state = start


def _check_inputs(air, targets, particle, energy_gev, direction):
    """Check what compiled code relies on: it does not check indices."""
    _check_targets(targets)
    if not (
        0 <= particle < len(Particle)
        and math.isfinite(energy_gev)
        and energy_gev > MASS_GEV[particle]
    ):
        raise ValueError(f"{energy_gev} GeV is no energy of particle {particle}")
    if not (direction[2] < 0 and math.isclose(math.hypot(*direction), 1)):
        raise ValueError(f"{direction} is no unit vector downwards")
    if not 0 <= air.observation_height_m < TOP_M:
        raise ValueError(f"{air.observation_height_m} m is no height of the ground")


def _check_targets(targets):
    n_kinds, n_targets = len(targets.yield_per_m), len(targets.overburden)
    each = targets.overburden, targets.kind, targets.radius_m, targets.focus_m
    if (
        targets.position_m.shape != (n_targets, 3)
        or not all(array.shape == (n_targets,) for array in each)
        or targets.yield_per_m.shape != (n_kinds, int(TOP_M / YIELD_STEP_M) + 1)
        or not np.isin(targets.kind, np.arange(n_kinds)).all()
        or not all(np.isfinite(array).all() for array in targets[:2])
        or not np.isfinite(targets.yield_per_m).all()
    ):
        raise ValueError("targets need positions, overburdens, kinds and yields")


def _sorted(photoelectrons, count):
    order = np.argsort(photoelectrons.target[:count], kind="stable")
    return Photoelectrons(
        photoelectrons.target[order],
        photoelectrons.ray[order],
        photoelectrons.count,
    )
