"""Metrics that are unknown in all bins or in some, and why."""

import numpy as np

from .metrics import all_metrics, metrics_in

__all__ = [
    "describe_gaps",
    "describe_sparse_bins",
    "describe_unjudged",
    "find_gaps",
]

_BINNED = {"energy": "true energy", "intensity": "intensity"}
_ALL_BINNED = _BINNED | {
    "zenith": "zenith angle",
    "offset": "offset",
    "noise": "noise",
}


def find_gaps(results, settings):
    """Find the metrics that are unknown in all bins, for all algorithms.

    Parameters
    ----------
    results : dict of str to astropy.table.Table
        As `evaluate` returns them.
    settings : Settings
        How they were computed.

    Returns
    -------
    dict of (str, str) to str
        The reason, by binning (``energy`` or ``intensity``) and name of the metric.
    """
    return {
        (binning, name): _reason(results, binning, name, settings)
        for binning in _BINNED
        for name in metrics_in(results["overall"])
        if not np.isfinite(results[binning][name]).any()
    }


def _reason(results, binning, name, settings):
    metric = all_metrics()[name]
    overall = results["overall"]
    n_gammas, n_background = overall["n_gammas"].max(), overall["n_background"].max()
    if n_gammas == 0:
        return "there are no gammas among the compared events"
    if metric.compares_classes and n_background == 0:
        return (
            "there is no background among the compared events: give it with "
            "--background"
        )
    numbers = _numbers(overall, metric)
    if numbers.max() >= settings.minimum and not np.isfinite(overall[name]).any():
        if name == "precision" and np.isfinite(overall["recall"]).any():
            return f"no event has a gammaness of at least {settings.cut:g}"
        return f"no algorithm has valid predictions of the {metric.prediction}"
    table = results[binning]
    if len(table) == 0:
        return f"the {_BINNED[binning]} of the events is not known"
    what = "gammas"
    if metric.compares_classes:
        what = "gammas and as many background events"
    fullest = _numbers(table, metric).max()
    if fullest == 0:
        both = "both gammas and background" if metric.compares_classes else what
        return f"no bin of {_BINNED[binning]} has {both}"
    if fullest < settings.minimum:
        return (
            f"no bin of {_BINNED[binning]} has {settings.minimum} {what} "
            f"(--min-events): the fullest has {fullest}"
        )
    return f"no bin of {_BINNED[binning]} with enough events has a finite value"


def _numbers(table, metric):
    """Number of events in each row, of the class that has fewer if both are needed."""
    gammas, background = (
        np.asarray(table[name]) for name in ("n_gammas", "n_background")
    )
    return np.minimum(gammas, background) if metric.compares_classes else gammas


def describe_gaps(gaps):
    """Describe gaps in sentences.

    Parameters
    ----------
    gaps : dict of (str, str) to str
        As `find_gaps` returns them.

    Returns
    -------
    list of str
        For each binning and reason what is not shown, and why.
    """
    by_reason = {}
    for (binning, name), reason in gaps.items():
        by_reason.setdefault((binning, reason), []).append(all_metrics()[name].label)
    return [
        f"{', '.join(labels)} against {_BINNED[binning]}: {reason}"
        for (binning, reason), labels in by_reason.items()
    ]


def describe_sparse_bins(results, settings):
    """Count the bins that have events, but too few for a value.

    Parameters
    ----------
    results : dict of str to astropy.table.Table
        As `evaluate` returns them.
    settings : Settings
        How they were computed.

    Returns
    -------
    list of str
        One text for each binning and class of events with such bins.
    """
    return [
        f"{n_sparse} of {n_bins} bins of {label} have fewer than {settings.minimum} "
        f"{what} (--min-events)"
        for binning, label in _ALL_BINNED.items()
        for column, what in (
            ("n_gammas", "gammas"),
            ("n_background", "background events"),
        )
        for n_sparse, n_bins in [_sparse(results[binning], column, settings.minimum)]
        if n_sparse > 0
    ]


def _sparse(table, column, minimum):
    """Number of sparse bins and of all bins, which are the same for any algorithm."""
    of_one = table[table["algorithm"] == table["algorithm"][0]] if len(table) else table
    numbers = np.asarray(of_one[column])
    return np.count_nonzero((numbers > 0) & (numbers < minimum)), len(of_one)


def describe_unjudged(results):
    """Say if no uncertainties are judged.

    Parameters
    ----------
    results : dict of str to astropy.table.Table
        As `evaluate` returns them.

    Returns
    -------
    list of str
        One text if there are none, else nothing.
    """
    if len(results["uncertainty_overall"]) > 0:
        return []
    return [
        "Coverage, pulls and resolution against the share of gammas kept: there are no "
        "uncertainties in these predictions"
    ]
