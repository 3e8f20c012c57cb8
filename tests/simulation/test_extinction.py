"""Air takes as much light away as in the tables of CTAO's sixth production."""

import numpy as np
import pytest

from ctapipe_gammaphysnet.simulation import extinction
from ctapipe_gammaphysnet.simulation.atmosphere import ATMOSPHERES, overburden
from ctapipe_gammaphysnet.simulation.extinction import transmission
from ctapipe_gammaphysnet.simulation.instruments import SITES

each_site = pytest.mark.parametrize("site", ATMOSPHERES)

# Vertical optical depth from the telescopes to 10 km at 300, 320, 400 and 500 nm, of
# the tables that the files' telescopes have (MODTRAN).
OFFICIAL_DEPTH = {
    "la_palma": [0.80, 0.51, 0.216, 0.101],
    "paranal": [0.86, 0.56, 0.261, 0.137],
}


def rayleigh_cross_section_cm2(wavelength_nm):
    """Of a molecule of air, from its refractivity at 15 °C and 1013.25 hPa (Peck and
    Reeder) and King's factor (Bodhaine et al. 1999)."""
    inverse2 = (1e3 / wavelength_nm) ** 2  # 1/µm²
    n = 1 + 1e-8 * (
        8060.51 + 2480990 / (132.274 - inverse2) + 17455.7 / (39.32957 - inverse2)
    )
    nitrogen = 1.034 + 3.17e-4 * inverse2
    oxygen = 1.096 + 1.385e-3 * inverse2 + 1.448e-4 * inverse2**2
    king = (78.084 * nitrogen + 20.946 * oxygen + 0.934) / 99.964
    ratio = (n**2 - 1) / (n**2 + 2)
    return (
        24 * np.pi**3 * king / (wavelength_nm * 1e-7) ** 4 * (ratio / 2.54743e19) ** 2
    )


def depths(site, height_m, observation_height_m, wavelength_nm):
    """Vertical optical depth."""
    share = transmission(site, height_m, observation_height_m, wavelength_nm, 1.0)
    return -np.log(share)


def test_every_site_has_its_haze():
    assert list(extinction._HAZE) == list(SITES)
    for site, haze in extinction._HAZE.items():
        height_m = SITES[site].location.height.to_value("m")
        assert haze.ground_m == pytest.approx(height_m, abs=3)


@each_site
def test_light_from_10_km_is_as_dim_as_in_the_official_tables(site):
    """1 % and the rounding of the depths; 2 % at 320 nm, where few photons are."""
    height_m = SITES[site].location.height.to_value("m")
    depth = depths(site, 10e3, height_m, np.array([300.0, 320.0, 400.0, 500.0]))
    error = abs(depth - OFFICIAL_DEPTH[site])
    assert (error < [0.01, 0.02, 0.01, 0.01]).all()


@each_site
@pytest.mark.parametrize("wavelength_nm", [350.0, 400.0, 500.0])
def test_high_up_molecules_alone_scatter(site, wavelength_nm):
    """There is little haze, and no ozone at these wavelengths."""
    air = ATMOSPHERES[site]
    grams = overburden(air, 20e3) - overburden(air, 30e3)
    expected = grams / 28.964 * 6.02214e23 * rayleigh_cross_section_cm2(wavelength_nm)
    depth = depths(site, 30e3, 20e3, np.array([wavelength_nm]))
    assert depth == pytest.approx(expected, rel=0.06)


def test_blue_light_meets_more_haze():
    """What is left without molecules is haze, thicker and lower in the south."""
    wavelength_nm = np.array([400.0, 600.0])
    for site, height_m, at_400, ratio in (
        ("la_palma", 2156.0, 0.038, 1.5**0.6),
        ("paranal", 2147.0, 0.084, 1.5**0.95),
    ):
        air = ATMOSPHERES[site]
        grams = overburden(air, height_m) - overburden(air, 90e3)
        molecules = grams / 28.964 * 6.02214e23
        molecules *= rayleigh_cross_section_cm2(wavelength_nm)
        haze = depths(site, 90e3, height_m, wavelength_nm) - molecules
        assert haze[0] == pytest.approx(at_400, abs=0.003)
        assert haze[0] / haze[1] == pytest.approx(ratio, rel=0.1)


@each_site
def test_ozone_takes_ultraviolet_light(site):
    """0.14 of the optical depth to 10 km at 300 nm, and nothing at 340 nm."""
    wavelength_nm = np.array([300.0, 340.0])
    ozone = extinction._ozone_depth(2156.0, 10e3, wavelength_nm)
    np.testing.assert_allclose(ozone, [0.14, 0], atol=0.005)
    above = depths(site, 60e3, 25e3, wavelength_nm)
    assert above[0] / above[1] == pytest.approx((340 / 300) ** 4.2, rel=0.02)


@each_site
def test_what_is_lost_on_two_ways_is_lost_on_both(site):
    wavelength_nm = np.array([280.0, 300.0, 450.0])
    np.testing.assert_allclose(
        depths(site, 12e3, 3e3, wavelength_nm) + depths(site, 3e3, 1e3, wavelength_nm),
        depths(site, 12e3, 1e3, wavelength_nm),
        rtol=1e-9,
    )


@each_site
def test_less_light_comes_from_farther_away_and_of_bluer_colour(site):
    heights_m = np.linspace(2500, 90e3, 50)[:, np.newaxis]
    wavelength_nm = np.linspace(270, 700, 9)
    share = transmission(site, heights_m, 2158.0, wavelength_nm, 1.0)
    assert share.shape == (50, 9)
    assert ((share > 0) & (share < 1)).all()
    assert (np.diff(share, axis=0) < 0).all()
    assert (np.diff(share, axis=1) > 0).all()


@each_site
@pytest.mark.parametrize("cos_zenith", [0.9, 0.5])
def test_inclined_light_goes_through_more_air(site, cos_zenith):
    wavelength_nm = np.array([300.0, 400.0, 600.0])
    vertical, inclined = (
        transmission(site, 8e3, 2158.0, wavelength_nm, cosine)
        for cosine in (1.0, cos_zenith)
    )
    np.testing.assert_allclose(inclined**cos_zenith, vertical, rtol=1e-12)


@each_site
def test_nothing_is_lost_from_below_the_telescope(site):
    share = transmission(
        site, np.array([[0.0], [1000.0], [2158.0]]), 2158.0, np.array([300.0, 500]), 0.8
    )
    np.testing.assert_array_equal(share, np.ones((3, 2)))
