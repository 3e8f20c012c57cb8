"""How good predicted uncertainties are: coverage, pulls, and use for choosing events.

A pull is an error in units of that at the edge of the region which is predicted to hold
68.27 %, as from `Task.pull`.
"""

from dataclasses import replace

import numpy as np
from astropy.table import Column, Table

from ..tasks import TASKS
from ..tasks.metric import CONTAINMENT, Metric, containment, weighted_quantile
from .metrics import with_spread

__all__ = [
    "SHARES",
    "count_known",
    "has_uncertainties",
    "judged_sample",
    "judged_tasks",
    "kept_metrics",
    "kept_weights",
    "summarise_uncertainties",
    "uncertainty_metrics",
]

#: Shares of the gammas that are kept, those with the smallest predicted errors.
SHARES = np.arange(1, 11) / 10
#: Metrics in the summary, and their headers.
_SUMMARY = {
    "coverage": "Coverage",
    "pull_median": "Median pull",
    "pull_width": "Pull width",
    "best_half": "Resolution of the best half over all",
}


def judged_tasks():
    """List the tasks whose uncertainties can be predicted.

    Returns
    -------
    dict of str to Task
        The tasks by name.
    """
    return {name: task for name, task in TASKS.items() if task.uncertainties}


def _coverage(pull, energy, is_gamma, weights, cut):
    total = weights.sum()
    return float(weights[np.abs(pull) <= 1].sum() / total) if total > 0 else np.nan


def _median(pull, energy, is_gamma, weights, cut):
    return weighted_quantile(pull, 0.5, weights)


def _width_in_line(pull, energy, is_gamma, weights, cut):
    low, high = (
        weighted_quantile(pull, 0.5 + sign * CONTAINMENT / 2, weights)
        for sign in (-1, 1)
    )
    return (high - low) / 2


def _width_in_plane(pull, energy, is_gamma, weights, cut):
    return containment(pull, weights)


def uncertainty_metrics():
    """List the metrics of predicted uncertainties.

    Returns
    -------
    dict of str to Metric
        For each task ``TASK_coverage``, ``TASK_pull_width``, ``TASK_best_half`` and, if
        it has one output, ``TASK_pull_median``, of predictions of `judged_sample`.
    """
    metrics = {}
    for name, task in judged_tasks().items():
        pull = f"{name}_pull"
        metrics[f"{name}_coverage"] = Metric(
            pull,
            "",
            f"Coverage, {name}",
            f"share of the gammas whose true {name} is in the region that is predicted "
            "to hold 68.27 %",
            _coverage,
        )
        width, how = _width_in_plane, "factor by which ellipses would hold 68.27 %"
        if len(task.outputs) == 1:
            width, how = _width_in_line, "half width of the central 68.27 % of the pull"
            metrics[f"{name}_pull_median"] = Metric(
                pull, "", f"Median pull, {name}", "median of the pull", _median
            )
        metrics[f"{name}_pull_width"] = Metric(
            pull, "", f"Pull width, {name}", how, width
        )
        label, resolution = _resolution_of(task)
        metrics[f"{name}_best_half"] = Metric(
            f"{name}_ranked",
            "",
            f"{resolution.label}, best half over all",
            f"{label} of the half with smaller predicted errors, over that of all",
            _best_half(resolution),
        )
    return metrics


def kept_metrics(share):
    """List the resolutions of the events with the smallest predicted errors.

    Parameters
    ----------
    share : float
        Share of the events that is kept, from 0 to 1.

    Returns
    -------
    dict of str to Metric
        Resolutions by the names of their columns, of predictions of `judged_sample`.
    """
    metrics = {}
    for name, task in judged_tasks().items():
        label, resolution = _resolution_of(task)
        metrics[label] = resolution._replace(
            prediction=f"{name}_ranked", compute=_of_kept(resolution, share)
        )
    return metrics


def _resolution_of(task):
    return next(iter(task.metrics.items()))


def _of_kept(metric, share):
    """Make the function that computes a metric of the events that are kept."""

    def compute(ranked, energy, is_gamma, weights, cut):
        deviation, rank = ranked.T
        kept = kept_weights(rank.astype(int), weights, share)
        # Fewer events are faster to sort.
        arrays = (a[kept > 0] for a in (deviation, energy, is_gamma, kept))
        return metric.compute(*arrays, cut)

    return compute


def _best_half(metric):
    half, everything = _of_kept(metric, 0.5), _of_kept(metric, 1.0)

    def compute(*arguments):
        value = everything(*arguments)
        return half(*arguments) / value if value > 0 else np.nan

    return compute


def kept_weights(rank, weights, share):
    """Weight events such that those of the lowest ranks are kept.

    Parameters
    ----------
    rank : numpy.ndarray
        Ranks of the events from 0, shape (n,), int. Events of the same rank are kept
        to the same part: no order is made up among them.
    weights : numpy.ndarray
        Weights of the events, shape (n,).
    share : float
        Share of the weight that is kept, from 0 to 1.

    Returns
    -------
    numpy.ndarray
        Weights of which the sum is this share, shape (n,).
    """
    of_rank = np.bincount(rank, weights=weights)
    total = np.cumsum(of_rank)
    left = share * total[-1] - (total - of_rank)
    part = np.divide(left, of_rank, out=np.zeros_like(left), where=of_rank > 0)
    return weights * np.clip(part, 0, 1)[rank]


def judged_sample(sample):
    """Replace predictions by pulls, and by deviations with the ranks of their sizes.

    Parameters
    ----------
    sample : Sample
        Events with predictions and their uncertainties.

    Returns
    -------
    Sample
        The same events. Predictions are ``TASK_pull``, shape (1 + n_members, n_events),
        and ``TASK_ranked``, shape (1 + n_members, n_events, 2): what `Task.compare`
        returns, and the rank of its predicted size from 0; NaN if the uncertainty is
        not known.
    """
    return replace(sample, algorithms=[_judged(a) for a in sample.algorithms])


def _judged(algorithm):
    judged = {}
    for name, size in algorithm.sizes.items():
        judged[f"{name}_pull"] = algorithm.pulls[name]
        deviation = algorithm.predictions[TASKS[name].compared]
        ranked = np.stack([deviation, [_rank(row) for row in size]], axis=-1)
        ranked[~np.isfinite(ranked).all(axis=-1)] = np.nan
        judged[f"{name}_ranked"] = ranked
    return replace(algorithm, predictions=judged)


def _rank(size):
    """Ranks of sizes from 0, the same for the same size; NaN if it is not known."""
    rank = np.full(len(size), np.nan)
    known = np.isfinite(size)
    _, rank[known] = np.unique(size[known], return_inverse=True)
    return rank


def has_uncertainties(sample):
    """Check whether any uncertainty is predicted.

    Parameters
    ----------
    sample : Sample
        As `judged_sample` returns it.

    Returns
    -------
    bool
        Whether there is one.
    """
    return any(algorithm.provided for algorithm in sample.algorithms)


def count_known(table, sample):
    """Count the gammas whose uncertainties are known.

    Parameters
    ----------
    table : astropy.table.Table
        Table of algorithms, in their order.
    sample : Sample
        As `judged_sample` returns it.

    Returns
    -------
    astropy.table.Table
        The same with a column ``TASK_known`` for each task that has uncertainties.
    """
    is_gamma = np.asarray(sample.events["label"]) == 0
    nothing = np.full((1, len(is_gamma)), np.nan)
    table = table.copy()
    for name in judged_tasks():
        key = f"{name}_pull"
        if any(key in a.predictions for a in sample.algorithms):
            pulls = [a.predictions.get(key, nothing)[0] for a in sample.algorithms]
            table[f"{name}_known"] = Column(
                [np.isfinite(pull[is_gamma]).sum() for pull in pulls],
                description=f"number of gammas with a predicted uncertainty of {name}",
            )
    return table


def summarise_uncertainties(overall):
    """Put the metrics of all gammas into a table.

    Parameters
    ----------
    overall : astropy.table.Table
        ``uncertainty_overall`` from `evaluate`.

    Returns
    -------
    astropy.table.Table
        Text. A row for each algorithm and each property with known uncertainties:
        numbers of gammas, values and their statistical errors.
    """
    rows = [
        (
            row["algorithm"],
            task,
            str(row[f"{task}_known"]),
            str(row["n_gammas"] - row[f"{task}_known"]),
            *(_cell(row, f"{task}_{metric}") for metric in _SUMMARY),
        )
        for row in overall
        for task in judged_tasks()
        if f"{task}_known" in overall.colnames and row[f"{task}_known"] > 0
    ]
    names = ["Algorithm", "Property", "Gammas", "Without", *_SUMMARY.values()]
    return Table(rows=rows or None, names=names, dtype=[str] * len(names))


def _cell(row, name):
    known = name in row.colnames
    return with_spread(row[name], row[f"{name}_error"]) if known else "–"
