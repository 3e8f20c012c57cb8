"""Metrics of a property, and the quantiles they are made of."""

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

#: Share of the events within a resolution, "68 %": that within one standard deviation
#: of a normal distribution, as in pyirf.
CONTAINMENT = math.erf(1 / math.sqrt(2))


class Metric(NamedTuple):
    """A number that says how good predictions are.

    Attributes
    ----------
    prediction : str
        What it is computed of, such as ``separation``: a task's ``compared``.
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
        The value that 68 % of them are within; NaN without any weight.
    """
    return weighted_quantile(values, CONTAINMENT, weights)


def resolution(values):
    """Compute the 68 % containment of values that all count the same.

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
    """Make the metric of a distance from the truth: its 68 % containment.

    Parameters
    ----------
    prediction, unit, label, description : str
        As in `Metric`.

    Returns
    -------
    Metric
        The metric.
    """
    return Metric(prediction, unit, label, description, False, _containment)
