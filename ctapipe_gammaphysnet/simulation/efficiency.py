"""From light that hits a telescope's dish to photoelectrons: one factor after another.

All factors are those of telescope models of CTAO's sixth production (6.0.2), which are
public as test data of simtools and in the histories of simulated files. None is fitted
to simulated events.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["FACTORS", "Factors", "efficiency"]


class Factors(NamedTuple):
    """Of a telescope with a camera."""

    area_m2: float
    """Area of the mirror, seen along its axis, without gaps, and without what masts and
    camera shade."""

    degradation: float
    """Reflectivity of the mirror relative to a new one."""

    mirror_percent: float
    """Reflectivity of a new mirror at 400 nm."""

    light_guide: float
    """Share of the light on its entrance that passes, mean over the dish."""

    filled: float
    """Share of the camera that entrances of light guides fill."""

    quantum_percent: float
    """Quantum efficiency at 400 nm, including the collection of photoelectrons."""


#: By name of the camera.
FACTORS = {
    # Area: facets of 386.73 m² with masts (transmission 0.969) and a square camera of
    # 3.48 m, by ray tracing. Degradation: of LST-1, assumed for all LSTs (1.0 in the
    # fifth production). Guides of 49 mm stand at a pitch of 50 mm.
    "LSTCam": Factors(
        area_m2=364.8,
        degradation=0.80,
        mirror_percent=93.1,
        light_guide=0.828,
        filled=0.960,
        quantum_percent=41.8,
    ),
    # Area: facets of 106.24 m² with masts (transmission 0.898) and a square camera of
    # 2.92 m, in front of a missing facet of 1.24 m². No degradation is assumed.
    "NectarCam": Factors(
        area_m2=0.898 * (106.24 - (2.92**2 - 1.24)),
        degradation=1.0,
        mirror_percent=94.5,
        light_guide=0.910,
        filled=0.960,
        quantum_percent=41.0,
    ),
}

# Curves of the LST; the shapes serve other telescopes, too. Mirror of 2020
# (ref_LST_2020-04-23), photomultipliers of LST 2 to 4 (qe_lst2-4_20200318), entrance
# window of LST and NectarCam (transmission_lst_window_No7-10).
_WAVELENGTH_NM = np.array(
    [270, 280, 285, 290, 295, 300, 310, 320, 340, 360, 380]
    + [400, 420, 450, 480, 500, 520, 550, 580, 600, 650, 700.0]
)
_MIRROR_PERCENT = np.array(
    [77.4, 80.6, 82.2, 83.7, 85.1, 86.4, 88.4, 89.9, 91.8, 92.7, 92.9]
    + [93.1, 93.0, 92.7, 91.8, 91.2, 90.4, 89.0, 87.2, 85.9, 82.2, 78.1]
)
_WINDOW_PERCENT = np.array(
    [0.5, 9.7, 19.4, 41.8, 62.6, 71.4, 80.0, 83.7, 87.6, 89.7, 90.8]
    + [91.3, 91.5, 91.7, 91.8, 91.9, 91.9, 92.0, 92.0, 92.0, 92.1, 92.0]
)
_QUANTUM_PERCENT = np.array(
    [13.6, 21.6, 25.6, 29.6, 32.2, 34.8, 37.5, 39.6, 41.4, 41.3, 42.8]
    + [41.8, 39.8, 35.3, 28.4, 25.4, 18.6, 11.3, 8.0, 5.9, 1.9, 0.2]
)
_AT_400_NM = 11
_STEP_NM = 2.0


def efficiency(camera, radius_m):
    """
    Probability that a photon that hits the dish makes a photoelectron.

    Parameters
    ----------
    camera : str
        Name of the camera, a key of `FACTORS`.
    radius_m : float
        Radius of the dish, seen along its axis.

    Returns
    -------
    wavelength_nm : numpy.ndarray
        Shape (216,), from 270 to 700.
    efficiency : numpy.ndarray
        At these wavelengths, shape (216,).
    """
    factors = FACTORS[camera]
    first, last = _WAVELENGTH_NM[[0, -1]]
    wavelength_nm = np.arange(first, last + _STEP_NM, _STEP_NM)
    constant = factors.degradation * factors.light_guide * factors.filled
    product = np.full_like(
        wavelength_nm, constant * factors.area_m2 / (np.pi * radius_m**2)
    )
    for curve_percent, at_400_nm in (
        (_MIRROR_PERCENT, factors.mirror_percent),
        (_WINDOW_PERCENT, _WINDOW_PERCENT[_AT_400_NM]),
        (_QUANTUM_PERCENT, factors.quantum_percent),
    ):
        scaled = curve_percent / 100 * at_400_nm / curve_percent[_AT_400_NM]
        product *= np.interp(wavelength_nm, _WAVELENGTH_NM, scaled)
    return wavelength_nm, product
