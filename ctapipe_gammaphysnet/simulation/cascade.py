"""The cascade: particles followed through the atmosphere, one by one, without thinning.

Lengths are in m, depths in g/cm², energies in GeV, times in ns. The ground frame is
ctapipe's: x north, y west, z up, here above sea level. The axis of the shower meets the
observation level at x = y = 0; time zero is when light along the axis would get there
in a vacuum.
"""

import math

from .atmosphere import height, overburden, refractivity
from .cherenkov import SPEED_OF_LIGHT, emit
from .compiled import compiled
from .decays import decay
from .electromagnetic import (
    PHOTON_CUT_GEV,
    RADIATION_LENGTH,
    bremsstrahlung_rate,
    collision_loss,
    draw_bremsstrahlung,
    draw_compton,
    draw_pair,
    photon_attenuation,
    radiative_loss,
    scattering,
)
from .geomagnetism import bend
from .hadrons import draw_interaction, mean_free_path, secondary
from .particles import C_TAU_M, CHARGE, MASS_GEV, Particle
from .state import DEPTH_BIN, Ledger
from .vectors import normalise, turn

__all__ = ["follow", "push"]


_SIDEWAYS = -0.2  # direction's z above which a particle is dropped
_HADRON_CUT_GEV = 2.0  # kinetic energy
_ELECTRON_CUT_GEV = 0.012
_HEAVY_GAMMA_CUT = 1.02
_SOFT_STEP, _HARD_STEP, _HARD_GEV = 0.1 * RADIATION_LENGTH, 0.2 * RADIATION_LENGTH, 1.0
_HEAVY_STEP = 10.0
_LARGEST_KICK = 1.2  # rad

_GAMMA = int(Particle.GAMMA)
_ELECTRON = int(Particle.ELECTRON)
_POSITRON = int(Particle.POSITRON)
_MUON_MINUS = int(Particle.MUON_MINUS)
_MUON_PLUS = int(Particle.MUON_PLUS)
_PION_MINUS = int(Particle.PION_MINUS)
_PION_ZERO = int(Particle.PION_ZERO)
_NEUTRINO = int(Particle.NEUTRINO)
_ELECTRON_GEV = MASS_GEV[_ELECTRON]

_IONISATION = int(Ledger.IONISATION)
_BELOW_CUT = int(Ledger.BELOW_CUT)
_GROUND = int(Ledger.GROUND)
_NEUTRINOS = int(Ledger.NEUTRINOS)
_WENT_SIDEWAYS = int(Ledger.SIDEWAYS)
_NUCLEAR = int(Ledger.NUCLEAR)
_TARGET_MASS = int(Ledger.TARGET_MASS)


@compiled
def push(stack, particle, energy, position, direction, time):
    """
    Put a particle on a stack, if there is space, and count it in any case.

    Parameters
    ----------
    stack : Stack
        The particles to be followed.
    particle : int
        The particle, of `Particle`.
    energy : float
        Its total energy.
    position, direction : tuple of float
        Where it is, and the unit vector along which it moves.
    time : float
        When it is there.
    """
    n = stack.size[0]
    stack.size[0] = n + 1
    stack.largest[0] = max(stack.largest[0], n + 1)
    if n >= stack.particle.shape[0]:
        return
    stack.particle[n] = particle
    row = stack.state[n]
    row[0] = energy
    row[1], row[2], row[3] = position
    row[4], row[5], row[6] = direction
    row[7] = time


@compiled
def _exponential(rng):
    return -math.log(1 - rng.random())


@compiled
def _azimuth(rng):
    return 2 * math.pi * rng.random()


@compiled
def _note_first(cascade, height_m):
    if math.isnan(cascade.first_interaction_m[0]):
        cascade.first_interaction_m[0] = height_m


@compiled
def _follow_photon(rng, air, stack, cascade, energy, position, direction, time):
    """Follow a photon to where it makes a pair or scatters."""
    if energy < PHOTON_CUT_GEV:
        cascade.energy_gev[_BELOW_CUT] += energy
        return
    pair, compton = photon_attenuation(energy)
    x, y, z = position
    ux, uy, uz = direction
    depth = overburden(air.atmosphere, z) - uz * _exponential(rng) / (pair + compton)
    if depth >= overburden(air.atmosphere, air.observation_height_m):
        cascade.energy_gev[_GROUND] += energy
        return
    new_z = height(air.atmosphere, depth)
    length = (new_z - z) / uz
    position = (x + ux * length, y + uy * length, new_z)
    time += length / SPEED_OF_LIGHT
    _note_first(cascade, new_z)
    if rng.random() * (pair + compton) < pair:
        electron = energy * draw_pair(rng, energy)
        for particle, share in ((_ELECTRON, electron), (_POSITRON, energy - electron)):
            if share < _ELECTRON_CUT_GEV:
                cascade.energy_gev[_BELOW_CUT] += share
                continue
            # opening angle: of the order of m/E, with a tail (GEANT3, PHYS 211)
            angle = min(_ELECTRON_GEV / share * math.sqrt(_exponential(rng)), 1.0)
            turned = turn(direction, math.cos(angle), math.sin(angle), _azimuth(rng))
            push(stack, particle, share, position, turned, time)
        return
    scattered, cosine = draw_compton(rng, energy)
    sine = math.sqrt(max(1 - cosine * cosine, 0.0))
    azimuth = _azimuth(rng)
    turned = turn(direction, cosine, sine, azimuth)
    push(stack, _GAMMA, scattered, position, turned, time)
    angle = math.atan2(scattered * sine, energy - scattered * cosine)
    turned = turn(direction, math.cos(angle), math.sin(angle), azimuth + math.pi)
    electron = energy - scattered + _ELECTRON_GEV
    cascade.energy_gev[_TARGET_MASS] -= _ELECTRON_GEV
    push(stack, _ELECTRON, electron, position, turned, time)


@compiled
def _charged_step(
    rng,
    air,
    targets,
    cascade,
    particle,
    energies,
    position,
    direction,
    time,
    thickness,
    depths,
    new_z,
):
    """Scatter, bend and radiate along a step; return where, how and when it ends."""
    x, y, z = position
    ux, uy, uz = direction
    mass = MASS_GEV[particle]
    energy, new_energy = energies
    mean2 = energy * new_energy
    beta = math.sqrt(1 - mass * mass / mean2)
    momentum = math.sqrt(mean2) * beta
    sigma, large_angle = scattering(rng, momentum * beta, thickness)
    kick_a = sigma * rng.standard_normal()
    kick_b = sigma * rng.standard_normal()
    kick = math.sqrt(kick_a * kick_a + kick_b * kick_b)
    length = (new_z - z) / uz
    if kick > 0:
        kick = min(kick, _LARGEST_KICK)
        vx, vy, vz = turn(
            direction, math.cos(kick), math.sin(kick), math.atan2(kick_b, kick_a)
        )
    else:
        vx, vy, vz = direction
    vx, vy, vz = bend(
        (vx, vy, vz),
        direction,
        air.magnetic_field_ut,
        CHARGE[particle],
        momentum,
        length,
    )
    # The mean direction leads to the new height; grazing ones are not stretched.
    ax, ay, az = 0.5 * (ux + vx), 0.5 * (uy + vy), min(0.5 * (uz + vz), _SIDEWAYS)
    stretch = (new_z - z) / az
    displacement = (ax * stretch, ay * stretch, new_z - z)
    emit(
        rng,
        targets,
        cascade.photoelectrons,
        position,
        displacement,
        length,
        (direction, (vx, vy, vz)),
        sigma,
        (energy / mass, new_energy / mass),
        (refractivity(air.atmosphere, z), refractivity(air.atmosphere, new_z)),
        depths,
        time,
        beta,
    )
    if large_angle > 0:
        vx, vy, vz = turn(
            (vx, vy, vz), math.cos(large_angle), math.sin(large_angle), _azimuth(rng)
        )
    position = (x + displacement[0], y + displacement[1], new_z)
    return position, (vx, vy, vz), time + length / (SPEED_OF_LIGHT * beta)


@compiled
def _too_slow_to_shine(air, energy, z, depth):
    """Whether an electron stays below the threshold for another radiation length."""
    below = refractivity(air.atmosphere, z) * (1 + RADIATION_LENGTH / depth)
    return 2 * below < (_ELECTRON_GEV / energy) ** 2


@compiled
def _follow_electron(
    rng, air, targets, stack, cascade, particle, energy, position, direction, time
):
    """Follow an electron down in steps until it is too slow or lands."""
    ground = overburden(air.atmosphere, air.observation_height_m)
    depth = overburden(air.atmosphere, position[2])
    mean_free_paths = _exponential(rng)
    while True:
        if energy < _ELECTRON_CUT_GEV or _too_slow_to_shine(
            air, energy, position[2], depth
        ):
            cascade.energy_gev[_BELOW_CUT] += energy
            return
        uz = direction[2]
        if uz > _SIDEWAYS:
            cascade.energy_gev[_WENT_SIDEWAYS] += energy
            return
        rate = bremsstrahlung_rate(energy)
        thickness = mean_free_paths / rate
        radiates = True
        longest = _SOFT_STEP if energy < _HARD_GEV else _HARD_STEP
        if thickness > longest:
            thickness = longest
            radiates = False
        new_depth = depth - uz * thickness
        lands = new_depth >= ground
        if lands:
            new_depth = ground
            thickness = (depth - ground) / uz
            new_z = air.observation_height_m
        else:
            new_z = height(air.atmosphere, new_depth)
        loss = thickness * (
            collision_loss(True, energy / _ELECTRON_GEV) + radiative_loss(energy)
        )
        if energy - loss < _ELECTRON_CUT_GEV:
            cascade.energy_gev[_BELOW_CUT] += energy
            return
        z = position[2]
        position, direction, time = _charged_step(
            rng,
            air,
            targets,
            cascade,
            particle,
            (energy, energy - loss),
            position,
            direction,
            time,
            thickness,
            (depth, new_depth),
            new_z,
        )
        energy -= loss
        cascade.energy_gev[_IONISATION] += loss
        if (
            2 * refractivity(air.atmosphere, 0.5 * (z + new_z))
            > (_ELECTRON_GEV / energy) ** 2
        ):
            _count_electron(cascade, depth, new_depth)
        depth = new_depth
        if lands:
            cascade.energy_gev[_GROUND] += energy
            return
        mean_free_paths -= rate * thickness
        if radiates:
            _note_first(cascade, position[2])
            photon = draw_bremsstrahlung(rng, energy - _ELECTRON_GEV)
            angle = _ELECTRON_GEV / energy
            turned = turn(direction, math.cos(angle), math.sin(angle), _azimuth(rng))
            push(stack, _GAMMA, photon, position, turned, time)
            energy -= photon
            mean_free_paths = _exponential(rng)


@compiled
def _count_electron(cascade, depth, new_depth):
    """Add a track to the profile: to each bin the share of the bin that it crosses."""
    profile = cascade.radiating_electrons
    i = int(depth / DEPTH_BIN)
    while i < profile.shape[0] and i * DEPTH_BIN < new_depth:
        upper = min(new_depth, (i + 1) * DEPTH_BIN)
        lower = max(depth, i * DEPTH_BIN)
        profile[i] += (upper - lower) / DEPTH_BIN
        i += 1


@compiled
def _interact(rng, air, stack, cascade, particle, energy, position, direction, time):
    """Replace a hadron by the secondaries of a tabulated interaction."""
    table = air.hadron_table
    _note_first(cascade, position[2])
    first, last, scale, conjugate = draw_interaction(rng, table, particle, energy)
    around = _azimuth(rng)
    left = energy
    for i in range(first, last):
        code, product, px, py, pz = secondary(table, i, scale, conjugate)
        transverse = math.sqrt(px * px + py * py)
        momentum = math.sqrt(transverse * transverse + pz * pz)
        turned = turn(
            direction,
            pz / momentum,
            transverse / momentum,
            around + math.atan2(py, px),
        )
        left -= product
        push(stack, code, product, position, turned, time)
    cascade.energy_gev[_NUCLEAR] += left


@compiled
def _decay(rng, stack, particle, energy, position, direction, time):
    codes, momenta = decay(rng, particle, energy, direction)
    for code, (product, (px, py, pz)) in zip(codes, momenta):  # noqa: B905 (numba)
        if code >= 0:
            push(stack, code, product, position, normalise(px, py, pz), time)


@compiled
def _follow_heavy(
    rng, air, targets, stack, cascade, particle, energy, position, direction, time
):
    """Follow a muon or a hadron until it decays, interacts, stops or lands."""
    mass = MASS_GEV[particle]
    is_hadron = particle >= _PION_MINUS
    charged = CHARGE[particle] != 0
    ground = overburden(air.atmosphere, air.observation_height_m)
    depth = overburden(air.atmosphere, position[2])
    # Proper time that is left, times c, in m: losing energy does not change it.
    to_decay = _exponential(rng) * C_TAU_M[particle]
    to_interaction = math.inf
    if is_hadron:
        to_interaction = _exponential(rng) * mean_free_path(
            air.hadron_table, particle, energy
        )
    while True:
        if energy < _HEAVY_GAMMA_CUT * mass:
            cascade.energy_gev[_BELOW_CUT] += energy
            return
        uz = direction[2]
        if uz > _SIDEWAYS:
            cascade.energy_gev[_WENT_SIDEWAYS] += energy
            return
        thickness = min(to_interaction, _HEAVY_STEP) if charged else to_interaction
        new_depth = min(depth - uz * thickness, ground)
        lands = new_depth == ground
        new_z = air.observation_height_m if lands else height(air.atmosphere, new_depth)
        z = position[2]
        beta_gamma = math.sqrt((energy / mass) ** 2 - 1)
        decays = (new_z - z) / uz > to_decay * beta_gamma
        if decays:
            lands = False
            new_z = z + uz * to_decay * beta_gamma
            new_depth = overburden(air.atmosphere, new_z)
        thickness = (depth - new_depth) / uz
        interacts = not (lands or decays) and thickness >= to_interaction - 1e-9
        to_interaction -= thickness
        to_decay -= (new_z - z) / uz / beta_gamma
        if charged and thickness > 0:
            loss = collision_loss(False, energy / mass) * thickness
            if energy - loss < _HEAVY_GAMMA_CUT * mass:
                cascade.energy_gev[_BELOW_CUT] += energy
                return
            position, direction, time = _charged_step(
                rng,
                air,
                targets,
                cascade,
                particle,
                (energy, energy - loss),
                position,
                direction,
                time,
                thickness,
                (depth, new_depth),
                new_z,
            )
            energy -= loss
            cascade.energy_gev[_IONISATION] += loss
        else:
            length = (new_z - z) / uz
            position = (
                position[0] + direction[0] * length,
                position[1] + direction[1] * length,
                new_z,
            )
            beta = math.sqrt(1 - (mass / energy) ** 2)
            time += length / (SPEED_OF_LIGHT * beta)
        depth = new_depth
        if lands:
            cascade.energy_gev[_GROUND] += energy
            return
        if decays:
            _decay(rng, stack, particle, energy, position, direction, time)
            return
        if interacts:
            _interact(
                rng, air, stack, cascade, particle, energy, position, direction, time
            )
            return


@compiled
def follow(rng, air, targets, stack, cascade):
    """
    Follow all particles of a stack, and those that they make, until none is left.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    air : Air
        The air.
    targets : Targets
        The telescopes.
    stack : Stack
        The particles; empty afterwards.
    cascade : Cascade
        The result, to which everything is added.
    """
    while 0 < stack.size[0] <= stack.particle.shape[0]:
        stack.size[0] -= 1
        n = stack.size[0]
        particle = stack.particle[n]
        row = stack.state[n]
        energy = row[0]
        position = (row[1], row[2], row[3])
        direction = (row[4], row[5], row[6])
        time = row[7]
        mass = MASS_GEV[particle]
        if particle == _NEUTRINO:
            cascade.energy_gev[_NEUTRINOS] += energy
        elif direction[2] > _SIDEWAYS:
            cascade.energy_gev[_WENT_SIDEWAYS] += energy
        elif particle == _GAMMA:
            _follow_photon(rng, air, stack, cascade, energy, position, direction, time)
        elif particle == _ELECTRON or particle == _POSITRON:
            _follow_electron(
                rng,
                air,
                targets,
                stack,
                cascade,
                particle,
                energy,
                position,
                direction,
                time,
            )
        elif particle == _PION_ZERO:
            _decay(rng, stack, particle, energy, position, direction, time)
        elif particle >= _PION_MINUS and energy - mass < _HADRON_CUT_GEV:
            cascade.energy_gev[_BELOW_CUT] += energy
        else:
            _follow_heavy(
                rng,
                air,
                targets,
                stack,
                cascade,
                particle,
                energy,
                position,
                direction,
                time,
            )
