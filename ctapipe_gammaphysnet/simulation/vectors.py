"""Directions and four-momenta as tuples of floats, for compiled code.

The ground frame is ctapipe's `GroundFrame`: x north, y west, z up.
"""

import math

from .compiled import compiled

__all__ = ["boost", "from_altaz", "isotropic", "normalise", "turn"]


@compiled
def normalise(x, y, z):
    """
    Scale a vector to length one.

    Parameters
    ----------
    x, y, z : float
        The vector; not zero.

    Returns
    -------
    tuple of float
        The direction.
    """
    scale = 1 / math.sqrt(x * x + y * y + z * z)
    return x * scale, y * scale, z * scale


@compiled
def turn(direction, cosine, sine, azimuth):
    """
    Turn a direction by a polar angle, at an azimuth around itself.

    Parameters
    ----------
    direction : tuple of float
        Unit vector.
    cosine, sine : float
        Of the polar angle; the sine is not negative.
    azimuth : float
        In rad, from an arbitrary zero that depends only on the direction.

    Returns
    -------
    tuple of float
        Unit vector.
    """
    ux, uy, uz = direction
    a = sine * math.cos(azimuth)
    b = sine * math.sin(azimuth)
    horizontal = math.sqrt(ux * ux + uy * uy)
    if horizontal < 1e-9:  # vertical: any two axes will do
        return normalise(a, b, math.copysign(cosine, uz * cosine))
    # axes: horizontal and perpendicular, and the third of the right-handed system
    ax, ay = uy / horizontal, -ux / horizontal
    bx, by, bz = -uz * ay, uz * ax, ux * ay - uy * ax
    return normalise(
        ux * cosine + a * ax + b * bx,
        uy * cosine + a * ay + b * by,
        uz * cosine + b * bz,
    )


@compiled
def isotropic(rng):
    """
    Draw an isotropic direction.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    tuple of float
        Unit vector.
    """
    cosine = 2 * rng.random() - 1
    sine = math.sqrt(1 - cosine * cosine)
    azimuth = 2 * math.pi * rng.random()
    return sine * math.cos(azimuth), sine * math.sin(azimuth), cosine


@compiled
def boost(energy, momentum, frame_energy, frame_momentum, frame_mass):
    """
    Transform a four-momentum from a particle's rest frame to the frame it moves in.

    Parameters
    ----------
    energy : float
        In the rest frame.
    momentum : tuple of float
        In the rest frame.
    frame_energy : float
        Energy of the particle that moves.
    frame_momentum : tuple of float
        Its momentum.
    frame_mass : float
        Its mass.

    Returns
    -------
    energy : float
        In the frame in which the particle moves.
    momentum : tuple of float
        In the same frame.
    """
    px, py, pz = momentum
    fx, fy, fz = frame_momentum
    along = px * fx + py * fy + pz * fz
    boosted = (energy * frame_energy + along) / frame_mass
    share = (boosted + energy) / (frame_energy + frame_mass)
    return boosted, (px + share * fx, py + share * fy, pz + share * fz)


def from_altaz(alt_rad, az_rad):
    """
    Convert altitude and azimuth to a direction.

    Parameters
    ----------
    alt_rad, az_rad : float
        Altitude, and azimuth from north towards east.

    Returns
    -------
    tuple of float
        Unit vector towards the sky in the ground frame.
    """
    cos_alt = math.cos(alt_rad)
    return (
        cos_alt * math.cos(az_rad),
        -cos_alt * math.sin(az_rad),
        math.sin(alt_rad),
    )
