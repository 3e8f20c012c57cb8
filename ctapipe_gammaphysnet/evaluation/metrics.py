"""Metrics: arrays in, numbers out.

Of pyirf's benchmarks these are the definitions, but not the functions: those know
neither weights nor resampled showers nor a smallest number of events. Without weights
both give the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

__all__ = [
    "CONTAINMENT",
    "METRICS",
    "Metric",
    "compute_metric",
    "containment",
    "dispersion",
    "label_of",
    "log_edges",
    "resampled_showers",
    "weighted_quantile",
    "with_spread",
]

#: Share of the events within a resolution, "68 %": that within one standard deviation
#: of a normal distribution, as in pyirf.
CONTAINMENT = norm.cdf(1) - norm.cdf(-1)


def weighted_quantile(values, quantile, weights):
    """Compute a quantile of weighted values.

    Parameters
    ----------
    values : numpy.ndarray
        The values, shape (n,).
    quantile : float
        Between 0 and 1.
    weights : numpy.ndarray
        Their weights, which are not negative, shape (n,).

    Returns
    -------
    float
        The smallest of the values with at least this share of the weight at or below
        it; NaN without any weight.
    """
    if not weights.sum() > 0:
        return np.nan
    return float(np.quantile(values, quantile, weights=weights, method="inverted_cdf"))


def containment(values, weights):
    """Compute the 68 % containment of values.

    Parameters
    ----------
    values : numpy.ndarray
        Distances from the truth, shape (n,).
    weights : numpy.ndarray
        Weights, shape (n,).

    Returns
    -------
    float
        What 68 % of them are within; NaN without any weight.
    """
    return weighted_quantile(values, CONTAINMENT, weights)


def _distance(distance, energy, is_gamma, weights, cut):
    return containment(distance, weights)


def _energy_resolution(reconstructed, energy, is_gamma, weights, cut):
    return containment(np.abs(reconstructed / energy - 1), weights)


def _energy_bias(reconstructed, energy, is_gamma, weights, cut):
    return weighted_quantile(reconstructed / energy - 1, 0.5, weights)


def _auc(gammaness, energy, is_gamma, weights, cut):
    if not (weights[is_gamma].sum() > 0 and weights[~is_gamma].sum() > 0):
        return np.nan
    return float(roc_auc_score(is_gamma, gammaness, sample_weight=weights))


def _precision(gammaness, energy, is_gamma, weights, cut):
    return _share(is_gamma, gammaness >= cut, weights)


def _recall(gammaness, energy, is_gamma, weights, cut):
    return _share(gammaness >= cut, is_gamma, weights)


def _share(of_which, events, weights):
    total = weights[events].sum()
    return float(weights[events & of_which].sum() / total) if total > 0 else np.nan


class Metric(NamedTuple):
    """A number that says how good predictions are.

    Attributes
    ----------
    prediction : str
        What it is computed of: ``separation``, ``energy``, ``impact``, ``gammaness``.
    unit : str
        Its unit; empty without one.
    label : str
        What plots and printed tables call it.
    description : str
        What it is.
    compares_classes : bool
        Whether background is needed, too.
    compute : callable
        Function of the prediction, the true energy in TeV, whether the events are
        gammas, and their weights, shape (n,) each, and of the smallest gammaness of
        what is taken for a gamma.
    """

    prediction: str
    unit: str
    label: str
    description: str
    compares_classes: bool
    compute: Callable


#: All metrics, by the names of their columns.
METRICS = {
    "angular_resolution": Metric(
        "separation",
        "deg",
        "Angular resolution",
        "68 % containment of the angle between reconstructed and true direction",
        False,
        _distance,
    ),
    "energy_resolution": Metric(
        "energy",
        "",
        "Energy resolution",
        "68 % containment of |E/E_true - 1|",
        False,
        _energy_resolution,
    ),
    "energy_bias": Metric(
        "energy", "", "Energy bias", "median of E/E_true - 1", False, _energy_bias
    ),
    "impact_resolution": Metric(
        "impact",
        "m",
        "Impact resolution",
        "68 % containment of the distance between reconstructed and true impact point "
        "on the ground",
        False,
        _distance,
    ),
    "auc": Metric(
        "gammaness",
        "",
        "AUC",
        "area under the ROC curve of the gammaness",
        True,
        _auc,
    ),
    "precision": Metric(
        "gammaness",
        "",
        "Precision",
        "share of gammas in what is taken for gammas",
        True,
        _precision,
    ),
    "recall": Metric(
        "gammaness",
        "",
        "Recall",
        "share of the gammas that are taken for gammas",
        False,
        _recall,
    ),
}


def label_of(metric):
    """Label an axis or a column.

    Parameters
    ----------
    metric : Metric
        What it shows.

    Returns
    -------
    str
        Its label, and its unit if it has one.
    """
    return f"{metric.label} / {metric.unit}" if metric.unit else metric.label


def with_spread(value, spread):
    """Write a value with as many digits as its uncertainty has meaning.

    Parameters
    ----------
    value, spread : float
        The value and its uncertainty; either may be NaN.

    Returns
    -------
    str
        Such as ``0.123 ± 0.045``; without uncertainty ``0.123``, without value ``–``.
    """
    if not np.isfinite(value):
        return "–"
    if not (np.isfinite(spread) and spread > 0):
        return f"{value:.3g}"
    digits = int(np.clip(1 - np.floor(np.log10(spread)), 0, 9))
    return f"{value:.{digits}f} ± {spread:.{digits}f}"


def compute_metric(
    metric, prediction, energy, is_gamma, weights, cut=0.5, minimum=1, resamples=()
):
    """Compute a metric, and again of resampled events.

    Parameters
    ----------
    metric : Metric
        Which.
    prediction : numpy.ndarray
        What it needs, shape (n,), finite.
    energy : numpy.ndarray
        True energy in TeV, shape (n,).
    is_gamma : numpy.ndarray
        Whether the events are gammas, shape (n,), bool. Of metrics that do not compare
        the classes, others are left out.
    weights : numpy.ndarray
        Weights, shape (n,).
    cut : float
        Smallest gammaness of what is taken for a gamma.
    minimum : int
        Smallest number of events, of each class that is needed.
    resamples : iterable of numpy.ndarray
        How often each event is there, shape (n,) each.

    Returns
    -------
    value : float
        Its value; NaN with fewer events than the minimum.
    error : float
        Its standard deviation over the resamples; NaN with fewer than two.
    """
    numbers = [is_gamma.sum()]
    if metric.compares_classes:
        numbers.append((~is_gamma).sum())
    if min(numbers) < max(minimum, 1):
        return np.nan, np.nan
    rows = np.arange(len(is_gamma))
    if not metric.compares_classes:
        rows = np.flatnonzero(is_gamma)
    arrays = prediction[rows], energy[rows], is_gamma[rows]
    value = metric.compute(*arrays, weights[rows], cut)
    again = np.array(
        [metric.compute(*arrays, (weights * n)[rows], cut) for n in resamples]
    )
    again = again[np.isfinite(again)]
    return value, float(again.std(ddof=1)) if len(again) > 1 else np.nan


def resampled_showers(shower, n_resamples, seed=0):
    """Draw samples of showers, with replacement, for the bootstrap.

    Images of one shower, and of its reuses, are not independent: they are drawn
    together.

    Parameters
    ----------
    shower : numpy.ndarray
        Number of the shower of each event, shape (n,).
    n_resamples : int
        Number of samples.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    drawn : numpy.ndarray
        How often each shower is in each sample, shape (n_resamples, n_showers), int32.
    index : numpy.ndarray
        Which of these showers each event is of, shape (n,), int.
    """
    showers, index = np.unique(shower, return_inverse=True)
    n_showers = len(showers)
    if n_showers == 0:
        return np.empty((n_resamples, 0), np.int32), index
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_showers, np.full(n_showers, 1 / n_showers), n_resamples)
    return drawn.astype(np.int32), index


def dispersion(values):
    """Compute mean and standard deviation over members, the paper's dispersion.

    Parameters
    ----------
    values : numpy.ndarray
        The metric of each member, shape (n_members,).

    Returns
    -------
    mean, deviation : float
        Over the members whose metric is known; the deviation is NaN with fewer than
        two of them, the mean without any.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.nan, np.nan
    deviation = values.std(ddof=1) if len(values) > 1 else np.nan
    return float(values.mean()), float(deviation)


def log_edges(low, high, per_decade):
    """Make bins of the same width in the logarithm.

    Parameters
    ----------
    low, high : float
        Where they begin, and what they do not go beyond.
    per_decade : int
        Number of bins in a factor of 10.

    Returns
    -------
    numpy.ndarray
        Their edges.
    """
    n_bins = int(np.floor(np.log10(high / low) * per_decade + 1e-6))
    return low * 10 ** (np.arange(n_bins + 1) / per_decade)
