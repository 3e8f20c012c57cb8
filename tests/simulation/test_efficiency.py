"""Telescopes make as many photoelectrons of light as those of CTAO's models."""

import math

import numpy as np
import pytest

from ctapipe_gammaphysnet.simulation.cherenkov import YIELD_STEP_M, photoelectron_yield
from ctapipe_gammaphysnet.simulation.efficiency import FACTORS, efficiency
from ctapipe_gammaphysnet.simulation.instruments import ARRAYS

each_camera = pytest.mark.parametrize("camera", FACTORS)


def photoelectrons_per_photon(camera, sphere_m, height_m, cos_zenith, site="la_palma"):
    """Of Cherenkov photons of 240 to 900 nm that hit the sphere of a telescope."""
    ground_m = 2156.0
    area_m2 = math.pi * sphere_m**2
    wavelength_nm, per_photon = efficiency(camera, math.sqrt(area_m2 / math.pi))
    made = photoelectron_yield(ground_m, cos_zenith, wavelength_nm, per_photon, site)
    band_nm = np.linspace(240, 900, 661)
    emitted = photoelectron_yield(ground_m, cos_zenith, band_nm, np.ones(661))
    i = int(height_m / YIELD_STEP_M)
    return made[i] / emitted[i]


def test_every_camera_has_its_factors():
    cameras = {camera for array in ARRAYS.values() for camera, _ in array.values()}
    assert cameras <= set(FACTORS)


def test_an_lst_makes_what_official_models_make():
    """At 20 deg from the zenith: fifth production, with new mirrors, from 10 km; and
    sixth production, whose mirrors of LST-2 reflect 1 % less, from 12 km."""
    cosine = math.cos(math.radians(20))
    found = photoelectrons_per_photon("LSTCam", 12.5, 10e3, cosine)
    assert found / FACTORS["LSTCam"].degradation == pytest.approx(0.0672, rel=0.01)
    found = photoelectrons_per_photon("LSTCam", 12.5, 12e3, cosine)
    assert found == pytest.approx(0.0510 / 0.99, rel=0.01)


def test_a_nectarcam_makes_what_it_makes_in_official_files():
    """Relative to LSTs with new mirrors in the same event (fifth production), within
    200 m of the core: 6800 of 182612 photons, and 35608 of 533916."""
    cosine = math.cos(math.radians(20))
    mst, lst = (
        photoelectrons_per_photon(camera, sphere_m, 10e3, cosine)
        / FACTORS[camera].degradation
        for camera, sphere_m in (("NectarCam", 8.6), ("LSTCam", 12.5))
    )
    official = (6800 / 182612) / (35608 / 533916)
    assert mst / lst == pytest.approx(official, rel=0.05)


@each_camera
def test_efficiency_is_a_probability(camera):
    """Less than the quantum efficiency of the best photomultipliers, 0.45."""
    wavelength_nm, share = efficiency(camera, 11.5)
    assert wavelength_nm[[0, -1]].tolist() == [270, 700]
    assert (np.diff(wavelength_nm) > 0).all()
    assert ((share > 0) & (share < 0.45)).all()
    assert 340 <= wavelength_nm[share.argmax()] <= 420
    # ultraviolet is absorbed by the window, red not seen by the cathode
    assert share[[0, -1]].max() < 0.01 * share.max()


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ("LSTCam", 0.931 * 0.913 * 0.418 * 0.828 * 0.960 * 0.80 * 364.8),
        ("NectarCam", 0.945 * 0.913 * 0.410 * 0.910 * 0.960 * 1.00 * 88.9),
    ],
)
def test_efficiency_is_the_product_of_its_factors(camera, expected):
    """Effective area for light of 400 nm."""
    wavelength_nm, share = efficiency(camera, 10.0)
    area_m2 = share[wavelength_nm == 400] * math.pi * 10.0**2
    assert area_m2 == pytest.approx(expected, rel=1e-3)


@each_camera
def test_the_same_mirror_in_a_larger_disc_catches_a_smaller_share(camera):
    (_, small), (_, large) = efficiency(camera, 6.0), efficiency(camera, 12.0)
    np.testing.assert_allclose(small, 4 * large, rtol=1e-12)
