"""Weights take simulated spectra to others."""

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from predictions import make_algorithm, make_events, make_sample, make_settings, plant
from pyirf.simulations import SimulatedEventsInfo
from pyirf.spectral import CRAB_HEGRA

from ctapipe_gammaphysnet.evaluation.events import EvaluationError
from ctapipe_gammaphysnet.evaluation.results import evaluate
from ctapipe_gammaphysnet.evaluation.spectra import read_simulations, spectral_weights
from ctapipe_gammaphysnet.tasks.metric import weighted_quantile


def simulation(index, low, high, n_showers=1):
    return SimulatedEventsInfo(
        n_showers=n_showers,
        energy_min=low * u.TeV,
        energy_max=high * u.TeV,
        max_impact=1 * u.m,
        spectral_index=index,
        viewcone_min=0 * u.deg,
        viewcone_max=0 * u.deg,
    )


def draw(rng, n, index, low, high):
    """Energies of a power law."""
    g = index + 1
    return (low**g + rng.random(n) * (high**g - low**g)) ** (1 / g)


def median_of_power_law(index, low, high):
    g = index + 1
    return ((low**g + high**g) / 2) ** (1 / g)


def test_one_spectrum_becomes_another():
    energy = draw(np.random.default_rng(0), 50_000, -2.0, 0.1, 100)
    weights = spectral_weights(energy, [simulation(-2.0, 0.1, 100)], "CRAB_HEGRA")
    assert weights.mean() == pytest.approx(1)
    assert weighted_quantile(energy, 0.5, np.ones(50_000)) == pytest.approx(
        median_of_power_law(-2.0, 0.1, 100), rel=0.02
    )
    assert weighted_quantile(energy, 0.5, weights) == pytest.approx(
        median_of_power_law(CRAB_HEGRA.index, 0.1, 100), rel=0.02
    )


def test_runs_of_different_ranges_add_up():
    """A second run above 1 TeV, with more showers, leaves no step."""
    rng = np.random.default_rng(1)
    energy = np.concatenate(
        [draw(rng, 20_000, -2.0, 0.1, 10), draw(rng, 40_000, -1.5, 1, 10)]
    )
    runs = [simulation(-2.0, 0.1, 10, 20_000), simulation(-1.5, 1, 10, 40_000)]
    weights = spectral_weights(energy, runs, "CRAB_HEGRA")
    for quantile, share in ((0.5, 0.5), (0.99, 0.99)):
        g = CRAB_HEGRA.index + 1
        expected = (0.1**g + share * (10**g - 0.1**g)) ** (1 / g)
        assert weighted_quantile(energy, quantile, weights) == pytest.approx(
            expected, rel=0.04
        )


def test_a_resolution_follows_the_spectrum():
    """Directions are good above 1 TeV only, where the Crab has few gammas."""
    events = make_events(30_000, 0, energy=(0.1, 10.0))
    energy = np.asarray(events["true_energy"])
    planted = plant(events)
    planted["separation"] = np.where(energy < 1, 1.0, 0.1) * np.linspace(0, 1, 30_000)
    algorithm = make_algorithm("one", [planted])
    weights = spectral_weights(energy, [simulation(-1 - 1e-6, 0.1, 10)], "CRAB_HEGRA")
    settings = make_settings(n_resamples=0)
    found = [
        evaluate(make_sample(events, algorithm, weights=w), settings)["overall"][0]
        for w in (np.ones(30_000), weights)
    ]
    g = CRAB_HEGRA.index + 1
    below = (0.1**g - 1) / (0.1**g - 10**g)
    # Of the worst events the weighted share is larger.
    for row, share in zip(found, (0.5, below), strict=True):
        assert row["angular_resolution"] == pytest.approx(
            1 - (1 - 0.6827) / share, abs=0.02
        )


def test_simulations_are_read_from_files(tmp_path):
    path = toy_sample.write_toy_file(
        tmp_path / "gamma.h5",
        "gamma",
        2,
        array=toy_sample.small_array(2, positions=[(0.0, 0.0, 0.0)]),
    )
    (run,) = read_simulations(path)
    assert run.n_showers == 2
    assert run.energy_max.to_value(u.TeV) == pytest.approx(10)
    # The toys have as many gammas in each decade.
    assert run.spectral_index == pytest.approx(-1)
    energy = np.geomspace(0.03, 10, 50)
    weights = spectral_weights(energy, [run], "CRAB_HEGRA")
    np.testing.assert_allclose(
        weights[1:] / weights[:-1],
        (energy[1:] / energy[:-1]) ** (CRAB_HEGRA.index + 1),
        rtol=1e-4,
    )
    with tables.open_file(path, "a") as file:
        table = file.root.configuration.simulation.run
        rows = table[:]
        rows["spectral_index"] = 0.5
        table[:] = rows
    with pytest.raises(EvaluationError, match="spectrum of run 1 cannot be weighted"):
        read_simulations(path)


def test_an_energy_that_no_run_has_simulated_is_an_error():
    """Its weight would be infinite, and all others nothing."""
    runs = [simulation(-2.0, 0.1, 10), simulation(-2.0, 20, 50)]
    with pytest.raises(EvaluationError, match=r"true energy of 15 TeV, which no run"):
        spectral_weights(np.array([1.0, 15.0, 30.0]), runs, "CRAB_HEGRA")
    assert len(spectral_weights(np.array([]), [], "CRAB_HEGRA")) == 0
