"""Tables of the metrics: overall, in bins, of each member, and along cuts."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from astropy.table import Column, Table
from pyirf.binning import calculate_bin_indices
from sklearn.metrics import roc_curve

from ..tasks.particle import CLASS
from .events import NOISE, EvaluationError
from .metrics import (
    all_metrics,
    compute_metric,
    dispersion,
    log_edges,
    resampled_showers,
)
from .uncertainty import (
    SHARES,
    count_known,
    has_uncertainties,
    judged_sample,
    kept_metrics,
    uncertainty_metrics,
)

__all__ = ["CONDITIONS", "Settings", "bin_edges", "evaluate"]

#: Columns that events are binned in, with unit and description.
_BINNED = {
    "energy": ("true_energy", "TeV", "true energy"),
    "intensity": ("intensity", "", "light in the image in photoelectrons"),
    "zenith": ("zenith", "deg", "angle between pointing and zenith"),
    "offset": ("offset", "deg", "angle between true direction and pointing"),
    "noise": ("noise", "", NOISE),
}
#: Widths of the bins of conditions, in the units of their columns.
CONDITIONS = {"zenith": 5.0, "offset": 0.5, "noise": 0.1}
#: Bins of a condition at most, from the lowest value up.
_MAX_BINS = 40
#: Shares of the background classified as gamma, at which ROC curves are computed.
_BACKGROUND = np.concatenate([np.geomspace(1e-4, 0.01, 41), np.linspace(0.02, 1, 99)])
_CUTS = np.linspace(0, 1, 101)
_GAMMANESS = np.linspace(0, 1, 51)


class Settings(NamedTuple):
    """How metrics are computed.

    Attributes
    ----------
    energy_edges : numpy.ndarray
        Edges of the bins in true energy in TeV.
    intensity_edges : numpy.ndarray
        Edges of the bins in intensity in photoelectrons.
    cut : float
        Smallest gammaness of events that are classified as gamma.
    minimum : int
        Minimum number of events in a bin, of each class that is needed.
    n_resamples : int
        Number of bootstrap samples.
    """

    energy_edges: np.ndarray
    intensity_edges: np.ndarray
    cut: float
    minimum: int
    n_resamples: int


def bin_edges(name, low, high, per_decade):
    """Make the bins in energy or intensity.

    Parameters
    ----------
    name : {"energy", "intensity"}
        What is binned, for messages.
    low, high, per_decade : float
        As for `log_edges`.

    Returns
    -------
    numpy.ndarray
        The edges, shape (n_bins + 1,).

    Raises
    ------
    EvaluationError
        If there is no bin.
    """
    if not 0 < low < high < np.inf:
        raise EvaluationError(
            f"the bins in {name} go from {low} to {high}: they must begin above 0, and "
            "end higher"
        )
    edges = log_edges(low, high, per_decade)
    if len(edges) < 2:
        raise EvaluationError(
            f"there is no bin in {name} between {low} and {high}, with {per_decade} "
            f"per decade: raise {name}_max or {name}_bins_per_decade"
        )
    return edges


def evaluate(sample, settings):
    """Compute all metrics of all algorithms and their members.

    Parameters
    ----------
    sample : Sample
        The events and their predictions.
    settings : Settings
        How metrics are computed.

    Returns
    -------
    dict of str to astropy.table.Table
        ``overall``, ``energy`` and ``intensity``: the metrics of each algorithm, for
        all events and in bins of true energy and of intensity, with their statistical
        errors and, for several members, their mean and dispersion. ``zenith``,
        ``offset`` and ``noise``: the same in bins of these conditions.
        ``members_overall`` and so on: those of each member. ``roc``, ``cuts`` and
        ``gammaness``: ROC curves, the effect of cuts on the gammaness, and its
        distributions. ``uncertainty_overall``, ``uncertainty_energy`` and
        ``uncertainty_intensity``: coverage and pulls of the predicted uncertainties;
        ``kept``: resolutions of the gammas that are left when those with the largest
        predicted errors are dropped. Without background ``roc``, ``cuts`` and
        ``gammaness`` have no rows; without intensities those of ``intensity`` have
        none, without a condition its table has none, and without uncertainties their
        tables have none.
    """
    edges = {
        "overall": None,
        "energy": settings.energy_edges,
        "intensity": settings.intensity_edges,
    }
    if not np.isfinite(sample.events["intensity"]).any():
        edges["intensity"] = settings.intensity_edges[:1]
    for name, width in CONDITIONS.items():
        edges[name] = _condition_edges(sample.events[name], width)
    results, metrics = {}, _metrics_of(sample, all_metrics())
    for name, its_edges in edges.items():
        results[name], results[f"members_{name}"] = _binned(
            sample, name, its_edges, settings, metrics
        )
    results |= _uncertainty(judged_sample(sample), edges, settings)
    results["roc"] = _roc(sample)
    results["cuts"] = _cuts(sample)
    results["gammaness"] = _distributions(sample)
    return results


def _condition_edges(values, width):
    """Edges of the bins around all known values, at multiples of the width."""
    known = np.asarray(values)[np.isfinite(values)]
    if len(known) == 0:
        return np.zeros(1)
    first, last = (int(limit // width) for limit in (known.min(), known.max()))
    return width * np.arange(first, min(last, first + _MAX_BINS - 1) + 2)


def _bins(sample, name, edges):
    """Rows of the events in each bin, and the columns with its edges."""
    if edges is None:
        return [np.arange(len(sample.events))], {}
    column, unit, description = _BINNED[name]
    index, _ = calculate_bin_indices(np.asarray(sample.events[column]), edges)
    if name in CONDITIONS:
        mean, centers = "mean", (edges[:-1] + edges[1:]) / 2
    else:
        mean, centers = "geometric mean", np.sqrt(edges[:-1] * edges[1:])
    columns = {
        f"{name}_low": Column(edges[:-1], unit=unit or None, description=description),
        f"{name}_high": Column(edges[1:], unit=unit or None, description=description),
        f"{name}_center": Column(
            centers,
            unit=unit or None,
            description=f"{description}, {mean} of the edges",
        ),
    }
    return [np.flatnonzero(index == i) for i in range(len(edges) - 1)], columns


class _Cell(NamedTuple):
    """A row for each algorithm: where it is, and the metrics of which events."""

    where: dict
    events: np.ndarray
    metrics: dict
    minimum: int


def _uncertainty(sample, edges, settings):
    """Tables of the predicted uncertainties; without any they have no rows."""
    if not has_uncertainties(sample):
        sample = replace(sample, algorithms=[])
    results, metrics = {}, _metrics_of(sample, uncertainty_metrics())
    for name in ("overall", "energy", "intensity"):
        table = f"uncertainty_{name}"
        results[table], results[f"members_{table}"] = _binned(
            sample, name, edges[name], settings, metrics
        )
    results["uncertainty_overall"] = count_known(results["uncertainty_overall"], sample)
    results["kept"], results["members_kept"] = _kept(sample, settings)
    return results


def _kept(sample, settings):
    """Tables of the resolutions of events with small predicted errors."""
    everything = np.arange(len(sample.events))
    cells = [
        _Cell(
            {"share": share},
            everything,
            _metrics_of(sample, kept_metrics(share)),
            int(np.ceil(settings.minimum / share)),
        )
        for share in SHARES
    ]
    columns = {
        "share": Column(
            SHARES, description="share of the gammas, of the smallest predicted errors"
        )
    }
    tables = _tables(sample, cells, columns, cells[0].metrics, settings)
    # Numbers of all events, not of those that are kept.
    tables[0].remove_columns(["n_gammas", "n_background"])
    return tables


def _binned(sample, name, edges, settings, metrics):
    """Tables of metrics in bins."""
    bins, columns = _bins(sample, name, edges)
    cells = [
        _Cell(
            {column: values[number] for column, values in columns.items()},
            events,
            metrics,
            settings.minimum,
        )
        for number, events in enumerate(bins)
    ]
    return _tables(sample, cells, columns, metrics, settings)


def _tables(sample, cells, columns, metrics, settings):
    """Table of the algorithms, table of members."""
    shower = np.asarray(sample.events["shower"])
    drawn, index = resampled_showers(shower, settings.n_resamples)
    rows, member_rows = [], []
    for algorithm in sample.algorithms:
        provided = algorithm.provided
        for cell in cells:
            values, members = _metrics(
                sample, algorithm, provided, cell, settings, drawn, index
            )
            rows.append({"algorithm": algorithm.name} | cell.where | values)
            member_rows += [
                {"algorithm": algorithm.name, "seed": seed} | cell.where | of_member
                for seed, of_member in zip(algorithm.seeds, members, strict=True)
            ]
    names = ["algorithm", *columns, *_metric_columns(metrics)]
    of_members = ["algorithm", "seed", *columns, *metrics]
    return (
        _table(rows, names, columns, metrics),
        _table(member_rows, of_members, columns, metrics),
    )


def _metrics(sample, algorithm, provided, cell, settings, drawn, index):
    """Metrics of some events, of an algorithm and of each of its members."""
    events = cell.events
    energy = np.asarray(sample.events["true_energy"])[events]
    is_gamma = np.asarray(sample.events["label"])[events] == 0
    weights = sample.weights[events]
    values = {"n_gammas": is_gamma.sum(), "n_background": (~is_gamma).sum()}
    members = [{} for _ in algorithm.seeds]
    for name, metric in cell.metrics.items():
        if metric.prediction not in provided:
            values |= dict.fromkeys(_columns_of(name), np.nan)
            for of_member in members:
                of_member[name] = np.nan
            continue
        whole, *others = algorithm.predictions[metric.prediction][:, events]
        arguments = energy, is_gamma, weights, settings.cut, cell.minimum
        # A single shower cannot be resampled.
        resamples = drawn if len(np.unique(index[events])) > 1 else ()
        value, error = compute_metric(
            metric, whole, *arguments, (times[index[events]] for times in resamples)
        )
        for of_member, prediction in zip(members, others, strict=True):
            of_member[name], _ = compute_metric(metric, prediction, *arguments)
        mean, deviation = dispersion(np.array([m[name] for m in members]))
        values |= dict(
            zip(_columns_of(name), (value, error, mean, deviation), strict=True)
        )
    return values, members


def _metrics_of(sample, metrics):
    """Metrics of the predictions that are compared with the truth."""
    compared = {name for a in sample.algorithms for name in a.predictions}
    return {n: m for n, m in metrics.items() if m.prediction in compared}


def _columns_of(name):
    return [name, f"{name}_error", f"{name}_members_mean", f"{name}_members_std"]


def _metric_columns(names):
    return ["n_gammas", "n_background", *(c for m in names for c in _columns_of(m))]


def _table(rows, names, bin_columns, metrics):
    """Table with units and descriptions, from rows."""
    table = Table({name: [row[name] for row in rows] for name in names})
    descriptions = {
        "algorithm": (None, "name of the algorithm"),
        "seed": (None, "seed of the member"),
        "n_gammas": (None, "number of gammas"),
        "n_background": (None, "number of background events"),
    }
    for name, column in bin_columns.items():
        descriptions[name] = column.unit, column.description
    for name, metric in metrics.items():
        texts = (
            metric.description,
            "statistical error by bootstrap over showers",
            "mean over the members",
            "standard deviation over the members",
        )
        for column, text in zip(_columns_of(name), texts, strict=True):
            if text != metric.description:
                text = f"{metric.label}: {text}"
            descriptions[column] = metric.unit or None, text
    for name in names:
        table[name].unit, table[name].description = descriptions[name]
    return table


def _curves(sample, abscissa, description, ordinates, compute):
    """Curves of all algorithms, with mean and dispersion of the members.

    ``compute`` turns a member's gammaness into an array, shape (n_ordinates, n).
    """
    is_gamma = np.asarray(sample.events["label"]) == 0
    columns = {"algorithm": [], description[0]: []}
    for name in ordinates:
        columns |= {key: [] for key in (name, f"{name}_members_mean")}
        columns[f"{name}_members_std"] = []
    has_both = is_gamma.any() and not is_gamma.all()
    for algorithm in sample.algorithms if has_both else []:
        if "gammaness" not in algorithm.provided:
            continue
        whole, *members = [
            compute(gammaness, is_gamma, sample.weights)
            for gammaness in algorithm.predictions["gammaness"]
        ]
        columns["algorithm"] += [algorithm.name] * len(abscissa)
        columns[description[0]] += abscissa.tolist()
        for number, name in enumerate(ordinates):
            unknown = np.full(len(abscissa), np.nan)
            mean = deviation = unknown
            if members:
                of_members = np.array([member[number] for member in members])
                mean = of_members.mean(axis=0)
                deviation = of_members.std(axis=0, ddof=1)
            columns[name] += whole[number].tolist()
            columns[f"{name}_members_mean"] += mean.tolist()
            columns[f"{name}_members_std"] += deviation.tolist()
    table = Table({name: np.array(values) for name, values in columns.items()})
    if not has_both:
        table["algorithm"] = table["algorithm"].astype(str)
    table["algorithm"].description = "name of the algorithm"
    table[description[0]].description = description[1]
    for name, text in ordinates.items():
        table[name].description = text
        table[f"{name}_members_mean"].description = f"{text}: mean over the members"
        table[
            f"{name}_members_std"
        ].description = f"{text}: standard deviation over the members"
    return table


def _roc(sample):
    def compute(gammaness, is_gamma, weights):
        background, gammas, _ = roc_curve(is_gamma, gammaness, sample_weight=weights)
        return [np.interp(_BACKGROUND, background, gammas)]

    return _curves(
        sample,
        _BACKGROUND,
        ("background_efficiency", "share of the background classified as gamma"),
        {"gamma_efficiency": "share of the gammas classified as gamma"},
        compute,
    )


def _cuts(sample):
    def compute(gammaness, is_gamma, weights):
        kept = [
            np.array([weights[of_class & (gammaness >= cut)].sum() for cut in _CUTS])
            for of_class in (is_gamma, ~is_gamma)
        ]
        with np.errstate(invalid="ignore"):
            return [kept[0] / (kept[0] + kept[1]), kept[0] / weights[is_gamma].sum()]

    return _curves(
        sample,
        _CUTS,
        ("cut", "smallest gammaness of events that are classified as gamma"),
        {name: CLASS.metrics[name].description for name in ("precision", "recall")},
        compute,
    )


def _distributions(sample):
    def compute(gammaness, is_gamma, weights):
        return [
            np.histogram(
                gammaness[of_class], _GAMMANESS, weights=weights[of_class], density=True
            )[0]
            for of_class in (is_gamma, ~is_gamma)
        ]

    return _curves(
        sample,
        0.5 * (_GAMMANESS[1:] + _GAMMANESS[:-1]),
        ("gammaness", "gammaness, in the middle of the bin"),
        {
            "gamma": "density of gammas, which integrates to 1",
            "background": "density of background, which integrates to 1",
        },
        compute,
    )
