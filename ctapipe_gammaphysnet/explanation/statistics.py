"""Where maps lie, event by event and over a sample.

For each heatmap: its shares in the pixels with light of the shower, in the cleaned
image and at the camera's edge, and the distance of its centroid from the shower's. Over
all members: how similar their heatmaps are.
"""

import itertools

import astropy.units as u
import numpy as np
from astropy.table import Column, Table

from ..evaluation.networks import to_quantities
from ..evaluation.predictions import compare_to_truth
from ..tasks import TASKS
from .heatmaps import all_outputs
from .images import keys_of_events

__all__ = [
    "BINNED",
    "STATISTICS",
    "agreement",
    "centroid",
    "describe_events",
    "describe_maps",
    "errors_of",
    "share",
    "summarise",
]

#: Statistics of a heatmap, with labels for figures. For comparison: each share of a
#: heatmap that is the same everywhere is that of the camera's area.
STATISTICS = {
    "share_true": "Share in pixels with true signal",
    "share_cleaned": "Share in the cleaned image",
    "share_edge": "Share at the camera's edge",
    "distance": "Centroid to shower's / length",
    "agreement": "Agreement of members (cosine)",
}
#: Quantities that events are binned in: column of the events, label for figures,
#: whether the bins are logarithmic. The error is that of the output itself.
BINNED = {
    "energy": ("true_energy", "True energy / TeV", True),
    "leakage": ("leakage", "Leakage (2 pixels)", False),
    "error": (None, "Error, in quantiles", False),
}
#: Rings of pixels at the camera's edge, as for ctapipe's leakage of width 2.
_EDGE = 2
#: Number of bins, with the same number of events in each.
_N_QUANTILES = 5


def share(maps, pixels):
    """Compute the share of maps in some pixels.

    Parameters
    ----------
    maps : numpy.ndarray
        Maps that are not negative, shape (..., n, n_pixels).
    pixels : numpy.ndarray
        Mask of these pixels, shape (n, n_pixels) or (n_pixels,), bool.

    Returns
    -------
    numpy.ndarray
        The share of their sum, shape (..., n); NaN for maps that are 0 everywhere.
    """
    return _divide((maps * pixels).sum(axis=-1), maps.sum(axis=-1))


def centroid(maps, positions):
    """Compute the centroids of maps.

    Parameters
    ----------
    maps : numpy.ndarray
        Maps that are not negative, shape (..., n_pixels).
    positions : numpy.ndarray
        Positions of the pixels, shape (n_pixels, 2).

    Returns
    -------
    numpy.ndarray
        In the unit of the positions, shape (..., 2); NaN for maps that are 0
        everywhere.
    """
    return _divide(maps @ positions, maps.sum(axis=-1, keepdims=True))


def agreement(maps):
    """Compute how similar the maps of members are.

    Parameters
    ----------
    maps : numpy.ndarray
        Maps, shape (n_members, ..., n_pixels).

    Returns
    -------
    numpy.ndarray
        Cosine similarity, ``a·b / (|a| |b|)``, averaged over all pairs of members,
        shape (...): 1 if maps differ by factors only. NaN with a single member, or if a
        map is 0 everywhere.
    """
    unit = _divide(maps, np.linalg.norm(maps, axis=-1, keepdims=True))
    pairs = list(itertools.combinations(unit, 2))
    if not pairs:
        return np.full(maps.shape[1:-1], np.nan)
    return np.mean([(a * b).sum(axis=-1) for a, b in pairs], axis=0)


def _divide(values, by):
    """Quotient, NaN for division by 0."""
    by = np.asarray(by)
    return np.divide(values, np.where(by > 0, by, np.nan))


def describe_events(batch):
    """Describe events, in a table that those of all models refer to.

    Parameters
    ----------
    batch : Batch
        The images.

    Returns
    -------
    astropy.table.Table
        The `KEYS`, ``label``, ``true_energy`` in TeV, ``intensity``, ``leakage``, and
        the shares of the camera's pixels that have true signal, survive the cleaning,
        and lie at the edge: ``area_true``, ``area_cleaned``, ``area_edge``.
    """
    events = keys_of_events(batch.events)
    events["label"] = np.asarray(batch.events["label"])
    energy = batch.events["true_energy"].to_value(u.TeV)
    events["true_energy"] = Column(energy, unit="TeV")
    events["intensity"] = np.asarray(batch.events["intensity"])
    events["leakage"] = np.asarray(batch.events["leakage"])
    for name, pixels in _places(batch).items():
        area = np.broadcast_to(pixels, batch.image.shape).mean(axis=1)
        events[f"area_{name}"] = area
    return events


def _places(batch):
    """Pixels in which shares are computed; without true images NaN."""
    true = np.full(batch.image.shape, np.nan)
    if batch.true_image is not None:
        true = batch.true_image > 0
    return {
        "true": true,
        "cleaned": batch.image_mask,
        "edge": batch.geometry.get_border_pixel_mask(_EDGE),
    }


def describe_maps(batch, maps):
    """Compute the statistics of heatmaps.

    Parameters
    ----------
    batch : Batch
        The images.
    maps : Maps
        The maps of one model.

    Returns
    -------
    astropy.table.Table
        The `KEYS`. For each output and each of the `STATISTICS` a column, for example
        ``energy_share_edge``, shape (n, n_members), or ``energy_agreement``, shape
        (n,). For each prediction the errors of the mean and of the members, for example
        ``error_energy`` and ``member_error_energy``, as `errors_of` returns them.
    """
    table = keys_of_events(batch.events)
    cog = np.column_stack([batch.events["cog_x"], batch.events["cog_y"]])
    length = np.asarray(batch.events["length"])
    places = _places(batch)
    for output, heatmaps in maps.heatmaps.items():
        for name, pixels in places.items():
            table[f"{output}_share_{name}"] = share(heatmaps, pixels).T
        offset = centroid(heatmaps, batch.pixels) - cog
        distance = np.linalg.norm(offset, axis=-1)
        table[f"{output}_distance"] = _divide(distance, length).T
        table[f"{output}_agreement"] = agreement(heatmaps)
    for name, rows in errors_of(batch, maps.predictions).items():
        table[f"error_{name}"] = rows[0]
        members = rows[1:] if len(rows) > 1 else rows
        table[f"member_error_{name}"] = members.T
    return table


def errors_of(batch, predictions):
    """Compute the errors of predictions of the network alone, without axes of images.

    Parameters
    ----------
    batch : Batch
        The images.
    predictions : dict of str to numpy.ndarray
        As `Predictor` returns them.

    Returns
    -------
    dict of str to numpy.ndarray
        By the ``error`` of each task: ``energy``, \\|E/E_true - 1\\|; ``separation``
        from the true direction in deg; ``impact``, distance from the true impact point
        in m; ``class``, distance of the gammaness from 1 for gammas and from 0 for
        others. Shape (n_rows, n): the mean prediction, then the members if there are
        several. NaN without truth; for other particles than gammas all but ``class``.
    """
    events = batch.events
    quantities = to_quantities(
        predictions,
        events["pointing_alt"],
        events["pointing_az"],
        events["position"],
        events["altitude"] if "altitude" in events.colnames else None,
    )
    compared = compare_to_truth(quantities, events)
    is_gamma = np.asarray(events["label"]) == 0
    errors = {}
    for name, task in TASKS.items():
        if task.optional and name not in predictions:
            continue
        rows = np.full_like(next(iter(compared.values())), np.nan)
        if task.compared in compared:
            rows = task.error_of(compared[task.compared], events)
        known = is_gamma if task.of_gammas else np.full(len(events), True)
        errors[task.error] = np.where(known, rows, np.nan)
    return errors


def summarise(events, tables, n_bins=_N_QUANTILES):
    """Average statistics over events, of each member, all together and in bins.

    Parameters
    ----------
    events : astropy.table.Table
        As `describe_events` returns them.
    tables : dict of str to astropy.table.Table
        For each model the statistics, as `describe_maps` returns them.
    n_bins : int
        Number of bins, of equally many events, in energy, leakage and error.

    Returns
    -------
    dict of str to astropy.table.Table
        ``overall``, and those of the `BINNED` with truth: a row for each model, output,
        statistic and bin. Each member is averaged over the events, distances by their
        median; ``mean`` is the mean of the members, ``members_std`` their standard
        deviation (NaN with a single one). ``event_std`` is the members' standard
        deviation in one event, averaged over the events. ``empty`` is the share of maps
        that are 0 everywhere and do not count; if all are, ``mean`` is NaN. ``area`` is
        the share of a map that is the same everywhere.
    """
    results = {"overall": _rows(events, tables, None, 1)}
    results |= {name: _rows(events, tables, name, n_bins) for name in BINNED}
    return {name: Table(rows) for name, rows in results.items() if rows}


def _rows(events, tables, binning, n_bins):
    rows = []
    for model, table in tables.items():
        outputs = [
            name for name in all_outputs() if f"{name}_share_edge" in table.colnames
        ]
        for output in outputs:
            bins = _bins(events, table, binning, output, n_bins)
            for (low, high, chosen), statistic in itertools.product(bins, STATISTICS):
                average = np.median if statistic == "distance" else np.mean
                values = np.asarray(table[f"{output}_{statistic}"])[chosen]
                edge = np.asarray(table[f"{output}_share_edge"])[chosen]
                found = _average(values, average)
                found["empty"] = _empty_share(values, edge)
                found["area"] = _area(events, statistic, chosen)
                if not _is_known(statistic, found):
                    continue
                rows.append(
                    {
                        "model": model,
                        "output": output,
                        "statistic": statistic,
                        "low": low,
                        "high": high,
                        "n_events": int(chosen.sum()),
                    }
                    | found
                )
    return rows


def _area(events, statistic, chosen):
    """Share of the camera in the pixels of a statistic; NaN if it has none."""
    column = f"area_{statistic.removeprefix('share_')}"
    return events[column][chosen].mean() if column in events.colnames else np.nan


def _is_known(statistic, found):
    """Whether there is a result, even if it is that all maps are empty."""
    has_place = np.isfinite(found["area"]) or not statistic.startswith("share_")
    return np.isfinite(found["mean"]) or (has_place and found["empty"] == 1)


def _bins(events, table, binning, output, n_bins):
    """Edges of the bins and masks of their events; none if nothing is known."""
    if binning is None:
        return [(np.nan, np.nan, np.ones(len(events), bool))]
    column, _, _ = BINNED[binning]
    if column is None:
        error = TASKS[all_outputs()[output].task].error
        values = np.asarray(table[f"error_{error}"])
    else:
        values = np.asarray(events[column])
    known = np.isfinite(values)
    if not known.any():
        return []
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, n_bins + 1)))
    number = np.searchsorted(edges[1:-1], values, side="right")
    return [
        (low, high, known & (number == i))
        for i, (low, high) in enumerate(itertools.pairwise(edges))
    ]


def _average(values, average):
    """Average over events of each member, then over members, and their deviations."""
    values = values.reshape(len(values), -1)
    known = np.isfinite(values)
    members = [
        average(column[is_known])
        for column, is_known in zip(values.T, known.T, strict=True)
        if is_known.any()
    ]
    events = [
        row[is_known].std(ddof=1)
        for row, is_known in zip(values, known, strict=True)
        if is_known.sum() > 1
    ]
    return {
        "mean": np.mean(members) if members else np.nan,
        "members_std": np.std(members, ddof=1) if len(members) > 1 else np.nan,
        "event_std": np.mean(events) if events else np.nan,
    }


def _empty_share(values, share_edge):
    """Share of maps whose statistic is unknown because they are 0 everywhere.

    The share at the camera's edge is unknown for these maps only.
    """
    is_empty = np.isnan(share_edge)
    if values.ndim == 1:
        # The agreement of all members; a single one has none.
        if share_edge.shape[1] < 2:
            return np.nan
        is_empty = is_empty.any(axis=1)
    return float((np.isnan(values) & is_empty).mean())
