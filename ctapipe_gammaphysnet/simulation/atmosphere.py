"""The atmospheres of CTAO's sites: density and refraction by height.

Heights are in m above sea level, overburdens (vertical depths) in g/cm².
The layers are of the kind that CORSIKA has (D. Heck et al., FZKA 6019, appendix D);
below 100 km, where showers are followed, all of them are exponential. The atmosphere is
flat: neglecting the Earth's curvature is right to 1 % down to altitudes of 30°.
"""

import math
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.table import QTable
from ctapipe.atmosphere import TableAtmosphereDensityProfile

from .compiled import compiled

__all__ = [
    "ATMOSPHERES",
    "MEAN_MASS_NUMBER",
    "TOP_M",
    "Atmosphere",
    "density",
    "density_profile",
    "height",
    "optical_path_excess",
    "overburden",
    "refractivity",
]

TOP_M = 100e3  # where primaries enter
MEAN_MASS_NUMBER = 14.547  # of the nuclei in air: N, O and Ar by number


class Atmosphere(NamedTuple):
    """Layers of air, for compiled code: overburden(h) = a + b exp(-h / c) in each."""

    edges_m: tuple
    """Lower edges of the four layers."""

    a_g_cm2: tuple
    """Of each layer."""

    b_g_cm2: tuple
    """Of each layer."""

    c_m: tuple
    """Scale height of each layer."""

    edges_g_cm2: tuple
    """Overburden at the lower edges."""


def _atmosphere(edges_m, a_g_cm2, b_g_cm2, c_m):
    layers = zip(edges_m, a_g_cm2, b_g_cm2, c_m, strict=True)
    edges_g_cm2 = tuple(a + b * math.exp(-edge / c) for edge, a, b, c in layers)
    return Atmosphere(edges_m, a_g_cm2, b_g_cm2, c_m, edges_g_cm2)


#: Atmosphere of each site: winter, by ECMWF, fitted with layers, as in the atmosphere
#: block of public files of CTAO's sixth production.
ATMOSPHERES = {
    "la_palma": _atmosphere(
        (0.0, 4e3, 10e3, 25e3),
        (-164.338047, -133.710280, -1.28699574, -3.24737162e-5),
        (1209.06805, 1178.33615, 1372.07593, 992.545733),
        (9941.8638, 9633.73444, 6361.4304, 6839.85151),
    ),
    "paranal": _atmosphere(
        (0.0, 9.75e3, 19e3, 46e3),
        (-140.507760, -18.4376971, 0.217564847, -2.01796296e-4),
        (1178.04776, 1265.08431, 1349.22059, 703.744586),
        (9941.8638, 7089.15051, 6361.4304, 7211.27964),
    ),
}

# Refractivity is proportional to density, at all wavelengths (as CORSIKA has it); the
# factor, in cm³/g, is that of the same blocks.
_REFRACTIVITY_PER_DENSITY = 0.2308


@compiled
def _layer(atmosphere, height_m):
    if height_m < atmosphere.edges_m[1]:
        return 0
    if height_m < atmosphere.edges_m[2]:
        return 1
    if height_m < atmosphere.edges_m[3]:
        return 2
    return 3


@compiled
def overburden(atmosphere, height_m):
    """
    Mass of air above a height (compiled).

    Parameters
    ----------
    atmosphere : Atmosphere
        The air.
    height_m : float
        Height above sea level, from 0 to `TOP_M`.

    Returns
    -------
    float
        Vertical depth in g/cm².
    """
    i = _layer(atmosphere, height_m)
    a, b, c = atmosphere.a_g_cm2[i], atmosphere.b_g_cm2[i], atmosphere.c_m[i]
    return a + b * math.exp(-height_m / c)


@compiled
def height(atmosphere, overburden_g_cm2):
    """
    Height at which the overburden has a given value (compiled).

    Parameters
    ----------
    atmosphere : Atmosphere
        The air.
    overburden_g_cm2 : float
        Vertical depth in g/cm², positive.

    Returns
    -------
    float
        Height above sea level in m; at most about `TOP_M`.
    """
    if overburden_g_cm2 > atmosphere.edges_g_cm2[1]:
        i = 0
    elif overburden_g_cm2 > atmosphere.edges_g_cm2[2]:
        i = 1
    elif overburden_g_cm2 > atmosphere.edges_g_cm2[3]:
        i = 2
    else:
        i = 3
    a, b, c = atmosphere.a_g_cm2[i], atmosphere.b_g_cm2[i], atmosphere.c_m[i]
    return -c * math.log((overburden_g_cm2 - a) / b)


@compiled
def density(atmosphere, height_m):
    """
    Density of air (compiled).

    Parameters
    ----------
    atmosphere : Atmosphere
        The air.
    height_m : float
        Height above sea level.

    Returns
    -------
    float
        Density in g/cm³.
    """
    i = _layer(atmosphere, height_m)
    b, c = atmosphere.b_g_cm2[i], atmosphere.c_m[i]
    return b / (c * 100) * math.exp(-height_m / c)


@compiled
def refractivity(atmosphere, height_m):
    """
    Refractive index minus one (compiled).

    Parameters
    ----------
    atmosphere : Atmosphere
        The air.
    height_m : float
        Height above sea level.

    Returns
    -------
    float
        n - 1.
    """
    return _REFRACTIVITY_PER_DENSITY * density(atmosphere, height_m)


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


def density_profile(site):
    """
    Describe the atmosphere of a site for ctapipe.

    ctapipe has a profile of five such layers, but cannot write it to a file.

    Parameters
    ----------
    site : str
        Name of the site, a key of `ATMOSPHERES`.

    Returns
    -------
    ctapipe.atmosphere.TableAtmosphereDensityProfile
        The profile, with units, every 250 m: interpolation is good to 0.1 %, except
        next to the edges of the layers, where the density jumps by up to 12 %.
    """
    atmosphere = ATMOSPHERES[site]
    heights_m = np.arange(0, TOP_M + 1, 250.0)
    densities = [density(atmosphere, h) for h in heights_m]
    overburdens = [overburden(atmosphere, h) for h in heights_m]
    return TableAtmosphereDensityProfile(
        QTable(
            {
                "height": heights_m / 1e3 * u.km,
                "density": densities * u.g / u.cm**3,
                "column_density": overburdens * u.g / u.cm**2,
            },
            meta={
                "TAB_TYPE": "ctapipe.atmosphere.TableAtmosphereDensityProfile",
                "TAB_VER": 1,
                "atmosphere_name": f"{site}, winter, ECMWF",
            },
        )
    )
