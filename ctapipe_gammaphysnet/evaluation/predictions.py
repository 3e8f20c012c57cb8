"""Predictions of telescopes: combined into those of the array, compared with the truth.

The predictions of all algorithms become the same arrays, with a row for each member of
a model or a single one, so that algorithms can be compared on the same events.
"""

import astropy.units as u
import numpy as np
from astropy.table import Column, Table

from ..dl2.combination import combine_table, make_combiners
from ..dl2.containers import PROPERTIES, group_names, needed_fields
from ..tasks import TASKS

__all__ = [
    "combine_telescopes",
    "compare_to_truth",
    "compare_uncertainties",
    "predicted_columns",
]


def predicted_columns():
    """List the quantities that algorithms predict, and their uncertainties.

    Returns
    -------
    dict of str to (str, str, astropy.units.Unit)
        Kind of DL2 information, field of its container, and unit.
    """
    return {
        name: (kind, field, u.Unit(unit))
        for task in TASKS.values()
        for name, (kind, field, unit) in (task.columns | task.uncertainties).items()
    }


def combine_telescopes(predictions, intensity, tel_id, event, n_events, combiner):
    """Combine the telescopes' predictions into those of the array.

    Parameters
    ----------
    predictions : dict of str to numpy.ndarray
        Predictions of telescope events, in the units of `read_dl2`, shape (n_rows, n).
    intensity : numpy.ndarray
        Intensity of their images, shape (n,).
    tel_id : numpy.ndarray
        Their telescopes, shape (n,), int.
    event : numpy.ndarray
        Number of their array events, shape (n,), int.
    n_events : int
        Number of array events.
    combiner : str
        Name of a `StereoCombiner`.

    Returns
    -------
    dict of str to numpy.ndarray
        Predictions of the array, shape (n_rows, n_events).
    """
    order = np.argsort(event, kind="stable")
    intensity, tel_id, event = intensity[order], tel_id[order], event[order]
    tel_ids = np.unique(tel_id).tolist()
    shape = len(next(iter(predictions.values()))), n_events
    combined = {name: np.full(shape, np.nan) for name in predictions}
    all_combiners = make_combiners(PROPERTIES, "", combiner)
    for row in range(shape[0]):
        one = {name: values[row, order] for name, values in predictions.items()}
        table = _telescope_table(one, intensity, tel_id, event)
        for kind, combiners in all_combiners.items():
            array = combine_table(combiners, table, event, n_events, tel_ids)
            for name, (of_kind, field, _) in predicted_columns().items():
                if of_kind == kind and field in array and name in combined:
                    combined[name][row] = array[field]
    return combined


def _telescope_table(predictions, intensity, tel_id, event):
    """Telescope events in the form that combiners read."""
    table = Table({"event_id": event.astype(np.int64), "hillas_intensity": intensity})
    table["obs_id"] = np.zeros(len(event), dtype=np.int64)
    table["tel_id"] = tel_id.astype(np.int64)
    # Needed for the tilted impact point only.
    table["array_altitude"] = table["array_azimuth"] = np.nan * u.deg
    groups = group_names("")
    for name, (kind, field, unit) in predicted_columns().items():
        if name in predictions:
            column = f"{groups[kind]}_tel_{field}"
            table[column] = Column(predictions[name], unit=unit)
    for kind in PROPERTIES:
        needed = needed_fields(kind)
        known = [np.isfinite(table[f"{groups[kind]}_tel_{field}"]) for field in needed]
        table[f"{groups[kind]}_tel_is_valid"] = np.all(known, axis=0)
    return table


def compare_to_truth(predictions, events):
    """Compute how far predictions are from the truth.

    Parameters
    ----------
    predictions : dict of str to numpy.ndarray
        Predictions in the units of `read_dl2`, shape (n_rows, n_events).
    events : astropy.table.Table
        The events, as `read_events` returns them.

    Returns
    -------
    dict of str to numpy.ndarray
        For each task with known truth, as in `Algorithm`, shape (n_rows, n_events).
        NaN if not valid: not finite, an energy that is not positive, or a gammaness
        that is not between 0 and 1.
    """
    with np.errstate(invalid="ignore"):
        return {
            task.compared: task.compare(predictions, events)
            for task in TASKS.values()
            if set(task.truth) <= set(events.colnames)
        }


def compare_uncertainties(predictions, events):
    """Compute what was predicted of the errors, and how large these are beside it.

    Parameters
    ----------
    predictions, events : dict of str to numpy.ndarray, astropy.table.Table
        As for `compare_to_truth`.

    Returns
    -------
    sizes, pulls : dict of str to numpy.ndarray
        For each task with uncertainties and known truth, as `Task.uncertainty` and
        `Task.pull` return them.
    """
    tasks = {
        name: task
        for name, task in TASKS.items()
        if task.uncertainties and set(task.truth) <= set(events.colnames)
    }
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return (
            {name: task.uncertainty(predictions) for name, task in tasks.items()},
            {name: task.pull(predictions, events) for name, task in tasks.items()},
        )
