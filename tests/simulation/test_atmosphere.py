"""The atmospheres are those of CTAO's sites, and of one piece."""

import astropy.units as u
import numpy as np
import pytest

from ctapipe_gammaphysnet.simulation import atmosphere
from ctapipe_gammaphysnet.simulation.atmosphere import ATMOSPHERES
from ctapipe_gammaphysnet.simulation.instruments import SITES

HEIGHTS_M = np.array([0.0, 150.0, 2158.0, 3700.0, 7e3, 11e3, 23e3, 39e3, 60e3, 99e3])

# From the tables, without layers, in public files of CTAO's sixth production
# (atmprof_ecmwf_north_winter_fixed, atmprof_ecmwf_south_winter_fixed): height in m,
# density in g/cm³, overburden in g/cm², n - 1.
TABLES = {
    "la_palma": [
        (0, 1.21171e-3, 1044.73, 2.80503e-4),
        (2000, 9.94136e-4, 823.744, 2.29611e-4),
        (4000, 8.08841e-4, 644.231, 1.86701e-4),
        (7000, 5.93128e-4, 435.418, 1.3687e-4),
        (12000, 3.28019e-4, 208.398, 7.5686e-5),
        (20000, 9.2947e-5, 57.0017, 2.14511e-5),
        (30000, 1.79246e-5, 11.9382, 4.13716e-6),
    ],
    "paranal": [
        (0, 1.18699e-3, 1037.54, 2.74714e-4),
        (2000, 9.70186e-4, 822.018, 2.24083e-4),
        (4000, 7.93791e-4, 646.292, 1.83215e-4),
        (7000, 5.85278e-4, 440.799, 1.35062e-4),
        (12000, 3.31981e-4, 215.425, 7.6602e-5),
        (20000, 9.47734e-5, 57.9008, 2.18726e-5),
        (30000, 1.82914e-5, 12.1653, 4.22183e-6),
    ],
}

each_site = pytest.mark.parametrize("site", ATMOSPHERES)


def each(function, site, values):
    return np.array([function(ATMOSPHERES[site], value) for value in values])


def test_every_site_has_an_atmosphere():
    assert list(ATMOSPHERES) == list(SITES)


@each_site
def test_it_is_that_of_the_official_table(site):
    """As well as layers fit it; most light comes from 4 to 12 km."""
    heights_m, densities, overburdens, refractivities = np.transpose(TABLES[site])
    for function, expected in (
        (atmosphere.density, densities),
        (atmosphere.overburden, overburdens),
        (atmosphere.refractivity, refractivities),
    ):
        found = each(function, site, heights_m)
        np.testing.assert_allclose(found, expected, rtol=0.04)
        np.testing.assert_allclose(found[2:5], expected[2:5], rtol=0.012)


@each_site
def test_height_and_overburden_are_inverse(site):
    overburden = each(atmosphere.overburden, site, HEIGHTS_M)
    np.testing.assert_allclose(
        each(atmosphere.height, site, overburden), HEIGHTS_M, rtol=1e-9, atol=1e-5
    )


@each_site
def test_layers_join(site):
    for edge_m in ATMOSPHERES[site].edges_m[1:]:
        sides_m = np.nextafter(edge_m, 0), edge_m
        below, above = each(atmosphere.overburden, site, sides_m)
        assert below == pytest.approx(above, rel=1e-7)
        below, above = each(atmosphere.density, site, sides_m)
        assert below == pytest.approx(above, rel=0.15)
        # also where the inverse changes layers
        overburden = above_and_below(atmosphere.overburden(ATMOSPHERES[site], edge_m))
        np.testing.assert_allclose(
            each(atmosphere.height, site, overburden), edge_m, atol=0.5
        )


def above_and_below(value):
    return value * np.array([1 - 1e-9, 1, 1 + 1e-9])


@each_site
def test_density_is_the_derivative_of_the_overburden(site):
    step_m = 1.0
    heights_m = HEIGHTS_M + 2 * step_m
    difference = each(atmosphere.overburden, site, heights_m - step_m) - each(
        atmosphere.overburden, site, heights_m + step_m
    )
    np.testing.assert_allclose(
        each(atmosphere.density, site, heights_m),
        difference / (200 * step_m),
        rtol=1e-6,
    )


@each_site
def test_ctapipe_has_the_same_atmosphere(site):
    profile = atmosphere.density_profile(site)
    np.testing.assert_allclose(
        profile(HEIGHTS_M * u.m).to_value("g cm-3"),
        each(atmosphere.density, site, HEIGHTS_M),
        rtol=1e-3,
    )
    np.testing.assert_allclose(
        profile.integral(HEIGHTS_M * u.m).to_value("g cm-2"),
        each(atmosphere.overburden, site, HEIGHTS_M),
        rtol=1e-3,
    )


def test_mean_mass_number_is_that_of_dry_air():
    share, atoms, mass = np.transpose(
        [(78.084, 2, 14.007), (20.946, 2, 15.999), (0.934, 1, 39.948)]
    )
    mean = np.sum(share * atoms * mass) / np.sum(share * atoms)
    assert mean == pytest.approx(atmosphere.MEAN_MASS_NUMBER, abs=0.005)


@each_site
@pytest.mark.parametrize("bottom_m", [0.0, 2158.0, 9e3])
def test_the_excess_of_the_optical_path_is_the_integral_of_the_refractivity(
    site, bottom_m
):
    heights_m = np.linspace(bottom_m, 30e3, 20001)
    expected = np.trapezoid(each(atmosphere.refractivity, site, heights_m), heights_m)
    bottom, top = each(atmosphere.overburden, site, (bottom_m, 30e3))
    assert atmosphere.optical_path_excess(bottom - top) == pytest.approx(
        expected, rel=2e-3
    )
