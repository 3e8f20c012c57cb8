"""The truth of each shower: energy, direction and core positions.

Each shower has its own random numbers, so that it does not depend on the other showers
that are simulated, or on the number of processes.
"""

from dataclasses import dataclass

import astropy.units as u
import numpy as np

from .card import PRIMARY_ID
from .conditions import draw_conditions
from .optics import pointing_axes

__all__ = ["Primary", "draw_primary", "shower_distribution"]

# Bins of the distribution of showers, as in sim_telarray's files: 20 per decade of the
# energy, from 1 GeV to 1 PeV.
_ENERGY_EDGES_GEV = np.logspace(0, 6, 121)
_N_CORE_BINS = 200


@dataclass(frozen=True)
class Primary:
    """The particle that starts a shower, and where the shower is used."""

    energy_gev: float

    alt_rad: float
    """Altitude it comes from."""

    az_rad: float
    """Azimuth it comes from, from north towards east, 0 to 2 pi."""

    core_x_m: np.ndarray
    """Where the axis hits the plane z = 0 of the GroundFrame, x (north), for each use
    of the shower, shape (reuse,)."""

    core_y_m: np.ndarray
    """The same, y (west)."""


def draw_primary(card, run, shower):
    """Draw the truth of one shower.

    Parameters
    ----------
    card : AirShowerCard
        What is simulated.
    run : int
        Number of the run.
    shower : int
        Number of the shower in the run, from 1.

    Returns
    -------
    primary : Primary
        The same for the same arguments.
    rng : numpy.random.Generator
        Source of the shower's further random numbers, in the same state for the same
        arguments.
    """
    key = (PRIMARY_ID[card.particle], run, shower)
    rng = np.random.default_rng(np.random.SeedSequence(card.seed, spawn_key=key))
    energy = _draw_energy_gev(rng, card)
    alt, az = _draw_direction(rng, card, draw_conditions(card, run))
    core_x, core_y = _draw_cores_m(rng, card, pointing_axes(alt, az))
    return Primary(energy, alt, az, core_x, core_y), rng


def _draw_energy_gev(rng, card):
    """Draw from a power law between the card's limits."""
    low, high = (e.to_value(u.GeV) for e in (card.energy_min, card.energy_max))
    log_ratio = np.log(high / low)
    exponent = card.spectral_index + 1
    share = rng.random()
    if exponent == 0:
        log_energy = share * log_ratio
    else:
        log_energy = np.log1p(share * np.expm1(exponent * log_ratio)) / exponent
    return float(min(low * np.exp(log_energy), high))


def _draw_direction(rng, card, conditions):
    """Draw altitude and azimuth in rad around the pointing."""
    offset, turn = _draw_offset(rng, card)
    across = np.sin(offset)
    axes = pointing_axes(
        conditions.altitude.to_value(u.rad), conditions.azimuth.to_value(u.rad)
    )
    x, y, z = (across * np.cos(turn), across * np.sin(turn), np.cos(offset)) @ axes
    alt = np.arctan2(z, np.hypot(x, y))
    return float(alt), float(np.arctan2(-y, x) % (2 * np.pi))


def _draw_offset(rng, card):
    """Draw the angle from the pointing, and the position angle, in rad: in the view
    cone, uniform in solid angle, or on the circle of the source."""
    half_angle = card.view_cone.to_value(u.rad) / 2
    # The solid angle of a cone goes as the squared sine of half its radius.
    offset = 2 * np.arcsin(np.sqrt(rng.random()) * np.sin(half_angle))
    turn = 2 * np.pi * rng.random()
    if card.source_offset > 0 * u.deg:
        offset = card.source_offset.to_value(u.rad)
        if isinstance(card.position_angle, u.Quantity):
            turn = card.position_angle.to_value(u.rad)
    return offset, turn


def _draw_cores_m(rng, card, axes):
    """Draw core positions, uniform in a disc perpendicular to the axis."""
    radius = card.scatter_radius.to_value(u.m) * np.sqrt(rng.random(card.reuse))
    turn = 2 * np.pi * rng.random(card.reuse)
    *across, axis = axes
    point = np.column_stack([radius * np.cos(turn), radius * np.sin(turn)]) @ across
    on_ground = point - np.outer(point[:, 2] / axis[2], axis)
    return on_ground[:, 0], on_ground[:, 1]


def _axis_distance_m(primary):
    """Distance from the origin to each of the axes, in m, shape (reuse,)."""
    axis = pointing_axes(primary.alt_rad, primary.az_rad)[2]
    cores = np.column_stack(
        [primary.core_x_m, primary.core_y_m, np.zeros_like(primary.core_x_m)]
    )
    return np.linalg.norm(np.cross(cores, axis), axis=1)


def shower_distribution(card, run):
    """Count the showers of a run by energy and distance, each once for every core.

    Parameters
    ----------
    card : AirShowerCard
        What is simulated.
    run : int
        Number of the run.

    Returns
    -------
    histogram : numpy.ndarray
        Number of showers, float32, shape (n_energy_bins, n_core_bins).
    energy_edges : astropy.units.Quantity
        Edges of the bins of energy, shape (n_energy_bins + 1,).
    core_edges : astropy.units.Quantity
        Edges of the bins of the distance from the axis to the centre of the array,
        shape (n_core_bins + 1,).
    """
    radius = card.scatter_radius.to_value(u.m)
    # Bins must have a width even if all cores are at the centre.
    core_edges = np.linspace(0, radius or 1, _N_CORE_BINS + 1)
    counts = np.zeros((len(_ENERGY_EDGES_GEV) - 1, _N_CORE_BINS), dtype=np.float32)
    for shower in range(1, card.showers + 1):
        primary, _ = draw_primary(card, run, shower)
        energy = np.searchsorted(_ENERGY_EDGES_GEV, primary.energy_gev, "right") - 1
        # Rounding may put an axis just beyond the last edge.
        distance = np.minimum(_axis_distance_m(primary), radius)
        counts[energy] += np.histogram(distance, core_edges)[0]
    return counts, _ENERGY_EDGES_GEV * 1e-3 * u.TeV, core_edges * u.m
