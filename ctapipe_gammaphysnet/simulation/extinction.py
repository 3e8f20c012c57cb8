"""Light that air takes away: scattered by molecules and haze, absorbed by ozone.

The formulas follow tables of CTAO's sixth production, which were made with MODTRAN:
light from 6 to 14 km makes as many photoelectrons in an LST as with them, within 0.2 %
(La Palma) and 0.9 % (Paranal).
"""

from typing import NamedTuple

import numpy as np

from .atmosphere import ATMOSPHERES, overburden

__all__ = ["transmission"]


class _Haze(NamedTuple):
    """Aerosols above a site."""

    depth: float
    """Optical depth at 400 nm, from the ground up."""

    scale_m: float
    """Height in which their density falls to 1 / e."""

    exponent: float
    """Of the wavelength: small particles prefer blue light."""

    ground_m: float
    """Height of the site above sea level."""


# Fits to the tables of the sites; heights are those of the tables.
_HAZE = {
    "la_palma": _Haze(0.038, 4000.0, 0.6, 2156.0),
    "paranal": _Haze(0.084, 1800.0, 0.95, 2147.0),
}
_HAZE_WAVELENGTH_NM = 400.0

_MOLAR_MASS_G, _AVOGADRO = 28.96, 6.02214e23  # of air; per mol

# Ozone: optical depth per km at 300 nm, up to the height of its layer, and relative to
# it at other wavelengths. Fits to the same tables.
_OZONE_PER_M, _OZONE_TOP_M = 0.018e-3, 25e3
_OZONE_NM = [270, 280, 285, 290, 295, 300, 305, 310, 315, 320, 330, 340]
_OZONE = [20, 10.2, 6.4, 3.6, 1.95, 1, 0.51, 0.26, 0.13, 0.07, 0.02, 0.0]


def _rayleigh_cm2_g(wavelength_nm):
    """Cross section per mass of air: B. A. Bodhaine et al., J. Atmos. Oceanic Technol.
    16 (1999) 1854, equation 29."""
    squared = (wavelength_nm / 1e3) ** 2  # µm²
    cross_section_cm2 = (
        1e-28
        * (1.0455996 - 341.29061 / squared - 0.90230850 * squared)
        / (1 + 0.0027059889 / squared - 85.968563 * squared)
    )
    return cross_section_cm2 * _AVOGADRO / _MOLAR_MASS_G


def _haze_depth(haze, bottom_m, top_m, wavelength_nm):
    column = np.exp((haze.ground_m - bottom_m) / haze.scale_m) - np.exp(
        (haze.ground_m - top_m) / haze.scale_m
    )
    return haze.depth * column * (_HAZE_WAVELENGTH_NM / wavelength_nm) ** haze.exponent


def _ozone_depth(bottom_m, top_m, wavelength_nm):
    length_m = np.minimum(top_m, _OZONE_TOP_M) - np.minimum(bottom_m, _OZONE_TOP_M)
    return _OZONE_PER_M * length_m * np.interp(wavelength_nm, _OZONE_NM, _OZONE)


def transmission(site, height_m, observation_height_m, wavelength_nm, cos_zenith):
    """
    Share of the light from a height that reaches the telescopes.

    Parameters
    ----------
    site : str
        Name of the site, a key of `ATMOSPHERES`.
    height_m : numpy.ndarray
        Heights of emission above sea level, broadcast against the wavelengths.
    observation_height_m : float
        Height of the telescopes; no light from below is lost.
    wavelength_nm : numpy.ndarray
        Wavelengths, from 270 nm.
    cos_zenith : float
        Cosine of the zenith angle of the ray.

    Returns
    -------
    numpy.ndarray
        Between 0 and 1, of the broadcast shape.
    """
    air = ATMOSPHERES[site]
    height_m = np.maximum(height_m, observation_height_m)
    mass = overburden(air, observation_height_m) - np.vectorize(
        lambda h: overburden(air, h)
    )(height_m)
    depth = (
        mass * _rayleigh_cm2_g(wavelength_nm)
        + _haze_depth(_HAZE[site], observation_height_m, height_m, wavelength_nm)
        + _ozone_depth(observation_height_m, height_m, wavelength_nm)
    )
    return np.exp(-depth / cos_zenith)
