"""Predictions of telescopes: combined into those of the array, compared with the truth.

The predictions of all algorithms become the same arrays, with a row for each member of
a model or a single one, so that algorithms can be compared on the same events.
"""

import astropy.units as u
import numpy as np
from astropy.table import Column, Table

from ..dl2.combination import combine_table, default_combiner, make_combiners
from ..dl2.containers import PROPERTIES, group_names, needed_fields
from ..tasks import TASKS

__all__ = ["combine_telescopes", "compare_to_truth", "predicted_columns"]


def predicted_columns():
    """List the quantities that algorithms predict.

    Returns
    -------
    dict of str to (str, str, astropy.units.Unit)
        Kind of DL2 information, field of its container, and unit.
    """
    return {
        name: (kind, field, u.Unit(unit))
        for task in TASKS.values()
        for name, (kind, field, unit) in task.columns.items()
    }


def combine_telescopes(predictions, intensity, event, n_events):
    """Combine the telescopes' predictions into those of the array.

    As `GammaPhysNetReconstructor` does by default: the mean of valid energies and of
    gammaness, the mean direction, and the mean impact point, weighted by intensity.

    Parameters
    ----------
    predictions : dict of str to numpy.ndarray
        Predictions of telescope events, in the units of `read_dl2`, shape (n_rows, n).
    intensity : numpy.ndarray
        Intensity of their images, shape (n,).
    event : numpy.ndarray
        Number of their array events, shape (n,), int.
    n_events : int
        Number of array events.

    Returns
    -------
    dict of str to numpy.ndarray
        Predictions of the array, shape (n_rows, n_events).
    """
    order = np.argsort(event, kind="stable")
    intensity, event = intensity[order], event[order]
    shape = len(next(iter(predictions.values()))), n_events
    combined = {name: np.full(shape, np.nan) for name in predictions}
    all_combiners = make_combiners(PROPERTIES, "", default_combiner(have_errors=False))
    for row in range(shape[0]):
        one = {name: values[row, order] for name, values in predictions.items()}
        table = _telescope_table(one, intensity, event)
        for kind, combiners in all_combiners.items():
            array = combine_table(combiners, table, event, n_events, [0])
            for name, (of_kind, field, _) in predicted_columns().items():
                if of_kind == kind and field in array and name in combined:
                    combined[name][row] = array[field]
    return combined


def _telescope_table(predictions, intensity, event):
    """Telescope events in the form that combiners read, as if of one telescope."""
    table = Table({"event_id": event.astype(np.int64), "hillas_intensity": intensity})
    table["obs_id"] = table["tel_id"] = np.zeros(len(event), dtype=np.int64)
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
