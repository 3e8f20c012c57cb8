"""How the geomagnetic field bends the tracks of charged particles."""

from .compiled import compiled
from .vectors import normalise

__all__ = ["bend"]

_GEV_PER_UT_M = 0.299792458e-6  # of momentum, for unit charge: e c in these units


@compiled
def bend(direction, start, field_ut, charge, momentum_gev, length_m):
    """
    Bend the direction of a particle at the end of a step by the Lorentz force.

    Parameters
    ----------
    direction : tuple of float
        Unit vector at the end of the step, without the field.
    start : tuple of float
        Unit vector at its start.
    field_ut : tuple of float
        North, west and up components of the field in microtesla, as those of the
        directions.
    charge : int
        In units of the positron's.
    momentum_gev : float
        Of the particle.
    length_m : float
        Of the step, over which the angle must stay small.

    Returns
    -------
    tuple of float
        Unit vector.
    """
    vx, vy, vz = direction
    ux, uy, uz = start
    bx, by, bz = field_ut
    angle_per_ut = _GEV_PER_UT_M * charge * length_m / momentum_gev
    return normalise(
        vx + angle_per_ut * (uy * bz - uz * by),
        vy + angle_per_ut * (uz * bx - ux * bz),
        vz + angle_per_ut * (ux * by - uy * bx),
    )
