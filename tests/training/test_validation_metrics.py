"""Figures of merit recover what was planted."""

import numpy as np
import pytest
from scipy.stats import norm

from ctapipe_gammaphysnet.training.metrics import validation_metrics

N = 40_000
#: 68 % of a two-dimensional Gaussian lie within that many standard deviations.
CONTAINMENT = np.sqrt(-2 * np.log(1 - 0.68))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def as_gammas(outputs, targets):
    return outputs, targets | {
        "class": np.zeros(len(next(iter(targets.values()))), int)
    }


def test_the_containment_is_that_of_a_gaussian():
    assert CONTAINMENT == pytest.approx(1.51, abs=0.005)


@pytest.mark.parametrize("lat", [0.0, 60.0])
def test_the_angular_resolution_is_recovered(rng, lat):
    """On the sphere: at a latitude, longitudes are shorter."""
    sigma = 0.1
    true = np.column_stack([rng.uniform(-2, 2, N), np.full(N, lat)])
    error = rng.normal(scale=sigma, size=(N, 2))
    error[:, 0] /= np.cos(np.deg2rad(lat))
    metrics = validation_metrics(
        *as_gammas(
            {"direction": (true + error).astype(np.float32)},
            {"direction": true.astype(np.float32)},
        )
    )
    assert set(metrics) == {"angular resolution / deg"}
    assert metrics["angular resolution / deg"] == pytest.approx(
        CONTAINMENT * sigma, rel=0.02
    )


def test_the_impact_resolution_is_recovered(rng):
    true = rng.uniform(-0.3, 0.3, (N, 2))
    predicted = true + rng.normal(scale=0.02, size=(N, 2))
    metrics = validation_metrics(*as_gammas({"impact": predicted}, {"impact": true}))
    assert metrics == {
        "impact resolution / m": pytest.approx(CONTAINMENT * 20, rel=0.02)
    }


def test_energy_bias_and_resolution_are_recovered(rng):
    """Of E / E_true - 1: 20 % too low, spread by 10 %."""
    true = rng.uniform(-2, 2, (N, 1))
    ratio = rng.normal(0.8, 0.1, (N, 1)).clip(0.01)
    predicted = true + np.log10(ratio)
    metrics = validation_metrics(*as_gammas({"energy": predicted}, {"energy": true}))
    assert metrics["energy bias"] == pytest.approx(-0.2, abs=0.003)
    # |x| of x ~ N(-0.2, 0.1) is below 0.2467 in 68 %.
    limit = metrics["energy resolution"]
    share = norm.cdf(limit, -0.2, 0.1) - norm.cdf(-limit, -0.2, 0.1)
    assert share == pytest.approx(0.68, abs=0.01)


def test_without_bias_the_resolution_is_one_sigma(rng):
    true = rng.uniform(-2, 2, (N, 1))
    predicted = true + np.log10(rng.normal(1, 0.1, (N, 1)))
    metrics = validation_metrics(*as_gammas({"energy": predicted}, {"energy": true}))
    assert metrics["energy resolution"] == pytest.approx(0.0994, rel=0.02)
    assert abs(metrics["energy bias"]) < 0.003


def test_protons_do_not_count(rng):
    true = rng.uniform(-1, 1, (N, 2))
    predicted = true + rng.normal(scale=0.1, size=(N, 2))
    label = rng.integers(0, 2, N)
    worse = np.where(label[:, np.newaxis] == 1, predicted + 5, predicted)
    outputs = {"direction": worse, "impact": worse, "energy": worse[:, :1]}
    targets = {"direction": true, "impact": true, "energy": true[:, :1]}
    found = validation_metrics(outputs, targets | {"class": label})
    gammas = label == 0
    expected = validation_metrics(
        {task: output[gammas] for task, output in outputs.items()},
        {task: target[gammas] for task, target in targets.items()}
        | {"class": label[gammas]},
    )
    assert found == expected
    assert len(found) == 4


@pytest.mark.parametrize("separation", [0.0, 1.0, 3.0])
def test_the_auc_is_that_of_the_overlap(rng, separation):
    """Of two Gaussians: Phi(d / sqrt(2)). Gammas have the larger first logit."""
    label = rng.integers(0, 2, N)
    logits = np.zeros((N, 2), np.float32)
    logits[:, 0] = rng.normal(separation * (label == 0))
    metrics = validation_metrics({"class": logits}, {"class": label})
    assert metrics == {
        "AUC": pytest.approx(norm.cdf(separation / np.sqrt(2)), abs=0.01)
    }


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc(rng, label):
    logits = rng.normal(size=(10, 2))
    energy = rng.normal(size=(10, 1))
    metrics = validation_metrics(
        {"class": logits, "energy": energy},
        {"class": np.full(10, label), "energy": energy},
    )
    # Without gammas there is nothing to tell at all.
    perfect = {"energy resolution": 0, "energy bias": 0}
    assert metrics == (perfect if label == 0 else {})


def test_predictions_far_off_are_no_error():
    """A network that has just begun may say anything."""
    target = np.zeros((4, 2), np.float32)
    wild = np.array([[1e30, -1e30], [400, 95], [0, 0], [-1e5, 3]], np.float32)
    metrics = validation_metrics(
        {"energy": wild[:, :1], "direction": wild, "impact": wild, "class": wild},
        {
            "energy": target[:, :1],
            "direction": target,
            "impact": target,
            "class": np.array([0, 0, 0, 1]),
        },
    )
    assert len(metrics) == 5
    assert np.isfinite(list(metrics.values())).all()
    assert 0 <= metrics["angular resolution / deg"] <= 180
    assert all(type(value) is float for value in metrics.values())


def test_a_network_that_has_failed_has_no_auc():
    """Its validation must not hide why: the loss of its next step is not finite."""
    logits = np.array([[np.nan, 0], [1, 0]])
    metrics = validation_metrics({"class": logits}, {"class": np.array([0, 1])})
    assert np.isnan(metrics["AUC"])
