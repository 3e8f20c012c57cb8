"""How photons, electrons and other charged particles lose energy and scatter in air.

Energies are in GeV, thicknesses in g/cm²; all functions are compiled, and draw from a
`numpy.random.Generator` where they take one. Air is one element of mean charge and
mass, and atoms screen the nucleus completely (no LPM effect, which matters above the
100 TeV that are simulated). Left out: positron annihilation, knock-on electrons as
separate particles, and the radiation of muons and hadrons.

Sources: pair production and Compton scattering: GEANT3 manual, CERN W5013 (1993),
PHYS 211 and 221; bremsstrahlung: Particle Data Group, Phys. Rev. D 110 (2024) 030001,
§34.4.2; ionisation: S. M. Seltzer and M. J. Berger, Int. J. Appl. Radiat. Isot. 33
(1982) 1189, with the density effect of R. M. Sternheimer et al., At. Data Nucl. Data
Tables 30 (1984) 261; multiple scattering: H. A. Bethe, Phys. Rev. 89 (1953) 1256.
"""

import math

import numpy as np

from .compiled import compiled
from .particles import MASS_GEV, Particle

__all__ = [
    "PHOTON_CUT_GEV",
    "RADIATION_LENGTH",
    "SOFT_PHOTON_GEV",
    "bremsstrahlung_rate",
    "collision_loss",
    "draw_bremsstrahlung",
    "draw_compton",
    "draw_pair",
    "photon_attenuation",
    "radiative_loss",
    "scattering",
]

RADIATION_LENGTH = 36.62  # of air, g/cm²
# photons below make no electron above the Cherenkov threshold on a mountain
PHOTON_CUT_GEV = 0.022
SOFT_PHOTON_GEV = 0.010  # softer bremsstrahlung is a continuous loss

_ELECTRON_GEV = MASS_GEV[Particle.ELECTRON]
_Z, _A = 7.37, 14.70  # of the mean atom for processes that go as Z²
_Z_PER_A = 0.49919
_BARN_TO_CM2_PER_G = 0.602214 / _A


def _pair_cross_section_barn(energy_gev):
    x = np.log(energy_gev / _ELECTRON_GEV)
    f1 = np.polyval([-0.28333, 12.575, -200.28, 1294.9, -1962.5, 878.42], x)
    f2 = np.polyval([2.3586e-3, -9.0815e-2, 1.3063, -8.2381, 17.692, -10.342], x)
    f3 = np.polyval([0.65372, -20.467, 217.73, -867.49, 1116.1, -452.63], x)
    return 1e-6 * _Z * (_Z + 1) * (f1 + f2 * _Z + f3 / _Z)


def _compton_cross_section_barn(energy_gev):
    """Klein-Nishina, for all electrons of the atom."""
    k = energy_gev / _ELECTRON_GEV
    log = np.log1p(2 * k)
    classical = 2 * np.pi * 0.079407877  # 2 pi r_e²
    return (
        _Z
        * classical
        * (
            (1 + k) / k**2 * (2 * (1 + k) / (1 + 2 * k) - log / k)
            + log / (2 * k)
            - (1 + 3 * k) / (1 + 2 * k) ** 2
        )
    )


# Attenuation by either process, in cm²/g, on a logarithmic grid. The parametrisation of
# pair production ends at 80 GeV; it is scaled to the asymptotic 7/9 per radiation
# length there.
_LOG_PHOTON_MIN, _LOG_PHOTON_STEP = math.log(0.02), 0.05
_PHOTON_GRID_GEV = np.exp(_LOG_PHOTON_MIN + _LOG_PHOTON_STEP * np.arange(167))
_PAIR = _pair_cross_section_barn(np.minimum(_PHOTON_GRID_GEV, 80.0))
_PAIR *= 7 / 9 / RADIATION_LENGTH / _PAIR[-1]
_COMPTON = _compton_cross_section_barn(_PHOTON_GRID_GEV) * _BARN_TO_CM2_PER_G


@compiled
def _interpolate(table, index):
    """Interpolate linearly at a fractional index; constant beyond the ends."""
    if index <= 0:
        return table[0]
    i = int(index)
    if i >= table.shape[0] - 1:
        return table[table.shape[0] - 1]
    fraction = index - i
    return table[i] * (1 - fraction) + table[i + 1] * fraction


@compiled
def photon_attenuation(energy_gev):
    """
    Probability of pair production and of Compton scattering per thickness.

    Parameters
    ----------
    energy_gev : float
        Energy of the photon, at least 0.02.

    Returns
    -------
    pair : float
        In cm²/g.
    compton : float
        In cm²/g; neglected above about 80 GeV, where it is below 0.1 %.
    """
    index = (math.log(energy_gev) - _LOG_PHOTON_MIN) / _LOG_PHOTON_STEP
    compton = 0.0 if index > _COMPTON.shape[0] - 1 else _interpolate(_COMPTON, index)
    return _interpolate(_PAIR, index), compton


@compiled
def draw_pair(rng, energy_gev):
    """
    Draw how a pair splits the energy of the photon.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    energy_gev : float
        Energy of the photon.

    Returns
    -------
    float
        The electron's share x. With complete screening its density goes as
        1 - 4/3 x (1 - x); below 40 MeV, where there is no screening, it is flat.
    """
    while True:
        share = rng.random()
        if energy_gev < 0.04 or rng.random() < 1 - 4 / 3 * share * (1 - share):
            return share


@compiled
def draw_compton(rng, energy_gev):
    """
    Draw the scattered photon of a Compton scattering (Klein-Nishina).

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    energy_gev : float
        Energy of the photon.

    Returns
    -------
    scattered_gev : float
        Energy of the photon afterwards.
    cosine : float
        Cosine of the angle by which it was scattered.
    """
    k = energy_gev / _ELECTRON_GEV
    lowest = 1 / (1 + 2 * k)
    log_part = -math.log(lowest)
    square_part = 0.5 * (1 - lowest * lowest)
    while True:
        if rng.random() * (log_part + square_part) < log_part:
            ratio = math.exp(-log_part * rng.random())
        else:
            ratio = math.sqrt(lowest * lowest + (1 - lowest * lowest) * rng.random())
        one_minus_cosine = (1 - ratio) / (k * ratio)
        sine_squared = one_minus_cosine * (2 - one_minus_cosine)
        if rng.random() < 1 - ratio * sine_squared / (1 + ratio * ratio):
            return energy_gev * ratio, 1 - one_minus_cosine


@compiled
def bremsstrahlung_rate(energy_gev):
    """
    Probability per thickness of radiating a photon above `SOFT_PHOTON_GEV`.

    Parameters
    ----------
    energy_gev : float
        Energy of the electron, above `SOFT_PHOTON_GEV`.

    Returns
    -------
    float
        In cm²/g.
    """
    y = SOFT_PHOTON_GEV / energy_gev
    return (4 / 3 * (y - 1 - math.log(y)) + 0.5 * (1 - y * y)) / RADIATION_LENGTH


@compiled
def draw_bremsstrahlung(rng, energy_gev):
    """
    Draw the energy of a radiated photon above `SOFT_PHOTON_GEV`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    energy_gev : float
        Energy of the electron, above `SOFT_PHOTON_GEV`.

    Returns
    -------
    float
        Energy of the photon in GeV.
    """
    log_range = math.log(energy_gev / SOFT_PHOTON_GEV)
    while True:
        share = math.exp(-log_range * rng.random())
        if rng.random() < 1 - share + 0.75 * share * share:
            return share * energy_gev


@compiled
def radiative_loss(energy_gev):
    """
    Energy loss to photons below `SOFT_PHOTON_GEV`.

    Parameters
    ----------
    energy_gev : float
        Energy of the electron, above `SOFT_PHOTON_GEV`.

    Returns
    -------
    float
        In GeV per g/cm².
    """
    y = SOFT_PHOTON_GEV / energy_gev
    return SOFT_PHOTON_GEV * (4 / 3 - 2 / 3 * y + y * y / 3) / RADIATION_LENGTH


def _density_correction(beta_gamma):
    """Sternheimer's delta of air at 1 atm."""
    x = np.log10(beta_gamma)
    above = 2 * np.log(10) * x - 10.5961
    bend = 0.10914 * np.maximum(4.2759 - x, 0) ** 3.3994
    return np.where(x < 1.7418, 0.0, above + bend)


_EXCITATION_GEV = 85.7e-9
_BETA_GAMMA_MIN, _LOG_BETA_GAMMA_STEP = 0.2, 0.05
_LOG_BETA_GAMMA_MIN = math.log(_BETA_GAMMA_MIN)
_BETA_GAMMA = _BETA_GAMMA_MIN * np.exp(_LOG_BETA_GAMMA_STEP * np.arange(430))


def _electron_loss(beta_gamma):
    """Berger-Seltzer, in GeV per g/cm²."""
    gamma = np.sqrt(1 + beta_gamma**2)
    beta2 = beta_gamma**2 / gamma**2
    tau = gamma - 1
    f = (1 - beta2) * (1 + tau**2 / 8 - (2 * tau + 1) * np.log(2))
    log = 2 * np.log(tau * _ELECTRON_GEV / _EXCITATION_GEV) + np.log1p(tau / 2)
    delta = _density_correction(beta_gamma)
    return 0.153537e-3 * _Z_PER_A / beta2 * (log + f - delta)


def _heavy_loss(beta_gamma):
    """Bethe, with a maximum energy transfer that neglects the electron's mass."""
    beta2 = beta_gamma**2 / (1 + beta_gamma**2)
    log = np.log(2 * _ELECTRON_GEV * beta_gamma**2 / _EXCITATION_GEV)
    delta = _density_correction(beta_gamma)
    return 0.307075e-3 * _Z_PER_A / beta2 * (log - beta2 - delta / 2)


_ELECTRON_LOSS = _electron_loss(_BETA_GAMMA)
_HEAVY_LOSS = _heavy_loss(_BETA_GAMMA)


@compiled
def collision_loss(is_electron, gamma):
    """
    Energy loss of a particle of unit charge to the atoms.

    Parameters
    ----------
    is_electron : bool
        Electron or positron; else anything heavier.
    gamma : float
        Lorentz factor.

    Returns
    -------
    float
        In GeV per g/cm².
    """
    beta_gamma = math.sqrt(max(gamma * gamma - 1, _BETA_GAMMA_MIN**2))
    index = (math.log(beta_gamma) - _LOG_BETA_GAMMA_MIN) / _LOG_BETA_GAMMA_STEP
    return _interpolate(_ELECTRON_LOSS if is_electron else _HEAVY_LOSS, index)


_ALPHA = 1 / 137.035999
# chi_c² = this x thickness / (p beta)², in GeV² per g/cm²; Z (Z + 1): the electrons too
_RUTHERFORD = 0.157e-6 * _Z * (_Z + 1) / _A
# Screening angle times momentum (Molière): 1.13 + 3.76 (alpha Z)² in Bethe's form
_SCREENING = (_ELECTRON_GEV * _ALPHA / 0.885 * _Z ** (1 / 3)) ** 2 * (
    1.13 + 3.76 * (_ALPHA * _Z) ** 2
)
_TAIL_PER_STEP = 1 / 3  # mean number of scatterings above the limit
_NUCLEAR_GEV = 0.066  # above this momentum transfer the nucleus is no longer a point


@compiled
def scattering(rng, momentum_beta_gev, thickness):
    """
    Draw the Coulomb scattering of a step: many small angles and at most one large.

    Rutherford scatterings below a limit add up to a Gaussian; the largest one above it,
    where one third of a scattering is expected, is drawn by itself.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    momentum_beta_gev : float
        Momentum times velocity (c = 1).
    thickness : float
        Of the step, in g/cm².

    Returns
    -------
    sigma : float
        Standard deviation of the Gaussian angle in either plane, in rad.
    large_angle : float
        Polar angle of the single large scattering, in rad; 0 where there is none.
    """
    pb2 = momentum_beta_gev * momentum_beta_gev
    chi2 = _RUTHERFORD * thickness / pb2
    limit2 = chi2 / _TAIL_PER_STEP
    spread = math.log(limit2 * pb2 / _SCREENING) - 1
    sigma = math.sqrt(0.5 * chi2 * spread) if spread > 0 else 0.0
    # The largest of a Poisson number of angles, with 1 / 3 expected above the limit.
    large_angle = math.sqrt(chi2 / -math.log(1 - rng.random()))
    largest = min(1.0, _NUCLEAR_GEV / momentum_beta_gev)
    if large_angle * large_angle < limit2 or large_angle > largest:
        large_angle = 0.0
    return sigma, large_angle
