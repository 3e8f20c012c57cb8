"""Simulated telescope events with their truth."""

import astropy.units as u
import numpy as np
from astropy.table import Column, QTable, Table, vstack
from ctapipe.core import ToolConfigurationError
from ctapipe.io import read_table

from ..events.dl1_array import subarray_of
from ..events.dl1_format import (
    PARAMETERS,
    SHOWER_COLUMNS,
    SHOWERS,
    TRIGGER,
    check_parameter_table,
    check_table,
    of_telescope,
    trigger_columns,
)
from ..events.dl1_keys import check_keys, check_unique
from ..events.quality import INTENSITY
from ..events.showers import shower_numbers
from ..files.input_file import open_input, reading
from ..training.index import check_particles, check_truth

__all__ = [
    "EvaluationError",
    "find_rows",
    "find_showers",
    "keys_of",
    "merge_telescopes",
    "read_events",
]

#: Units of the columns of an event, and what they are.
_DESCRIPTIONS = {
    "obs_id": (None, "number of the observation"),
    "event_id": (None, "number of the event"),
    "tel_id": (None, "telescope; 0: the array"),
    "label": (None, "0: gamma, 1: background"),
    "shower": (None, "number of the simulated shower"),
    "true_energy": (u.TeV, "true energy"),
    "true_alt": (u.deg, "true altitude"),
    "true_az": (u.deg, "true azimuth"),
    "true_core_x": (u.m, "true impact point in the GroundFrame, x"),
    "true_core_y": (u.m, "true impact point in the GroundFrame, y"),
    "intensity": (None, "light in the image in photoelectrons; of the array: in all"),
}


class EvaluationError(ToolConfigurationError, ValueError):
    """Something cannot be evaluated; the message says why."""


def find_rows(keys, table, where):
    """Find rows of a table by their keys.

    Parameters
    ----------
    keys : numpy.ndarray
        What to find, shape (n, n_keys), int.
    table : numpy.ndarray
        Where to find it, shape (m, n_keys), int.
    where : str
        What to call the table in messages.

    Returns
    -------
    numpy.ndarray
        For each key the row in the table, or -1 if it is not there, shape (n,), int.

    Raises
    ------
    EvaluationError
        If the table has the same keys twice.
    """
    _, number = np.unique(np.concatenate([keys, table]), axis=0, return_inverse=True)
    number = number.reshape(-1)
    in_table = number[len(keys) :]
    if len(np.unique(in_table)) < len(in_table):
        raise EvaluationError(
            f"{where} has the same event twice: give files of the same run one by one, "
            "not merged"
        )
    row = np.full(len(number), -1)
    row[in_table] = np.arange(len(table))
    return row[number[: len(keys)]]


def read_events(path, label, quality_query, tel_ids):
    """Read the telescope events of a file with their truth.

    Parameters
    ----------
    path : pathlib.Path
        A ctapipe file of simulations: DL1, DL2 or both.
    label : {0, 1}
        0 if it is of gammas, 1 if it is of background.
    quality_query : ImageQualityQuery
        Selects them by their DL1 parameters, where the file has them, and counts them.
    tel_ids : collection of int
        Telescopes that are of interest.

    Returns
    -------
    astropy.table.Table
        A row for each telescope event; without DL1 parameters the intensity is NaN.

    Raises
    ------
    EvaluationError
        If the file has no simulated showers.
    DL1FileError
        If it cannot be read.
    """
    with open_input(path) as file:
        if SHOWERS not in file:
            raise EvaluationError(
                f"{path} has no simulated showers: the truth of simulations is needed"
            )
        check_table(path, file, SHOWERS, SHOWER_COLUMNS)
        with reading(path):
            showers = read_table(file, SHOWERS, table_cls=QTable)
        triggered = _triggered_events(path, file, tel_ids)
        if PARAMETERS in file:
            events = _select_images(path, file, quality_query, triggered)
        else:
            events = _all_events(triggered)
    check_particles(path, showers["true_shower_primary_id"], label)
    return _with_truth(events, *find_showers(path, events, showers), label)


def find_showers(path, events, showers):
    """Find the simulated shower of each event, and check its truth.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    events : astropy.table.Table
        Events of a file, with their ``obs_id`` and ``event_id``, n rows.
    showers : astropy.table.QTable
        The simulated showers of the same file, with the `SHOWER_COLUMNS`.

    Returns
    -------
    showers : astropy.table.QTable
        That of each event, n rows.
    number : numpy.ndarray
        Its number, as `shower_numbers` gives it, shape (n,), uint64.

    Raises
    ------
    EvaluationError
        If there is none.
    TrainingDataError
        If its truth is not known.
    """
    rows = find_rows(keys_of(events), keys_of(showers), f"{path}: {SHOWERS}")
    if len(rows) > 0 and rows.min() < 0:
        raise EvaluationError(f"{path}: {SHOWERS} does not have all of its events")
    showers = showers[rows]
    check_truth(path, showers)
    return showers, shower_numbers(showers)


def keys_of(table, names=("obs_id", "event_id")):
    """Take the keys of the rows of a table.

    Parameters
    ----------
    table : astropy.table.Table
        The table.
    names : sequence of str
        Columns of integers.

    Returns
    -------
    numpy.ndarray
        Their values, shape (n, n_keys), int64.
    """
    return np.column_stack([np.asarray(table[name], dtype=np.int64) for name in names])


def _triggered_events(path, file, tel_ids):
    """Keys of the events that each telescope triggered, shape (n, 2)."""
    subarray = subarray_of(path, file, "EQUIVALENT")
    check_table(path, file, TRIGGER, trigger_columns(len(subarray.tel_ids)))
    with reading(path):
        trigger = read_table(file, TRIGGER)
    keys, has_triggered = keys_of(trigger), np.asarray(trigger["tels_with_trigger"])
    check_unique(path, *keys.T)
    return {
        tel_id: keys[has_triggered[:, subarray.tel_indices[tel_id]]]
        for tel_id in tel_ids
    }


def _select_images(path, file, quality_query, triggered):
    """Telescope events whose images pass the selection."""
    parts = []
    for tel_id, keys in triggered.items():
        node = of_telescope(PARAMETERS, tel_id)
        if len(keys) == 0 and node not in file:
            continue
        check_parameter_table(path, file, node)
        with reading(path):
            parameters = read_table(file, node, table_cls=QTable)
        check_keys(path, node, parameters, tel_id, *keys.T)
        parameters = parameters[quality_query.mask(parameters, path)]
        intensity = _intensity(path, parameters)
        parts.append(_telescope_events(keys_of(parameters), tel_id, intensity))
    return vstack(parts) if parts else _all_events({})


def _intensity(path, parameters):
    for name in INTENSITY:
        if name in parameters.colnames:
            return np.asarray(parameters[name], dtype=float)
    raise EvaluationError(
        f"{path}: its DL1 parameters have no {INTENSITY[0]}: make it with "
        "'ctapipe-process --write-parameters'"
    )


def _all_events(triggered):
    """All telescope events."""
    keys = np.concatenate([np.empty((0, 2), np.int64), *triggered.values()])
    tel_id = np.repeat(list(triggered), [len(k) for k in triggered.values()])
    return _telescope_events(keys, tel_id, np.nan)


def _telescope_events(keys, tel_id, intensity):
    n_events = len(keys)
    return Table(
        {
            "obs_id": keys[:, 0],
            "event_id": keys[:, 1],
            "tel_id": np.full(n_events, tel_id, dtype=np.int64),
            "intensity": np.full(n_events, intensity, dtype=float),
        }
    )


def _with_truth(events, showers, number, label):
    events["label"] = np.full(len(events), label)
    events["shower"] = number
    for name, (unit, _) in _DESCRIPTIONS.items():
        if name.startswith("true_"):
            events[name] = showers[name].to_value(unit).astype(float)
    return Table(
        [
            Column(np.asarray(events[name]), name, unit=unit, description=description)
            for name, (unit, description) in _DESCRIPTIONS.items()
        ]
    )


def merge_telescopes(events):
    """Make events of the array from those of the telescopes.

    Parameters
    ----------
    events : astropy.table.Table
        Telescope events, as `read_events` gives them.

    Returns
    -------
    merged : astropy.table.Table
        Events of the array, with the light of all their telescopes.
    number : numpy.ndarray
        Which of them each telescope event belongs to, shape (n,), int.
    """
    _, first, number = np.unique(
        keys_of(events), axis=0, return_index=True, return_inverse=True
    )
    number = number.reshape(-1)
    merged = events[first]
    merged["tel_id"] = 0
    known = np.isfinite(events["intensity"])
    total = np.bincount(
        number[known], weights=events["intensity"][known], minlength=len(merged)
    )
    merged["intensity"] = np.where(total > 0, total, np.nan)
    return merged, number
