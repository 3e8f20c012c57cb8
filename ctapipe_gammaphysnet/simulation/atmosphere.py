"""The U.S. standard atmosphere in Linsley's parametrisation, and its transmission.

Heights are in m above sea level, overburdens (vertical depths) in g/cm².
The layers are those of atmosphere 1 of CORSIKA (D. Heck et al., FZKA 6019, appendix D);
below 100 km, where showers are followed, all of them are exponential. The atmosphere is
flat: neglecting the Earth's curvature is right to 1 % down to altitudes of 30°.
"""

import math

import astropy.units as u
import numpy as np
from astropy.table import QTable
from ctapipe.atmosphere import TableAtmosphereDensityProfile

from .compiled import compiled

__all__ = [
    "MEAN_MASS_NUMBER",
    "TOP_M",
    "density",
    "density_profile",
    "height",
    "optical_path_excess",
    "overburden",
    "refractivity",
    "transmission",
]

TOP_M = 100e3  # where primaries enter
MEAN_MASS_NUMBER = 14.547  # of the nuclei in air: N, O and Ar by number

# overburden(h) = A + B exp(-h / C) between the lower edges of the layers
_EDGES_M = (0.0, 4e3, 10e3, 40e3)
_A = (-186.555305, -94.919, 0.61289, 0.0)  # g/cm²
_B = (1222.6562, 1144.9069, 1305.5948, 540.1778)  # g/cm²
_C = (9941.8638, 8781.5355, 6361.4304, 7721.7016)  # m
_EDGES_G_CM2 = tuple(
    a + b * math.exp(-edge / c)
    for edge, a, b, c in zip(_EDGES_M, _A, _B, _C, strict=True)
)

# Refractivity is proportional to density, at all wavelengths (as CORSIKA has it).
_REFRACTIVITY_SEA_LEVEL = 2.83e-4
_DENSITY_SEA_LEVEL = _B[0] / (_C[0] * 100)  # g/cm³
_REFRACTIVITY_PER_DENSITY = _REFRACTIVITY_SEA_LEVEL / _DENSITY_SEA_LEVEL

# Rayleigh scattering: mean free path at 400 nm. Aerosols: optical depth at 400 nm from
# sea level, and scale height, for a clear sky at an observatory.
_RAYLEIGH_G_CM2 = 2974.0
_REFERENCE_WAVELENGTH_NM = 400.0
_AEROSOL_DEPTH = 0.086
_AEROSOL_SCALE_M = 1200.0


@compiled
def _layer(height_m):
    if height_m < _EDGES_M[1]:
        return 0
    if height_m < _EDGES_M[2]:
        return 1
    if height_m < _EDGES_M[3]:
        return 2
    return 3


@compiled
def overburden(height_m):
    """
    Mass of air above a height (compiled).

    Parameters
    ----------
    height_m : float
        Height above sea level, from 0 to `TOP_M`.

    Returns
    -------
    float
        Vertical depth in g/cm².
    """
    i = _layer(height_m)
    return _A[i] + _B[i] * math.exp(-height_m / _C[i])


@compiled
def height(overburden_g_cm2):
    """
    Height at which the overburden has a given value (compiled).

    Parameters
    ----------
    overburden_g_cm2 : float
        Vertical depth in g/cm², positive.

    Returns
    -------
    float
        Height above sea level in m; at most about `TOP_M`.
    """
    if overburden_g_cm2 > _EDGES_G_CM2[1]:
        i = 0
    elif overburden_g_cm2 > _EDGES_G_CM2[2]:
        i = 1
    elif overburden_g_cm2 > _EDGES_G_CM2[3]:
        i = 2
    else:
        i = 3
    return -_C[i] * math.log((overburden_g_cm2 - _A[i]) / _B[i])


@compiled
def density(height_m):
    """
    Density of air (compiled).

    Parameters
    ----------
    height_m : float
        Height above sea level.

    Returns
    -------
    float
        Density in g/cm³.
    """
    i = _layer(height_m)
    return _B[i] / (_C[i] * 100) * math.exp(-height_m / _C[i])


@compiled
def refractivity(height_m):
    """
    Refractive index minus one (compiled).

    Parameters
    ----------
    height_m : float
        Height above sea level.

    Returns
    -------
    float
        n - 1.
    """
    return _REFRACTIVITY_PER_DENSITY * density(height_m)


@compiled
def optical_path_excess(overburden_difference_g_cm2):
    """
    Integral of n - 1 along a ray: its delay relative to vacuum (compiled).

    Parameters
    ----------
    overburden_difference_g_cm2 : float
        Mass of air along the ray.

    Returns
    -------
    float
        Length in m.
    """
    return 0.01 * _REFRACTIVITY_PER_DENSITY * overburden_difference_g_cm2


def density_profile():
    """
    Describe the same atmosphere for ctapipe.

    ctapipe has a profile of five such layers, but cannot write it to a file.

    Returns
    -------
    ctapipe.atmosphere.TableAtmosphereDensityProfile
        The profile, with units, every 250 m: interpolation is good to 0.1 %, except
        next to the edges of the layers, where Linsley's density jumps by up to 3 %.
    """
    heights_m = np.arange(0, TOP_M + 1, 250.0)
    return TableAtmosphereDensityProfile(
        QTable(
            {
                "height": heights_m / 1e3 * u.km,
                "density": np.vectorize(density)(heights_m) * u.g / u.cm**3,
                "column_density": np.vectorize(overburden)(heights_m) * u.g / u.cm**2,
            },
            meta={
                "TAB_TYPE": "ctapipe.atmosphere.TableAtmosphereDensityProfile",
                "TAB_VER": 1,
                "atmosphere_name": "U.S. standard, Linsley",
            },
        )
    )


def transmission(height_m, observation_height_m, wavelength_nm, cos_zenith):
    """
    Transmission of light from a height, after Rayleigh and Mie scattering.

    Parameters
    ----------
    height_m : numpy.ndarray
        Heights of emission above sea level, broadcast against the wavelengths.
    observation_height_m : float
        Height of the telescopes; no light from below is lost.
    wavelength_nm : numpy.ndarray
        Wavelengths.
    cos_zenith : float
        Cosine of the zenith angle of the ray.

    Returns
    -------
    numpy.ndarray
        Between 0 and 1, of the broadcast shape.
    """
    height_m = np.maximum(height_m, observation_height_m)
    depth = np.vectorize(overburden)(height_m)
    colour = _REFERENCE_WAVELENGTH_NM / wavelength_nm
    rayleigh = (overburden(observation_height_m) - depth) / _RAYLEIGH_G_CM2 * colour**4
    aerosol_column = np.exp(-observation_height_m / _AEROSOL_SCALE_M) - np.exp(
        -height_m / _AEROSOL_SCALE_M
    )
    aerosols = _AEROSOL_DEPTH * aerosol_column * colour
    return np.exp(-(rayleigh + aerosols) / cos_zenith)
