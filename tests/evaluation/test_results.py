"""Planted resolutions, biases, overlaps and dispersions come back."""

import astropy.units as u
import numpy as np
import pytest
from predictions import (
    TWO_DIMENSIONAL,
    make_algorithm,
    make_events,
    make_sample,
    make_settings,
    plant,
    with_uncertainties,
)
from scipy.optimize import brentq
from scipy.stats import norm

from ctapipe_gammaphysnet.evaluation.metrics import metrics_in
from ctapipe_gammaphysnet.evaluation.results import evaluate
from ctapipe_gammaphysnet.tasks.metric import CONTAINMENT


def within(row, name, expected, n_errors=4):
    """Whether a metric is within its own error of what was planted."""
    return abs(row[name] - expected) < n_errors * row[f"{name}_error"]


def energy_resolution(bias, smearing):
    """68 % containment of the absolute value of a normal distribution."""

    def excess(limit):
        low, high = ((sign * limit - bias) / smearing for sign in (-1, 1))
        return norm.cdf(high) - norm.cdf(low) - CONTAINMENT

    return brentq(excess, 0, 10)


def test_what_was_planted_comes_back_in_each_bin():
    events = make_events(4000, 3000)
    # Twice as good above 1 TeV.
    better = np.asarray(events["true_energy"]) >= 1
    planted = plant(events)
    planted["separation"][better] /= 2
    results = evaluate(
        make_sample(events, make_algorithm("one", [planted])), make_settings()
    )
    assert TWO_DIMENSIONAL == pytest.approx(1.515, abs=1e-3)
    for row, factor in zip(results["energy"], (1, 2), strict=True):
        assert within(row, "angular_resolution", 0.1 * TWO_DIMENSIONAL / factor)
        assert within(row, "energy_resolution", energy_resolution(0.1, 0.2))
        assert within(row, "energy_bias", 0.1)
        assert within(row, "impact_resolution", 20 * TWO_DIMENSIONAL)
        assert within(row, "auc", norm.cdf(1.5 / np.sqrt(2)))
        assert within(row, "recall", norm.cdf(0.75))
        for name, metric in metrics_in(results["overall"]).items():
            scale = abs(row[name]) if metric.unit else 1
            assert 0 < row[f"{name}_error"] < 0.08 * scale
    for row in results["intensity"]:
        assert within(row, "auc", norm.cdf(1.5 / np.sqrt(2)))
    (overall,) = results["overall"]
    assert overall["n_gammas"] == 4000
    assert overall["n_background"] == 3000
    assert overall["precision"] == pytest.approx(
        8 / 14 * norm.cdf(0.75) / (8 / 14 * norm.cdf(0.75) + 6 / 14 * norm.cdf(-0.75)),
        abs=0.02,
    )


@pytest.mark.parametrize(
    ("condition", "width"), [("zenith", 5), ("offset", 0.5), ("noise", 0.1)]
)
def test_what_depends_on_a_condition_comes_back_in_its_bins(condition, width):
    """Directions are worse by the square of the bin's number."""
    events = make_events(6000, 0)
    bins = np.asarray(events[condition]) // width
    factor = (1 + bins - bins.min()) ** 2
    planted = plant(events)
    planted["separation"] *= factor
    sample = make_sample(events, make_algorithm("one", [planted]))
    table = evaluate(sample, make_settings())[condition]
    assert len(table) == 3
    np.testing.assert_allclose(
        table[f"{condition}_high"][2], events[condition].max(), atol=width
    )
    np.testing.assert_allclose(
        table[f"{condition}_center"], table[f"{condition}_low"] + width / 2
    )
    for row, expected in zip(table, (1, 4, 9), strict=True):
        assert within(row, "angular_resolution", 0.1 * TWO_DIMENSIONAL * expected)
        assert within(row, "energy_bias", 0.1)


@pytest.mark.parametrize(("condition", "width"), [("zenith", 5), ("noise", 0.1)])
def test_a_bias_and_an_auc_of_one_bin_are_found_there(condition, width):
    """In the middle bin energies are 40 % too high, and gammas look like background."""
    events = make_events(6000, 6000)
    bins = np.asarray(events[condition]) // width
    is_middle = bins == bins.min() + 1
    good, bad = plant(events), plant(events, bias=0.4, distance=0.5)
    planted = {name: np.where(is_middle, bad[name], good[name]) for name in good}
    sample = make_sample(events, make_algorithm("one", [planted]))
    table = evaluate(sample, make_settings())[condition]
    expected = [(0.1, 1.5), (0.4, 0.5), (0.1, 1.5)]
    for row, (bias, distance) in zip(table, expected, strict=True):
        assert within(row, "energy_bias", bias)
        assert within(row, "auc", norm.cdf(distance / np.sqrt(2)))
        assert row["energy_bias_error"] < 0.05
        assert row["auc_error"] < 0.05


def test_conditions_that_are_not_known_have_no_bins():
    events = make_events(100, 100)
    events["noise"] = np.nan
    events["zenith"] = np.geomspace(1, 1e9, len(events))
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    results = evaluate(sample, make_settings())
    assert len(results["noise"]) == 0
    assert len(results["zenith"]) == 40


def test_the_dispersion_of_members_comes_back():
    events = make_events(4000, 2000)
    factors = np.array([0.8, 0.9, 1.0, 1.1, 1.2])
    members = [
        plant(events, seed, sigma=0.1 * f, impact=20 * f)
        for seed, f in enumerate(factors)
    ]
    ensemble = plant(events, 9, sigma=0.03)
    sample = make_sample(events, make_algorithm("five", members, ensemble))
    results = evaluate(sample, make_settings(n_resamples=10))
    for name, scale in (("angular_resolution", 0.1), ("impact_resolution", 20)):
        for row in results["energy"]:
            expected = scale * TWO_DIMENSIONAL
            assert row[f"{name}_members_mean"] == pytest.approx(expected, rel=0.02)
            assert row[f"{name}_members_std"] == pytest.approx(
                expected * factors.std(ddof=1), rel=0.2
            )
    (row,) = results["overall"]
    assert within(row, "angular_resolution", 0.03 * TWO_DIMENSIONAL)
    each = results["members_overall"]
    assert each["seed"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(
        each["angular_resolution"], 0.1 * TWO_DIMENSIONAL * factors, rtol=0.06
    )
    assert len(results["members_energy"]) == 2 * 5


def test_a_single_shower_has_no_statistical_error():
    events = make_events(100, 0, reuse=100)
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    (row,) = evaluate(sample, make_settings())["overall"]
    assert np.isfinite(row["angular_resolution"])
    assert np.isnan(row["angular_resolution_error"])


def test_one_member_has_no_dispersion():
    events = make_events(100, 100)
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    results = evaluate(sample, make_settings())
    assert np.isnan(results["overall"]["auc_members_std"]).all()
    assert len(results["members_energy"]) == 0


def test_bins_with_few_events_are_empty():
    events = make_events(300, 300, energy=(0.1, 1.0))
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    settings = make_settings(energy=(0.01, 0.1, 1.0, 10.0), minimum=300)
    results = evaluate(sample, settings)
    energy = results["energy"]
    assert energy["n_gammas"].tolist() == [0, 300, 0]
    for name in metrics_in(energy):
        np.testing.assert_array_equal(
            np.isfinite(energy[name]), [False, True, False], err_msg=name
        )


def test_gammas_alone_have_resolutions_and_recall_only():
    events = make_events(500, 0)
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    results = evaluate(sample, make_settings())
    (row,) = results["overall"]
    assert np.isnan([row["auc"], row["precision"]]).all()
    assert np.isfinite([row["angular_resolution"], row["recall"]]).all()
    for name in ("roc", "cuts", "gammaness"):
        assert len(results[name]) == 0


def test_one_event_is_no_error():
    events = make_events(1, 0)
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    results = evaluate(sample, make_settings(minimum=1))
    (row,) = results["overall"]
    assert np.isfinite(row["angular_resolution"])
    assert np.isnan(evaluate(sample, make_settings())["overall"]["recall"][0])


def test_what_an_algorithm_does_not_predict_is_empty():
    events = make_events(200, 200)
    planted = plant(events)
    planted["energy"][:] = np.nan
    sample = make_sample(events, make_algorithm("one", [planted]))
    results = evaluate(sample, make_settings())
    assert np.isnan(results["energy"]["energy_resolution"]).all()
    assert np.isfinite(results["energy"]["angular_resolution"]).all()


def test_curves_go_through_the_metrics():
    events = make_events(4000, 4000)
    algorithm = make_algorithm("one", [plant(events)])
    results = evaluate(make_sample(events, algorithm), make_settings(n_resamples=0))
    roc = results["roc"]
    area = np.trapezoid(
        np.append(0, roc["gamma_efficiency"]),
        np.append(0, roc["background_efficiency"]),
    )
    (overall,) = results["overall"]
    assert area == pytest.approx(overall["auc"], abs=2e-3)
    (at_cut,) = results["cuts"][results["cuts"]["cut"] == 0.5]
    assert at_cut["precision"] == overall["precision"]
    assert at_cut["recall"] == overall["recall"]
    for name in ("gamma", "background"):
        assert results["gammaness"][name].sum() / 50 == pytest.approx(1)


def test_weights_act_like_more_events():
    events = make_events(600, 600)
    planted = plant(events)
    weights = np.random.default_rng(0).integers(1, 4, len(events))
    rows = np.repeat(np.arange(len(events)), weights)
    several = {name: values[rows] for name, values in planted.items()}
    settings = make_settings(n_resamples=0)
    weighted = evaluate(
        make_sample(events, make_algorithm("one", [planted]), weights=weights),
        settings,
    )
    repeated = evaluate(
        make_sample(events[rows], make_algorithm("one", [several])), settings
    )
    for name in ("overall", "energy", "intensity"):
        for metric in metrics_in(weighted[name]):
            np.testing.assert_allclose(
                weighted[name][metric], repeated[name][metric], err_msg=metric
            )


def test_columns_have_units_and_descriptions():
    events = make_events(100, 100)
    members = [plant(events, seed) for seed in range(2)]
    results = evaluate(
        make_sample(events, with_uncertainties(make_algorithm("two", members))),
        make_settings(n_resamples=2),
    )
    assert results["energy"]["angular_resolution_members_std"].unit == u.deg
    assert results["energy"]["impact_resolution"].unit == u.m
    assert results["members_energy"]["energy_low"].unit == u.TeV
    for table in results.values():
        assert len(table) > 0
        assert all(table[name].description for name in table.colnames)
