"""Predictions of telescopes: combined to those of the array, compared with the truth.

Whatever the algorithm, predictions become the same arrays, one row for each member of a
model or a single one, so that several algorithms can be compared on the same events.
"""

import astropy.units as u
import numpy as np
from astropy.coordinates import angular_separation
from astropy.table import Column, Table

from ..compat import PARTICLE_TYPE
from ..dl2.combination import combine_table, make_combiners
from ..dl2.containers import PROPERTIES, group_names, needed_fields

__all__ = ["COLUMNS", "combine_telescopes", "compare_to_truth"]

#: What algorithms predict: kind of DL2 information, field of its container, unit.
COLUMNS = {
    "energy": ("energy", "energy", u.TeV),
    "alt": ("geometry", "alt", u.deg),
    "az": ("geometry", "az", u.deg),
    "core_x": ("geometry", "core_x", u.m),
    "core_y": ("geometry", "core_y", u.m),
    "gammaness": (PARTICLE_TYPE, "prediction", u.one),
}


def combine_telescopes(predictions, intensity, event, n_events):
    """Combine predictions of telescopes to those of the array.

    As `GammaPhysNetReconstructor` does by default: the mean of valid energies and of
    gammaness, the mean direction, and the mean impact point, weighted by intensity.

    Parameters
    ----------
    predictions : dict of str to numpy.ndarray
        Of telescope events, in the units of `read_dl2`, shape (n_rows, n).
    intensity : numpy.ndarray
        Of their images, shape (n,).
    event : numpy.ndarray
        Event of the array of each, shape (n,), int.
    n_events : int
        Number of events of the array.

    Returns
    -------
    dict of str to numpy.ndarray
        Of the array, shape (n_rows, n_events).
    """
    order = np.argsort(event, kind="stable")
    intensity, event = intensity[order], event[order]
    combined = {
        name: np.full((len(v), n_events), np.nan) for name, v in predictions.items()
    }
    for row in range(len(predictions["energy"])):
        one = {name: values[row, order] for name, values in predictions.items()}
        table = _telescope_table(one, intensity, event)
        for kind, combiners in make_combiners(PROPERTIES, "").items():
            array = combine_table(combiners, table, event, n_events, [0])
            for name, (of_kind, field, _) in COLUMNS.items():
                if of_kind == kind and field in array:
                    combined[name][row] = array[field]
    return combined


def _telescope_table(predictions, intensity, event):
    """Telescope events as combiners take them, whichever telescopes they are of."""
    nowhere = Column(np.full(len(event), np.nan), unit=u.deg)
    table = Table(
        {
            "obs_id": np.zeros(len(event), dtype=np.int64),
            "event_id": event.astype(np.int64),
            "tel_id": np.zeros(len(event), dtype=np.int64),
            "hillas_intensity": intensity,
            # Of use for the tilted impact point only.
            "array_altitude": nowhere,
            "array_azimuth": nowhere,
        }
    )
    groups = group_names("")
    for name, (kind, field, unit) in COLUMNS.items():
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
        In the units of `read_dl2`, shape (n_rows, n_events).
    events : astropy.table.Table
        The events, as `read_events` gives them.

    Returns
    -------
    dict of str to numpy.ndarray
        As in `Algorithm`, shape (n_rows, n_events). What is not finite, an energy that
        is not positive, and a gammaness that is not between 0 and 1 are not valid: NaN.
    """
    true = {
        name: np.asarray(events[f"true_{name}"])
        for name in ("alt", "az", "core_x", "core_y")
    }
    energy, gammaness = predictions["energy"], predictions["gammaness"]
    with np.errstate(invalid="ignore"):
        is_energy = np.isfinite(energy) & (energy > 0)
        is_share = (gammaness >= 0) & (gammaness <= 1)
        separation = angular_separation(
            np.deg2rad(predictions["az"]),
            np.deg2rad(predictions["alt"]),
            np.deg2rad(true["az"]),
            np.deg2rad(true["alt"]),
        )
        impact = np.hypot(
            predictions["core_x"] - true["core_x"],
            predictions["core_y"] - true["core_y"],
        )
    return {
        "energy": np.where(is_energy, energy, np.nan),
        "separation": np.rad2deg(separation),
        "impact": np.where(np.isfinite(impact), impact, np.nan),
        "gammaness": np.where(is_share, gammaness, np.nan),
    }
