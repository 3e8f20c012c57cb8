"""Cherenkov light of charged particles, aimed at the telescopes only.

No particle is thinned. Only the light that hits a telescope is simulated: the cone of
light from a point of the track cuts the plane of a telescope in a circle, and the share
of that circle within the mirror is the probability that a photon hits it. The yield
includes all quantum and mirror efficiencies, so the result is photoelectrons.
"""

import math
from typing import NamedTuple

import numpy as np

from .atmosphere import TOP_M, optical_path_excess
from .compiled import compiled
from .extinction import transmission
from .vectors import normalise, turn

__all__ = [
    "SPEED_OF_LIGHT",
    "YIELD_STEP_M",
    "Photoelectrons",
    "Targets",
    "emit",
    "photoelectron_yield",
]

SPEED_OF_LIGHT = 0.299792458  # m/ns
FINE_STRUCTURE = 1 / 137.035999
YIELD_STEP_M = 200.0
_MAX_POINTS = 256  # on a stretch of track


class Targets(NamedTuple):
    """The telescopes at which light is aimed; one telescope may appear several times.

    A telescope is a sphere; light hits it where it hits its disc.
    """

    position_m: np.ndarray
    """Centres in the ground frame, shape (n_targets, 3), z above sea level."""

    overburden: np.ndarray
    """Overburden at the centres in g/cm², shape (n_targets,)."""

    kind: np.ndarray
    """Type of telescope of each, a row of `yield_per_m`, shape (n_targets,), int64."""

    radius_m: np.ndarray
    """Radius of each, shape (n_targets,)."""

    focus_m: np.ndarray
    """Distance to which the camera of each is focused, shape (n_targets,)."""

    yield_per_m: np.ndarray
    """From `photoelectron_yield`, shape (n_kinds, n_heights)."""

    photoelectrons_per_point: float
    """Most that are emitted, in all directions, at one point of a track, for the type
    of telescope with the largest yield."""


class Photoelectrons(NamedTuple):
    """Space for photoelectrons, and how many there are.

    Those that do not fit are counted, but not kept.
    """

    target: np.ndarray
    """Index of the target, shape (capacity,)."""

    ray: np.ndarray
    """Direction of flight in the ground frame, and time in ns at which the light passes
    the centre of the target, counted from when light along the axis of the shower
    reaches the ground; shape (capacity, 4)."""

    count: np.ndarray
    """Number of photoelectrons, shape (1,)."""

    @classmethod
    def with_capacity(cls, capacity):
        """
        Allocate space.

        Parameters
        ----------
        capacity : int
            Number of photoelectrons.

        Returns
        -------
        Photoelectrons
            Empty.
        """
        return cls(
            np.empty(capacity, np.int32),
            np.empty((capacity, 4), np.float32),
            np.zeros(1, np.int64),
        )


def photoelectron_yield(
    observation_height_m, cos_zenith, wavelength_nm, efficiency, site=None
):
    """
    Tabulate the light of one metre of track, by height (Frank and Tamm).

    Parameters
    ----------
    observation_height_m : float
        Of the telescopes above sea level.
    cos_zenith : float
        Cosine of the zenith angle from which the light comes.
    wavelength_nm : numpy.ndarray
        Wavelengths, increasing, shape (n,).
    efficiency : numpy.ndarray
        Probability that a photon on the mirror makes a photoelectron, shape (n,).
    site : str, optional
        Name of the site, whose air takes light away; by default, none is lost.

    Returns
    -------
    numpy.ndarray
        Photoelectrons per m, to be multiplied by sin² of the Cherenkov angle, at
        heights of 0 to `TOP_M` above sea level in steps of `YIELD_STEP_M`.
    """
    height_m = np.arange(0, TOP_M + YIELD_STEP_M, YIELD_STEP_M)[:, np.newaxis]
    wavelength_m = wavelength_nm * 1e-9
    spectrum = efficiency / wavelength_m**2
    if site is None:
        spectrum = np.broadcast_to(spectrum, (len(height_m), len(spectrum)))
    else:
        spectrum = spectrum * transmission(
            site, height_m, observation_height_m, wavelength_nm, cos_zenith
        )
    return 2 * np.pi * FINE_STRUCTURE * np.trapezoid(spectrum, wavelength_m, axis=1)


@compiled
def _yield_at(table, kind, height_m):
    index = height_m / YIELD_STEP_M
    i = min(int(index), table.shape[1] - 2)
    fraction = index - i
    return table[kind, i] * (1 - fraction) + table[kind, i + 1] * fraction


@compiled
def _largest_yield_at(table, height_m):
    largest = 0.0
    for kind in range(table.shape[0]):
        largest = max(largest, _yield_at(table, kind, height_m))
    return largest


@compiled
def _share_within(cone_m, offset_m, radius_m):
    """Half the arc of a circle of radius cone_m that lies within a disc, in rad."""
    cosine = (cone_m * cone_m + offset_m * offset_m - radius_m * radius_m) / (
        2 * cone_m * offset_m
    )
    if cosine <= -1:
        return math.pi
    if cosine >= 1:
        return 0.0
    return math.acos(cosine)


@compiled
def _aim(
    rng, targets, photoelectrons, point, direction, sine2, track_m, yield_z, depth, time
):
    """Send the light of a stretch of track, emitted at a point along a cone, to all
    targets, with the yields at the height yield_z."""
    x, y, z = point
    ux, uy, uz = direction
    tangent = math.sqrt(sine2 / (1 - sine2))
    sine = math.sqrt(sine2)
    cosine = math.sqrt(1 - sine2)
    for i in range(targets.position_m.shape[0]):
        radius = targets.radius_m[i]
        vx = targets.position_m[i, 0] - x
        vy = targets.position_m[i, 1] - y
        vz = targets.position_m[i, 2] - z
        along = vx * ux + vy * uy + vz * uz
        if along <= 0:
            continue
        offset2 = vx * vx + vy * vy + vz * vz - along * along
        cone = along * tangent
        if offset2 > (cone + radius) ** 2:
            continue
        if cone > radius and offset2 < (cone - radius) ** 2:
            continue
        offset = math.sqrt(max(offset2, 1e-12))  # not 0: it is divided by
        half_arc = _share_within(cone, offset, radius)
        light = _yield_at(targets.yield_per_m, targets.kind[i], yield_z) * track_m
        number = rng.poisson(light * sine2 * half_arc / math.pi)
        if number == 0:
            continue
        # axes across the track: towards the target, and the third
        ax, ay, az = vx - along * ux, vy - along * uy, vz - along * uz
        if ax * ax + ay * ay + az * az < 1e-12:  # straight at the target: any will do
            ax, ay, az = turn(direction, 0.0, 1.0, 0.0)
        ax, ay, az = normalise(ax, ay, az)
        bx = uy * az - uz * ay
        by = uz * ax - ux * az
        bz = ux * ay - uy * ax
        for _ in range(number):
            azimuth = (2 * rng.random() - 1) * half_arc
            a = sine * math.cos(azimuth)
            b = sine * math.sin(azimuth)
            sx = ux * cosine + a * ax + b * bx
            sy = uy * cosine + a * ay + b * by
            sz = uz * cosine + a * az + b * bz
            distance = vx * sx + vy * sy + vz * sz
            excess = optical_path_excess((targets.overburden[i] - depth) / -sz)
            k = photoelectrons.count[0]
            photoelectrons.count[0] += 1
            if k >= photoelectrons.target.shape[0]:
                continue
            # A camera that is focused at some distance sees each ray as if it came
            # through the centre of the mirror from the point at that distance.
            dx, dy, dz = normalise(
                sx - (sx * distance - vx) / targets.focus_m[i],
                sy - (sy * distance - vy) / targets.focus_m[i],
                sz - (sz * distance - vz) / targets.focus_m[i],
            )
            photoelectrons.target[k] = i
            photoelectrons.ray[k, 0] = dx
            photoelectrons.ray[k, 1] = dy
            photoelectrons.ray[k, 2] = dz
            photoelectrons.ray[k, 3] = time + (distance + excess) / SPEED_OF_LIGHT


@compiled
def emit(
    rng,
    targets,
    photoelectrons,
    start,
    displacement,
    length_m,
    directions,
    wobble_rad,
    gammas,
    refractivities,
    overburdens,
    time_ns,
    beta,
):
    """
    Emit the Cherenkov light of a step of a charged particle.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    targets : Targets
        The telescopes.
    photoelectrons : Photoelectrons
        To which new ones are added.
    start, displacement : tuple of float
        Start of the step, and vector from there to its end, in m.
    length_m : float
        Length of the path.
    directions : tuple of tuple
        Unit vectors at both ends.
    wobble_rad : float
        Standard deviation of the scattering angle of the whole step in either plane;
        between the ends directions follow a Brownian bridge.
    gammas, refractivities, overburdens : tuple of float
        Lorentz factor, n - 1 and vertical depth in g/cm² at both ends.
    time_ns : float
        When the step begins.
    beta : float
        Velocity in units of that of light.
    """
    # sin² of the Cherenkov angle: 1 - 1 / (n beta)² for n - 1 and 1 / gamma² << 1
    brightest = max(
        2 * refractivities[0] - gammas[0] ** -2.0,
        2 * refractivities[1] - gammas[1] ** -2.0,
    )
    if brightest <= 0:
        return
    x, y, z = start
    dx, dy, dz = displacement
    middle_z = z + 0.5 * dz
    light = _largest_yield_at(targets.yield_per_m, middle_z) * length_m * brightest
    points = int(light / targets.photoelectrons_per_point) + 1
    points = min(points, _MAX_POINTS)
    (ux, uy, uz), (wx, wy, wz) = directions
    growth = math.log(refractivities[1] / refractivities[0])  # as density grows
    phase = rng.random()
    for k in range(points):
        f = (k + phase) / points
        gamma = gammas[0] + (gammas[1] - gammas[0]) * f
        refractivity = refractivities[0] * math.exp(growth * f)
        sine2 = 2 * refractivity - 1 / (gamma * gamma)
        if sine2 <= 0:
            continue
        sigma = wobble_rad * math.sqrt(f * (1 - f))
        direction = normalise(
            ux + (wx - ux) * f + sigma * rng.standard_normal(),
            uy + (wy - uy) * f + sigma * rng.standard_normal(),
            uz + (wz - uz) * f + sigma * rng.standard_normal(),
        )
        _aim(
            rng,
            targets,
            photoelectrons,
            (x + dx * f, y + dy * f, z + dz * f),
            direction,
            sine2,
            length_m / points,
            middle_z,
            overburdens[0] + (overburdens[1] - overburdens[0]) * f,
            time_ns + length_m * f / (SPEED_OF_LIGHT * beta),
        )
