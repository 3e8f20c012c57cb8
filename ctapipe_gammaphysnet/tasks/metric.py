"""Metrics of a property, and the quantiles that they are computed from."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
    "CONTAINMENT",
    "Metric",
    "containment",
    "distance_metric",
    "resolution",
    "weighted_quantile",
]

#: Share of the events within a resolution, "68 %": one standard deviation of a normal
#: distribution, as in pyirf.
CONTAINMENT = math.erf(1 / math.sqrt(2))


class Metric(NamedTuple):
    """A number that measures the quality of predictions.

    Attributes
    ----------
    prediction : str
        The ``compared`` of the task that it is computed from, such as ``separation``.
    unit : str
        Its unit; empty without one.
    label : str
        Its name in plots and printed tables.
    description : str
        Its definition.
    compute : callable
        Function of the prediction, the true energy in TeV, whether the events are
        gammas, and their weights, shape (n,) each, and of the smallest gammaness that
        is classified as gamma.
    compares_classes : bool, default False
        Whether it needs background, too.
    """

    prediction: str
    unit: str
    label: str
    description: str
    compute: Callable
    compares_classes: bool = False


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
        The smallest value with at least this share of the weight at or below it; NaN
        without any weight.
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
        The value that contains 68 % of the weight; NaN without any weight.
    """
    return weighted_quantile(values, CONTAINMENT, weights)


def resolution(values):
    """Compute the 68 % containment of values with equal weights.

    Parameters
    ----------
    values : numpy.ndarray
        Distances from the truth, shape (n,).

    Returns
    -------
    float
        The quantile, interpolated between two values.
    """
    return float(np.quantile(values, CONTAINMENT))


def _containment(distance, energy, is_gamma, weights, cut):
    return containment(distance, weights)


def distance_metric(prediction, unit, label, description):
    """Make a metric: the 68 % containment of a distance from the truth.

    Parameters
    ----------
    prediction, unit, label, description : str
        As in `Metric`.

    Returns
    -------
    Metric
        The metric.
    """
    return Metric(prediction, unit, label, description, _containment)
