"""Metrics: arrays in, numbers out.

The definitions are those of pyirf's benchmarks. Its functions accept neither weights
nor resampled showers nor a minimum number of events. Without weights both agree.
"""

import numpy as np

from ..tasks import TASKS

__all__ = [
    "all_metrics",
    "compute_metric",
    "dispersion",
    "label_of",
    "log_edges",
    "metrics_in",
    "resampled_showers",
    "with_spread",
]


def all_metrics():
    """List the metrics of all tasks.

    Returns
    -------
    dict of str to Metric
        The metrics, by the names of their columns.
    """
    metrics = {name: m for task in TASKS.values() for name, m in task.metrics.items()}
    # The first one in the paper's Fig. 3.
    first = "angular_resolution"
    return {first: metrics.pop(first), **metrics}


def metrics_in(table):
    """List the metrics that a table has.

    Parameters
    ----------
    table : astropy.table.Table
        As `evaluate` returns it.

    Returns
    -------
    dict of str to Metric
        The metrics, by the names of their columns.
    """
    return {name: m for name, m in all_metrics().items() if name in table.colnames}


def label_of(metric):
    """Label an axis or a column.

    Parameters
    ----------
    metric : Metric
        The metric that is shown.

    Returns
    -------
    str
        Its label, and its unit if it has one.
    """
    return f"{metric.label} / {metric.unit}" if metric.unit else metric.label


def with_spread(value, spread):
    """Write a value with as many digits as its uncertainty justifies.

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
    """Compute a metric and its statistical error.

    Parameters
    ----------
    metric : Metric
        The metric.
    prediction : numpy.ndarray
        The prediction that it needs, shape (n, ...). Events without it, NaN, do not
        count.
    energy : numpy.ndarray
        True energy in TeV, shape (n,).
    is_gamma : numpy.ndarray
        Whether the events are gammas, shape (n,), bool. Metrics that do not compare the
        classes use gammas only.
    weights : numpy.ndarray
        Weights, shape (n,).
    cut : float
        Smallest gammaness of events that are classified as gamma.
    minimum : int
        Minimum number of events of each class that is needed.
    resamples : iterable of numpy.ndarray
        How often each event was drawn, shape (n,) each.

    Returns
    -------
    value : float
        The value; NaN with fewer events than the minimum.
    error : float
        Its standard deviation over the resamples; NaN with fewer than two.
    """
    is_used = np.isfinite(prediction).all(axis=tuple(range(1, prediction.ndim)))
    numbers = [(is_used & is_gamma).sum()]
    if metric.compares_classes:
        numbers.append((is_used & ~is_gamma).sum())
    else:
        is_used &= is_gamma
    if min(numbers) < max(minimum, 1):
        return np.nan, np.nan
    rows = np.flatnonzero(is_used)
    arrays = prediction[rows], energy[rows], is_gamma[rows]
    value = metric.compute(*arrays, weights[rows], cut)
    again = np.array(
        [metric.compute(*arrays, (weights * n)[rows], cut) for n in resamples]
    )
    again = again[np.isfinite(again)]
    return value, float(again.std(ddof=1)) if len(again) > 1 else np.nan


def resampled_showers(shower, n_resamples, seed=0):
    """Draw bootstrap samples of showers, with replacement.

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
        Index of each event's shower in ``drawn``, shape (n,), int.
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
        Over the members with a known metric; the deviation is NaN with fewer than two
        of them, the mean without any.
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
        Lower edge of the first bin, and upper limit of the last one.
    per_decade : int
        Number of bins per decade.

    Returns
    -------
    numpy.ndarray
        The edges, shape (n_bins + 1,).
    """
    n_bins = int(np.floor(np.log10(high / low) * per_decade + 1e-6))
    return low * 10 ** (np.arange(n_bins + 1) / per_decade)
