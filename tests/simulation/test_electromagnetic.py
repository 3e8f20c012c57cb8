"""Photons, electrons and muons do in air what has been published and calculated."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from ctapipe_gammaphysnet.simulation import electromagnetic as em

ELECTRON_GEV = 0.51099895e-3
MUON_GEV = 0.1056583755
ELECTRONS_PER_G = 0.49919 * 6.02214e23
CLASSICAL_RADIUS_CM = 2.8179403e-13
X0 = 36.62  # g/cm²


def draw(function, n, *arguments, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([function(rng, *arguments) for _ in range(n)])


def cdf(density, low, high, n=20001):
    """Distribution function of a density, on a grid that is logarithmic."""
    x = np.geomspace(low, high, n)
    y = density(x)
    area = np.concatenate([[0], np.cumsum((y[1:] + y[:-1]) / 2 * np.diff(x))])
    return lambda value: np.interp(value, x, area / area[-1])


def assert_distributed(sample, distribution):
    assert stats.kstest(sample, distribution).pvalue > 0.001


def klein_nishina(cosine, energy_gev):
    """Differential cross-section in cm²/sr of an electron."""
    ratio = 1 / (1 + energy_gev / ELECTRON_GEV * (1 - cosine))
    return CLASSICAL_RADIUS_CM**2 / 2 * ratio**2 * (ratio + 1 / ratio - (1 - cosine**2))


def klein_nishina_attenuation(energy_gev):
    """In cm²/g of air, integrated over the solid angle, mostly forward."""
    integral, _ = quad(
        lambda log: np.exp(log) * klein_nishina(1 - np.exp(log), energy_gev),
        np.log(1e-9),
        np.log(2),
        limit=200,
    )
    return 2 * np.pi * integral * ELECTRONS_PER_G


def bremsstrahlung_per_x0(share):
    """Photons by their share of the electron's energy with complete screening (PDG)."""
    return (4 / 3 - 4 / 3 * share + share**2) / share


def highland(momentum_beta_gev, thickness):
    x = thickness / X0
    return 13.6e-3 / momentum_beta_gev * np.sqrt(x) * (1 + 0.038 * np.log(x))


def plane_angles(momentum_beta_gev, thickness, n_steps, n=20000, seed=0):
    """Both projections of the angle after a number of steps."""
    rng = np.random.default_rng(seed)
    angle = np.zeros((n, 2))
    for _ in range(n_steps):
        sigma, large = np.transpose(
            [
                em.scattering(rng, momentum_beta_gev, thickness / n_steps)
                for _ in range(n)
            ]
        )
        azimuth = rng.uniform(0, 2 * np.pi, n)
        angle += sigma[:, np.newaxis] * rng.standard_normal((n, 2))
        angle += np.transpose([large * np.cos(azimuth), large * np.sin(azimuth)])
    return angle.ravel()


def central_width(angle):
    return np.quantile(np.abs(angle), 0.6827)


def test_klein_nishina_is_that_of_the_published_table():
    """XCOM: incoherent scattering in dry air at 1 MeV; others are compared with it."""
    assert klein_nishina_attenuation(1e-3) == pytest.approx(0.0636, rel=2e-3)


@pytest.mark.parametrize("energy_gev", [0.021, 0.1, 1.0, 30.0])
def test_compton_scattering_is_klein_and_nishinas(energy_gev):
    _, compton = em.photon_attenuation(energy_gev)
    assert compton == pytest.approx(klein_nishina_attenuation(energy_gev), rel=0.01)


def test_attenuation_at_20_mev_is_the_published_one():
    """NIST, dry air near sea level: 0.01705 cm²/g."""
    assert sum(em.photon_attenuation(0.02)) == pytest.approx(0.01705, rel=0.03)


@pytest.mark.parametrize("energy_gev", [80.0, 1e3, 1e5])
def test_pairs_are_made_every_nine_sevenths_of_a_radiation_length(energy_gev):
    pair, compton = em.photon_attenuation(energy_gev)
    assert pair == pytest.approx(7 / 9 / X0, rel=0.005)
    assert compton < 0.001 * pair


def test_more_pairs_are_made_at_higher_energies():
    """But for half a percent, the accuracy of the parametrisation."""
    pair, compton = np.transpose(
        [em.photon_attenuation(energy) for energy in np.geomspace(0.02, 80, 200)]
    )
    assert (pair > 0.995 * np.maximum.accumulate(pair)).all()
    assert pair[0] < 0.4 * pair[-1]
    assert (np.diff(compton) < 0).all()


@pytest.mark.parametrize("energy_gev", [0.05, 10.0])
def test_screened_pairs_share_the_energy_unevenly(energy_gev):
    share = draw(em.draw_pair, 20000, energy_gev)
    assert_distributed(share, lambda x: 9 / 7 * (x - 2 / 3 * x**2 + 4 / 9 * x**3))
    assert share.var() == pytest.approx(13 / 140, rel=0.02)


def test_unscreened_pairs_share_the_energy_evenly():
    assert_distributed(draw(em.draw_pair, 20000, 0.03), "uniform")


@pytest.mark.parametrize("energy_gev", [0.5e-3, 0.025, 1.0])
def test_compton_photons_scatter_as_klein_and_nishina_say(energy_gev):
    scattered, cosine = draw(em.draw_compton, 20000, energy_gev).T
    one_minus_cosine = 1 - cosine
    assert_distributed(
        np.maximum(one_minus_cosine, 1e-9),
        cdf(lambda x: klein_nishina(1 - x, energy_gev), 1e-9, 2),
    )
    np.testing.assert_allclose(
        1 / scattered - 1 / energy_gev,
        one_minus_cosine / ELECTRON_GEV,
        rtol=1e-6,
        atol=1e-9 / ELECTRON_GEV,
    )


def test_mean_energy_transfer_of_compton_scattering_is_the_published_one():
    """At 1 MeV the electron gets 44 % on average (Evans, The Atomic Nucleus)."""
    scattered, _ = draw(em.draw_compton, 40000, 1e-3).T
    assert 1 - scattered.mean() / 1e-3 == pytest.approx(0.44, abs=0.005)


@pytest.mark.parametrize("energy_gev", [0.012, 0.1, 1e4])
def test_bremsstrahlung_is_the_integral_of_its_spectrum(energy_gev):
    lowest = em.SOFT_PHOTON_GEV / energy_gev
    photons, _ = quad(
        lambda log: np.exp(log) * bremsstrahlung_per_x0(np.exp(log)),
        np.log(lowest),
        0,
    )
    soft, _ = quad(lambda y: y * bremsstrahlung_per_x0(y), 0, lowest)
    assert em.bremsstrahlung_rate(energy_gev) == pytest.approx(photons / X0, rel=1e-8)
    assert em.radiative_loss(energy_gev) == pytest.approx(
        soft * energy_gev / X0, rel=1e-8
    )


@pytest.mark.parametrize("energy_gev", [0.02, 1.0, 1e4])
def test_bremsstrahlung_photons_follow_the_spectrum(energy_gev):
    photon = draw(em.draw_bremsstrahlung, 20000, energy_gev)
    lowest = em.SOFT_PHOTON_GEV / energy_gev
    assert_distributed(photon / energy_gev, cdf(bremsstrahlung_per_x0, lowest, 1))


@pytest.mark.parametrize("energy_gev", [0.05, 1.0, 100.0])
def test_electrons_radiate_their_energy_per_radiation_length(energy_gev):
    hard = draw(em.draw_bremsstrahlung, 20000, energy_gev).mean()
    loss = hard * em.bremsstrahlung_rate(energy_gev) + em.radiative_loss(energy_gev)
    assert loss * X0 / energy_gev == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(("kinetic_mev", "published"), [(1, 1.661), (10, 1.979)])
def test_electrons_lose_to_the_atoms_what_estar_says(kinetic_mev, published):
    """Dry air near sea level, in MeV cm²/g."""
    gamma = 1 + kinetic_mev * 1e-3 / ELECTRON_GEV
    assert em.collision_loss(True, gamma) * 1e3 == pytest.approx(published, rel=0.003)


def test_the_density_effect_replaces_the_excitation_energy_by_the_plasma_energy():
    """The limit of Berger and Seltzer's formula and of its density effect."""
    plasma_energy_ev = 28.816 * np.sqrt(1.2048e-3 * 0.49919)
    gamma = 1e6
    log = 2 * np.log(0.51099895e6 / plasma_energy_ev) + np.log(gamma / 2) + 9 / 8
    assert em.collision_loss(True, gamma) == pytest.approx(
        0.153537e-3 * 0.49919 * log, rel=0.002
    )


def test_slow_muons_lose_to_the_atoms_what_has_been_tabulated():
    """Groom, Mokhov and Striganov (2001): 10 MeV in dry air, in MeV cm²/g."""
    gamma = 1 + 0.01 / MUON_GEV
    assert em.collision_loss(False, gamma) * 1e3 == pytest.approx(7.039, rel=0.005)


def test_particles_are_minimum_ionising_at_three_and_a_half_times_their_mass():
    beta_gamma = np.linspace(2, 8, 241)
    loss = [em.collision_loss(False, np.hypot(value, 1)) for value in beta_gamma]
    assert min(loss) * 1e3 == pytest.approx(1.815, rel=0.005)
    assert beta_gamma[np.argmin(loss)] == pytest.approx(3.4, abs=0.3)


def test_the_slowest_and_the_fastest_particles_lose_energy_still():
    loss = [em.collision_loss(electron, g) for electron in (0, 1) for g in (1.0, 1e9)]
    assert (np.array(loss) > 1e-3).all()
    assert np.isfinite(loss).all()


@pytest.mark.parametrize("momentum_beta_gev", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("thickness", [0.3, 3.66, 20.0])
def test_particles_scatter_as_highland_says(momentum_beta_gev, thickness):
    width = central_width(plane_angles(momentum_beta_gev, thickness, 1))
    assert width == pytest.approx(highland(momentum_beta_gev, thickness), rel=0.05)


def test_scattering_does_not_depend_on_the_number_of_steps():
    one, ten = (central_width(plane_angles(1.0, 0.3, n)) for n in (1, 10))
    assert one == pytest.approx(ten, rel=0.025)


def test_scattering_goes_with_inverse_momentum():
    low, high = (plane_angles(p, 1.0, 1, n=1000) for p in (1e-1, 1e1))
    np.testing.assert_allclose(central_width(low) / central_width(high), 100, rtol=0.03)


def test_large_angles_are_rutherfords():
    """Single scattering in the Coulomb field of the nuclei and the electrons of air."""
    momentum_beta_gev, thickness, n = 1.0, 1.0, 100_000
    charges, share, mass = np.transpose(
        [(7, 78.48, 14.007), (8, 21.05, 15.999), (18, 0.47, 39.948)]
    )
    atoms_per_g = 6.02214e23 * share / np.sum(share * mass)
    hbar_c_gev_cm = 1.973270e-14
    unit = np.sqrt(
        4
        * np.pi
        * np.sum(atoms_per_g * charges * (charges + 1))
        * thickness
        * (hbar_c_gev_cm / 137.036 / momentum_beta_gev) ** 2
    )
    angle = draw(em.scattering, n, momentum_beta_gev, thickness)[:, 1]
    for times in (2.5, 5.0):
        expected = n * (1 - np.exp(-1 / times**2))
        assert np.sum(angle > times * unit) == pytest.approx(
            expected, abs=0.03 * expected + 3 * np.sqrt(expected)
        )


def test_nuclei_are_not_points():
    """No momentum transfer above ħc over the radius of a nitrogen nucleus."""
    angle = draw(em.scattering, 20_000, 10.0, 20.0)[:, 1]
    assert 0.003 < angle.max() < 0.1973 / 2.5 / 10.0
