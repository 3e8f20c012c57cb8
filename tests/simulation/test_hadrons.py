"""Collisions of hadrons with air are as measured, and as the table was made."""

from functools import cache

import numpy as np
import pytest

from ctapipe_gammaphysnet.simulation import hadrons
from ctapipe_gammaphysnet.simulation.hadrons import (
    PROJECTILES,
    cross_section_mb,
    draw_interaction,
    load_hadron_table,
    mean_free_path,
    read_provenance,
    secondary,
)
from ctapipe_gammaphysnet.simulation.particles import CHARGE, MASS_GEV, Particle

PROTON, PION, KAON = PROJECTILES
PROJECTILE_NAMES = {PROTON: "proton", PION: "pi+", KAON: "K+"}
NUCLEON_GEV = 0.939
LIGHT = [Particle.GAMMA, Particle.ELECTRON, Particle.POSITRON, Particle.PION_ZERO]
BARYONS = [Particle.PROTON, Particle.NEUTRON, Particle.LAMBDA]


@cache
def collisions(particle, energy_gev, n=400, seed=0):
    """Secondaries of collisions: code, energy, px, py, pz in rows."""
    table = load_hadron_table()
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n):
        first, last, scale, conjugate = draw_interaction(
            rng, table, particle, energy_gev
        )
        rows = [secondary(table, i, scale, conjugate) for i in range(first, last)]
        drawn.append(np.array(rows).reshape(-1, 5))
    return drawn


def codes(collision):
    return collision[:, 0].astype(int)


def energy_sums(particle, energy_gev, **options):
    return np.array(
        [c[:, 1].sum() for c in collisions(particle, energy_gev, **options)]
    )


def multiplicities(particle, energy_gev, **options):
    return np.array([len(c) for c in collisions(particle, energy_gev, **options)])


def net_charges(particle, energy_gev):
    return np.array([CHARGE[codes(c)].sum() for c in collisions(particle, energy_gev)])


def kept_share(projectile, energy_gev):
    """From the provenance, linear in log E between the energies of the table."""
    kept = read_provenance()["kept_energy"][PROJECTILE_NAMES[projectile]]
    nodes = np.log([float(node) for node in kept])
    return np.interp(np.log(energy_gev), nodes, list(kept.values()))


def sections(particle, energies_gev):
    table = load_hadron_table()
    return np.array([cross_section_mb(table, particle, e) for e in energies_gev])


def stored_energies():
    table = load_hadron_table()
    mass = MASS_GEV[table.particle]
    return np.sqrt((table.momentum_gev**2).sum(axis=1) + mass**2)


def test_the_table_is_complete_and_small():
    table = load_hadron_table()
    assert hadrons.TABLE.stat().st_size < 7e6
    assert table.energy_gev[0] <= 4
    assert table.energy_gev[-1] > 30e3
    np.testing.assert_allclose(np.diff(np.log(table.energy_gev), n=2), 0, atol=1e-9)
    assert table.first[0, 0, 0] == 0
    assert table.first[-1, -1, -1] == len(table.particle) == len(table.momentum_gev)
    flat = table.first.reshape(-1, table.first.shape[2])
    assert (flat[1:, 0] == flat[:-1, -1]).all()
    assert (np.diff(flat, axis=1) >= 0).all()
    assert np.isfinite(table.momentum_gev).all()


def test_only_particles_that_the_cascade_follows_are_in_the_table():
    """No neutrinos, which a collision does not make."""
    followed = set(Particle) - {Particle.NEUTRINO}
    assert set(load_hadron_table().particle) <= followed


def test_the_provenance_tells_how_the_table_was_made():
    provenance = read_provenance()
    table = load_hadron_table()
    models = " ".join(provenance["models"])
    assert "SIBYLL 2.3d" in models
    assert "PYTHIA 8." in models
    assert provenance["chromo"]
    n_collisions = table.first.shape[2] - 1
    assert provenance["collisions_per_projectile_and_energy"] == n_collisions
    assert sum(provenance["air"].values()) == pytest.approx(1)
    for kept in provenance["kept_energy"].values():
        assert [float(energy) for energy in kept] == table.energy_gev.tolist()
    citations = " ".join(provenance["citations"])
    for author in ("Riehn", "Bierlich", "Sjöstrand", "Fedynitch"):
        assert author in citations


def test_secondaries_are_above_the_cuts_that_the_provenance_names():
    cuts = read_provenance()["kinetic_energy_cuts_gev"]
    table = load_hadron_table()
    light = np.isin(table.particle, LIGHT)
    cut = np.where(
        light,
        cuts["photons, electrons, neutral pions"],
        cuts["hadrons and muons"],
    )
    kinetic = stored_energies() - MASS_GEV[table.particle]
    assert (kinetic > 0.998 * cut).all()  # half precision
    assert kinetic[light].min() < 0.03
    assert kinetic[~light].min() < 1.05


@pytest.mark.parametrize("row", range(3))
def test_stored_energies_match_the_share_that_was_kept(row):
    table = load_hadron_table()
    n_collisions = table.first.shape[2] - 1
    energies = np.concatenate([[0], np.cumsum(stored_energies())])
    edges = table.first[row][:, [0, -1]]
    mean = (energies[edges[:, 1]] - energies[edges[:, 0]]) / n_collisions
    expected = kept_share(PROJECTILES[row], table.energy_gev)
    np.testing.assert_allclose(mean / table.energy_gev, expected, rtol=0.02)
    assert expected[-1] > 0.99
    assert expected[0] < 0.8


def test_a_table_of_another_format_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "other.npz"
    np.savez(path, format=np.int64(99))
    monkeypatch.setattr(hadrons, "TABLE", path)
    with pytest.raises(ValueError, match=r"other\.npz: format 99 .* is not known"):
        load_hadron_table.__wrapped__()


@pytest.mark.parametrize(
    ("particle", "low", "high"), [(PROTON, 255, 290), (PION, 190, 225)]
)
def test_production_cross_sections_are_as_measured(particle, low, high):
    section = sections(particle, np.geomspace(32, 1000, 20))
    assert (section > low).all()
    assert (section < high).all()


def test_kaons_collide_less_often_than_pions_and_pions_than_protons():
    energies = np.geomspace(4, 1000, 30)
    proton, pion, kaon = (sections(particle, energies) for particle in PROJECTILES)
    assert (kaon < pion).all()
    assert (pion < proton).all()


@pytest.mark.parametrize("particle", PROJECTILES)
def test_cross_sections_grow_and_are_constant_beyond_the_table(particle):
    section = sections(particle, np.geomspace(33, 32000, 40))
    assert (np.diff(section) > 0).all()
    lowest, below, highest, above = sections(particle, [4.0, 0.5, 32768.0, 1e5])
    assert below == lowest
    assert above == pytest.approx(highest)


@pytest.mark.parametrize("particle", PROJECTILES)
def test_cross_sections_are_linear_in_the_logarithm_of_the_energy(particle):
    table = load_hadron_table()
    row = table.cross_section_mb[PROJECTILES.index(particle)]
    np.testing.assert_allclose(sections(particle, table.energy_gev), row)
    energies = np.geomspace(4, 32768, 100)
    expected = np.interp(np.log(energies), np.log(table.energy_gev), row)
    np.testing.assert_allclose(sections(particle, energies), expected)


@pytest.mark.parametrize(
    ("particle", "like"),
    [
        (Particle.NEUTRON, PROTON),
        (Particle.ANTIPROTON, PROTON),
        (Particle.ANTINEUTRON, PROTON),
        (Particle.LAMBDA, PROTON),
        (Particle.PION_MINUS, PION),
        (Particle.KAON_MINUS, KAON),
        (Particle.KAON_LONG, KAON),
        (Particle.KAON_SHORT, KAON),
    ],
)
def test_other_hadrons_collide_like_the_one_they_resemble(particle, like):
    assert sections(particle, [100.0]) == sections(like, [100.0])
    own, other = (multiplicities(code, 100.0) for code in (particle, like))
    np.testing.assert_array_equal(own, other)


def test_the_mean_free_path_of_protons_is_about_90_g_cm2():
    table = load_hadron_table()
    assert 85 < mean_free_path(table, PROTON, 100.0) < 93
    # 14.55 g of air are a mole; a mb is 1e-27 cm²
    for particle in PROJECTILES:
        nuclei_per_cm2 = mean_free_path(table, particle, 500.0) * 6.02214076e23 / 14.547
        section = cross_section_mb(table, particle, 500.0)
        assert nuclei_per_cm2 * section * 1e-27 == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("particle", PROJECTILES)
def test_multiplicity_grows_with_energy(particle):
    means = [multiplicities(particle, e).mean() for e in (8.0, 64.0, 512.0, 4096.0)]
    assert (np.diff(means) > 2).all()
    assert 20 < means[2] < 30  # above 1 GeV


@pytest.mark.parametrize(
    ("particle", "low", "high"), [(PROTON, 0.16, 0.24), (PION, 0.22, 0.33)]
)
@pytest.mark.parametrize("energy_gev", [100.0, 1000.0, 10000.0])
def test_photons_and_neutral_pions_get_their_share(particle, low, high, energy_gev):
    both = np.concatenate(collisions(particle, energy_gev))
    electromagnetic = np.isin(codes(both), [Particle.GAMMA, Particle.PION_ZERO])
    assert low < both[electromagnetic, 1].sum() / both[:, 1].sum() < high


@pytest.mark.parametrize("energy_gev", [30.0, 1000.0])
def test_a_leading_particle_resembles_the_projectile(energy_gev):
    leaders = {}
    for particle in PROJECTILES:
        drawn = collisions(particle, energy_gev)
        leading = np.array([c[c[:, 1].argmax()] for c in drawn if len(c)])
        assert 0.35 < (leading[:, 1] / energy_gev).mean() < 0.6
        leaders[particle] = codes(leading)
    assert np.isin(leaders[PROTON], BARYONS).mean() > 0.55
    pions = np.bincount(leaders[PION], minlength=len(Particle))
    assert pions[PION] > 2 * pions[Particle.PION_MINUS]
    kaons = np.bincount(leaders[KAON], minlength=len(Particle))
    assert kaons[KAON] > 5 * kaons[Particle.KAON_MINUS]
    assert kaons[KAON] > kaons[PION]


@pytest.mark.parametrize(
    ("particle", "anti"),
    [
        (Particle.PION_PLUS, Particle.PION_MINUS),
        (Particle.KAON_PLUS, Particle.KAON_MINUS),
        (Particle.PROTON, Particle.ANTIPROTON),
        (Particle.NEUTRON, Particle.ANTINEUTRON),
    ],
)
def test_antiparticles_make_antiparticles(particle, anti):
    """With the same momenta, from the same random numbers."""
    charges = net_charges(particle, 100.0)
    np.testing.assert_array_equal(net_charges(anti, 100.0), -charges)
    assert charges.mean() > 0.8  # of the projectile or nuclear protons
    one, other = (np.concatenate(collisions(p, 100.0)) for p in (particle, anti))
    np.testing.assert_array_equal(one[:, 1:], other[:, 1:])
    np.testing.assert_array_equal(MASS_GEV[codes(one)], MASS_GEV[codes(other)])
    baryons = np.isin(codes(one), [Particle.PROTON, Particle.NEUTRON])
    antibaryons = np.isin(codes(other), [Particle.ANTIPROTON, Particle.ANTINEUTRON])
    np.testing.assert_array_equal(baryons, antibaryons)


@pytest.mark.parametrize("particle", PROJECTILES)
def test_momenta_are_along_the_projectile_and_even_around_it(particle):
    drawn = np.concatenate(collisions(particle, 1000.0))
    across, along = drawn[:, 2:4], drawn[:, 4]
    assert (along > 0).all()
    error = across.std(axis=0) / np.sqrt(len(across))
    assert (abs(across.mean(axis=0)) < 4 * error).all()
    pions = np.isin(codes(drawn), [Particle.PION_PLUS, Particle.PION_MINUS])
    assert 0.3 < np.hypot(*across[pions].T).mean() < 0.5  # GeV, as always
    np.testing.assert_allclose(
        drawn[:, 1] ** 2 - (drawn[:, 2:] ** 2).sum(axis=1),
        MASS_GEV[codes(drawn)] ** 2,
        atol=1e-12 * drawn[:, 1].max() ** 2,
    )


def test_between_energies_of_the_table_both_sides_are_drawn():
    """At 90 GeV, about half-way from 64 to 128 GeV by the logarithm."""
    sums = energy_sums(PROTON, 90.0, n=1500)
    error = sums.std() / np.sqrt(len(sums))
    expected = 90 * kept_share(PROTON, 90.0)
    assert error < 0.01 * expected
    assert sums.mean() == pytest.approx(expected, abs=3.5 * error + 0.002 * expected)
    low, middle, high = (
        multiplicities(PROTON, energy, n=1500) for energy in (64.0, 90.0, 128.0)
    )
    expected = np.interp(np.log(90), np.log([64, 128]), [low.mean(), high.mean()])
    assert high.mean() - low.mean() > 2.5
    assert middle.mean() == pytest.approx(expected, abs=0.8)


@pytest.mark.parametrize("energy_gev", [20e3, 32768.0, 100e3])
def test_energy_is_kept_up_to_the_highest_energies(energy_gev):
    mean = energy_sums(PROTON, energy_gev, n=100).mean()
    assert mean == pytest.approx(energy_gev, rel=0.005)


@pytest.mark.parametrize("particle", PROJECTILES)
@pytest.mark.parametrize("energy_gev", [3.0, 4.0, 5.0, 11.0, 25.0, 90.0, 3000.0])
def test_energy_is_not_made(particle, energy_gev):
    """But for a few nucleons of the target."""
    sums = energy_sums(particle, energy_gev)
    assert sums.max() < 1.05 * energy_gev + 3 * NUCLEON_GEV
    assert sums.mean() < 1.001 * energy_gev


@pytest.mark.parametrize("particle", PROJECTILES)
@pytest.mark.parametrize("energy_gev", [2.2, 3.0, 5.0, 11.0, 45.0, 90.0])
def test_no_single_collision_makes_energy(particle, energy_gev):
    """Masses of baryons, which the target may have given, are not counted."""
    for collision in collisions(particle, energy_gev, n=1000):
        baryons = codes(collision)[np.isin(codes(collision), BARYONS)]
        released = collision[:, 1].sum() - MASS_GEV[baryons].sum()
        assert released < 1.01 * energy_gev


def test_all_collisions_are_drawn_equally_often():
    table = load_hadron_table()
    rng = np.random.default_rng(0)
    n_collisions = table.first.shape[2] - 1
    starts = table.first[0, 7]
    drawn = [draw_interaction(rng, table, PROTON, 512.0)[0] for _ in range(20000)]
    counts = np.bincount(
        np.searchsorted(starts, drawn, "right") - 1, minlength=n_collisions
    )
    expected = 20000 / n_collisions
    assert len(counts) == n_collisions
    assert counts.min() > 0
    spread = ((counts - expected) ** 2 / expected).mean()
    assert spread == pytest.approx(1, abs=5 * np.sqrt(2 / n_collisions))
