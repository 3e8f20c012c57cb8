"""The atmosphere is the U.S. standard one, and of one piece."""

import astropy.units as u
import numpy as np
import pytest

from ctapipe_gammaphysnet.simulation import atmosphere

HEIGHTS_M = np.array([0.0, 150.0, 2158.0, 3700.0, 7e3, 11e3, 25e3, 39e3, 60e3, 99e3])
LAYER_EDGES_M = [4e3, 10e3, 40e3]

# U.S. standard atmosphere 1976: height in m, pressure in Pa, density in kg/m³
STANDARD = [
    (0, 101325.0, 1.2250),
    (2158, 77994.0, 0.9911),
    (5000, 54048.0, 0.7364),
    (11000, 22700.0, 0.3648),
    (20000, 5529.0, 0.0889),
    (30000, 1197.0, 0.01841),
]


def each(function, values):
    return np.array([function(value) for value in values])


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


def depths(height_m, observation_height_m, wavelength_nm):
    """Vertical optical depth."""
    return -np.log(
        atmosphere.transmission(height_m, observation_height_m, wavelength_nm, 1.0)
    )


@pytest.mark.parametrize(("height_m", "pressure_pa", "density"), STANDARD)
def test_it_is_the_standard_atmosphere(height_m, pressure_pa, density):
    """Overburden is pressure over gravity, which is weaker higher up, by 0.3 %."""
    overburden = pressure_pa / 9.80665 / 10
    assert atmosphere.overburden(float(height_m)) == pytest.approx(overburden, rel=0.02)
    assert atmosphere.density(float(height_m)) * 1000 == pytest.approx(
        density, rel=0.03
    )


def test_the_overburden_is_linsleys():
    assert atmosphere.overburden(0.0) == pytest.approx(1036.1, abs=0.05)
    assert atmosphere.overburden(2158.0) == pytest.approx(797.5, abs=0.5)


def test_height_and_overburden_are_inverse():
    overburden = each(atmosphere.overburden, HEIGHTS_M)
    np.testing.assert_allclose(
        each(atmosphere.height, overburden), HEIGHTS_M, rtol=1e-10, atol=1e-7
    )


@pytest.mark.parametrize("edge_m", LAYER_EDGES_M)
def test_layers_join(edge_m):
    below, above = np.nextafter(edge_m, 0), edge_m
    assert atmosphere.overburden(below) == pytest.approx(
        atmosphere.overburden(above), rel=1e-4
    )
    assert atmosphere.density(below) == pytest.approx(
        atmosphere.density(above), rel=0.035
    )
    # also where the inverse changes layers
    overburden = atmosphere.overburden(edge_m) * np.array([1 - 1e-9, 1, 1 + 1e-9])
    np.testing.assert_allclose(each(atmosphere.height, overburden), edge_m, atol=0.5)


def test_density_is_the_derivative_of_the_overburden():
    step_m = 1.0
    heights_m = HEIGHTS_M + 2 * step_m
    difference = each(atmosphere.overburden, heights_m - step_m) - each(
        atmosphere.overburden, heights_m + step_m
    )
    np.testing.assert_allclose(
        each(atmosphere.density, heights_m), difference / (200 * step_m), rtol=1e-6
    )


def test_ctapipe_has_the_same_atmosphere():
    profile = atmosphere.density_profile()
    np.testing.assert_allclose(
        profile(HEIGHTS_M * u.m).to_value("g cm-3"),
        each(atmosphere.density, HEIGHTS_M),
        rtol=1e-3,
    )
    np.testing.assert_allclose(
        profile.integral(HEIGHTS_M * u.m).to_value("g cm-2"),
        each(atmosphere.overburden, HEIGHTS_M),
        rtol=1e-3,
    )


def test_mean_mass_number_is_that_of_dry_air():
    share, atoms, mass = np.transpose(
        [(78.084, 2, 14.007), (20.946, 2, 15.999), (0.934, 1, 39.948)]
    )
    mean = np.sum(share * atoms * mass) / np.sum(share * atoms)
    assert mean == pytest.approx(atmosphere.MEAN_MASS_NUMBER, abs=0.005)


def test_refractivity_is_that_of_air():
    """Of blue light, 15 °C (Edlén), with density."""
    assert atmosphere.refractivity(0.0) == pytest.approx(2.82e-4, rel=0.01)
    ratio = atmosphere.refractivity(8e3) / atmosphere.refractivity(0.0)
    assert ratio == pytest.approx(0.5258 / 1.2250, rel=0.02)


@pytest.mark.parametrize("bottom_m", [0.0, 2158.0, 9e3])
def test_the_excess_of_the_optical_path_is_the_integral_of_the_refractivity(bottom_m):
    heights_m = np.linspace(bottom_m, 30e3, 20001)
    expected = np.trapezoid(each(atmosphere.refractivity, heights_m), heights_m)
    difference = atmosphere.overburden(bottom_m) - atmosphere.overburden(30e3)
    assert atmosphere.optical_path_excess(difference) == pytest.approx(
        expected, rel=2e-3
    )


@pytest.mark.parametrize(
    ("wavelength_nm", "tolerance"), [(300.0, 0.12), (400.0, 0.05), (500.0, 0.02)]
)
def test_light_is_scattered_by_the_molecules_on_its_way(wavelength_nm, tolerance):
    """So high up that there are no aerosols."""
    heights_m = np.linspace(9e3, 30e3, 5001)
    molecules_per_cm3 = each(atmosphere.density, heights_m) / 28.964 * 6.02214e23
    column = np.trapezoid(molecules_per_cm3, heights_m) * 100
    depth = depths(30e3, 9e3, np.array([wavelength_nm]))
    assert depth == pytest.approx(
        column * rayleigh_cross_section_cm2(wavelength_nm), rel=tolerance
    )


def test_light_is_scattered_by_molecules_and_by_aerosols():
    """What two wavelengths tell holds for others."""
    wavelength_nm = np.array([300.0, 600.0, 350.0, 400.0, 500.0])
    powers = (400 / wavelength_nm[:, np.newaxis]) ** [4, 1]
    depth = depths(50e3, 0.0, wavelength_nm)
    molecules, aerosols = np.linalg.solve(powers[:2], depth[:2])
    np.testing.assert_allclose(powers @ [molecules, aerosols], depth, rtol=1e-6)
    assert molecules == pytest.approx(0.36, rel=0.05)
    assert aerosols == pytest.approx(0.086, rel=1e-3)
    # half of the aerosols are below 830 m
    low = np.linalg.solve(powers[:2], depths(1200 * np.log(2), 0.0, wavelength_nm[:2]))
    assert low[1] == pytest.approx(aerosols / 2, rel=1e-3)


def test_what_is_scattered_on_two_ways_is_scattered_on_both():
    wavelength_nm = np.array([300.0, 450.0])
    np.testing.assert_allclose(
        depths(12e3, 3e3, wavelength_nm) + depths(3e3, 1e3, wavelength_nm),
        depths(12e3, 1e3, wavelength_nm),
        rtol=1e-9,
    )


def test_less_light_comes_from_farther_away_and_of_bluer_colour():
    heights_m = np.linspace(2500, 90e3, 50)[:, np.newaxis]
    wavelength_nm = np.linspace(280, 700, 9)
    share = atmosphere.transmission(heights_m, 2158.0, wavelength_nm, 1.0)
    assert share.shape == (50, 9)
    assert ((share > 0) & (share < 1)).all()
    assert (np.diff(share, axis=0) < 0).all()
    assert (np.diff(share, axis=1) > 0).all()


@pytest.mark.parametrize("cos_zenith", [0.9, 0.5])
def test_inclined_light_goes_through_more_air(cos_zenith):
    wavelength_nm = np.array([300.0, 400.0, 600.0])
    vertical, inclined = (
        atmosphere.transmission(8e3, 2158.0, wavelength_nm, cosine)
        for cosine in (1.0, cos_zenith)
    )
    np.testing.assert_allclose(inclined**cos_zenith, vertical, rtol=1e-12)


def test_nothing_is_lost_from_below_the_telescope():
    share = atmosphere.transmission(
        np.array([[0.0], [1000.0], [2158.0]]), 2158.0, np.array([300.0, 500.0]), 0.8
    )
    np.testing.assert_array_equal(share, np.ones((3, 2)))
