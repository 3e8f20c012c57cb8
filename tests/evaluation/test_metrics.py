"""Weighted quantiles and the bootstrap against what is known of them."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from predictions import make_events, plant
from pyirf.benchmarks import angular_resolution, energy_bias_resolution
from pyirf.benchmarks.energy_bias_resolution import energy_resolution_absolute_68
from scipy.stats import norm

from ctapipe_gammaphysnet.evaluation.metrics import (
    all_metrics,
    compute_metric,
    dispersion,
    log_edges,
    resampled_showers,
)
from ctapipe_gammaphysnet.tasks.metric import (
    CONTAINMENT,
    containment,
    weighted_quantile,
)


def test_the_quantiles_are_those_of_pyirf():
    events = make_events(5000, 0)
    planted = plant(events)
    table = QTable(
        {
            "true_energy": np.asarray(events["true_energy"]) * u.TeV,
            "reco_energy": planted["energy"] * u.TeV,
            "theta": planted["separation"] * u.deg,
        }
    )
    edges = [0.05, 20] * u.TeV
    energy = np.asarray(events["true_energy"])
    is_gamma, ones = np.ones(5000, dtype=bool), np.ones(5000)
    found = {
        name: compute_metric(
            all_metrics()[name],
            planted[all_metrics()[name].prediction],
            energy,
            is_gamma,
            ones,
        )[0]
        for name in ("angular_resolution", "energy_resolution", "energy_bias")
    }
    # pyirf interpolates between two events; here it is one of them.
    theirs = angular_resolution(table, edges)["angular_resolution_68"].to_value(u.deg)
    assert found["angular_resolution"] == pytest.approx(theirs[0], rel=1e-3)
    theirs = energy_bias_resolution(
        table, edges, resolution_function=energy_resolution_absolute_68
    )
    assert found["energy_resolution"] == pytest.approx(
        theirs["resolution"][0], rel=1e-3
    )
    assert found["energy_bias"] == pytest.approx(theirs["bias"][0], abs=1e-3)


def test_a_weight_of_two_is_an_event_twice():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=300), rng.integers(0, 4, 300)
    twice = np.repeat(values, weights)
    for quantile in (0.1, 0.5, CONTAINMENT):
        assert weighted_quantile(values, quantile, weights) == weighted_quantile(
            twice, quantile, np.ones(len(twice))
        )


def test_without_any_weight_there_is_no_quantile():
    assert np.isnan(weighted_quantile(np.ones(3), 0.5, np.zeros(3)))
    assert np.isnan(containment(np.empty(0), np.empty(0)))


def test_one_event_is_its_own_resolution():
    arrays = np.array([0.3]), np.array([1.0]), np.array([True]), np.ones(1)
    value, error = compute_metric(all_metrics()["angular_resolution"], *arrays)
    assert value == 0.3
    assert np.isnan(error)


def test_too_few_events_give_nothing():
    arrays = np.full(9, 0.3), np.ones(9), np.ones(9, dtype=bool), np.ones(9)
    for minimum, expected in ((9, 0.3), (10, np.nan)):
        value, _ = compute_metric(
            all_metrics()["angular_resolution"], *arrays, minimum=minimum
        )
        np.testing.assert_equal(value, expected)


def test_background_does_not_count_in_resolutions():
    is_gamma = np.array([True] * 50 + [False] * 50)
    separation = np.where(is_gamma, 0.1, 5.0)
    value, _ = compute_metric(
        all_metrics()["angular_resolution"],
        separation,
        np.ones(100),
        is_gamma,
        np.ones(100),
    )
    assert value == 0.1


@pytest.mark.parametrize("cut", [0.3, 0.5, 0.8])
def test_precision_and_recall_follow_the_cut(cut):
    """Gammaness uniform in (0, 1) for background, and its square root for gammas."""
    n = 20_000
    share = (np.arange(n) + 0.5) / n
    gammaness = np.concatenate([np.sqrt(share), share])
    is_gamma = np.repeat([True, False], n)
    arrays = gammaness, np.ones(2 * n), is_gamma, np.ones(2 * n), cut
    kept_gammas, kept_background = 1 - cut**2, 1 - cut
    recall, _ = compute_metric(all_metrics()["recall"], *arrays)
    precision, _ = compute_metric(all_metrics()["precision"], *arrays)
    assert recall == pytest.approx(kept_gammas, abs=1e-4)
    assert precision == pytest.approx(
        kept_gammas / (kept_gammas + kept_background), abs=1e-4
    )


def test_nothing_taken_for_a_gamma_has_no_precision():
    arrays = np.zeros(4), np.ones(4), np.array([True, True, False, False]), np.ones(4)
    assert np.isnan(compute_metric(all_metrics()["precision"], *arrays)[0])
    assert compute_metric(all_metrics()["recall"], *arrays)[0] == 0


def test_the_bootstrap_gives_the_error_of_a_median():
    n = 2000
    rng = np.random.default_rng(3)
    ratio = 1 + 0.2 * rng.normal(size=n)
    drawn, index = resampled_showers(np.arange(n), 300)
    _, error = compute_metric(
        all_metrics()["energy_bias"],
        ratio,
        np.ones(n),
        np.ones(n, dtype=bool),
        np.ones(n),
        resamples=(times[index] for times in drawn),
    )
    expected = 0.2 * np.sqrt(np.pi / 2 / n)
    assert error == pytest.approx(expected, rel=0.2)


def test_images_of_one_shower_are_drawn_together():
    """Ten copies of each shower tell no more than one."""
    n = 300
    ratio = np.repeat(1 + 0.2 * np.random.default_rng(3).normal(size=n), 10)
    arrays = ratio, np.ones(10 * n), np.ones(10 * n, dtype=bool), np.ones(10 * n)
    errors = []
    for shower in (np.repeat(np.arange(n), 10), np.arange(10 * n)):
        drawn, index = resampled_showers(shower, 200)
        assert (drawn.sum(axis=1) == drawn.shape[1]).all()
        resamples = (times[index] for times in drawn)
        errors.append(
            compute_metric(all_metrics()["energy_bias"], *arrays, resamples=resamples)[
                1
            ]
        )
    assert errors[0] == pytest.approx(0.2 * np.sqrt(np.pi / 2 / n), rel=0.3)
    assert errors[0] > 2 * errors[1]


def test_dispersion_is_the_standard_deviation_of_known_members():
    mean, deviation = dispersion(np.array([1.0, 2.0, np.nan, 3.0]))
    assert mean == 2
    assert deviation == 1
    mean, deviation = dispersion(np.array([1.0, np.nan]))
    assert mean == 1
    assert np.isnan(deviation)
    assert np.isnan(dispersion(np.array([np.nan]))).all()


def test_bins_are_equal_in_the_logarithm():
    edges = log_edges(10**-1.9, 10**2.1, 5)
    np.testing.assert_allclose(edges, 10 ** np.arange(-1.9, 2.11, 0.2))
    np.testing.assert_allclose(log_edges(50, 5000, 1), [50, 500, 5000])


def test_auc_of_two_normal_distributions():
    rng = np.random.default_rng(5)
    is_gamma = np.repeat([True, False], 20_000)
    score = norm.cdf(rng.normal(size=40_000) + 1.2 * is_gamma)
    value, _ = compute_metric(
        all_metrics()["auc"], score, np.ones(40_000), is_gamma, np.ones(40_000)
    )
    # Statistical error: 0.002.
    assert value == pytest.approx(norm.cdf(1.2 / np.sqrt(2)), abs=0.006)
