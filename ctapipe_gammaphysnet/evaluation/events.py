"""Simulated telescope events with their truth."""

import astropy.units as u
import numpy as np
from astropy.table import Column, Table
from ctapipe.core import ToolConfigurationError

from ..events.opening import open_events
from ..events.telescope_events import telescope_events
from ..tasks import TASKS

__all__ = [
    "EvaluationError",
    "find_rows",
    "keys_of",
    "merge_telescopes",
    "read_events",
]

#: Events of the array that are read at once.
_CHUNK = 5000
#: Columns of an event: their types, units, and what they are.
_COLUMNS = {
    "obs_id": (int, None, "number of the observation"),
    "event_id": (int, None, "number of the event"),
    "tel_id": (int, None, "telescope; 0: the array"),
    "row": (int, None, "row of the image among all of the telescope"),
    "pointing_alt": (float, u.deg, "altitude of the telescope's pointing"),
    "pointing_az": (float, u.deg, "azimuth of the telescope's pointing"),
    "label": (int, None, "0: gamma, 1: background"),
    "shower": (np.uint64, None, "number of the simulated shower"),
    "true_energy": (float, u.TeV, "true energy"),
    "true_alt": (float, u.deg, "true altitude"),
    "true_az": (float, u.deg, "true azimuth"),
    "true_core_x": (float, u.m, "true impact point in the GroundFrame, x"),
    "true_core_y": (float, u.m, "true impact point in the GroundFrame, y"),
    "intensity": (
        float,
        None,
        "light in the image in photoelectrons; of the array: in all",
    ),
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


def read_events(path, label, quality_query, tel_ids, tasks=(), atmosphere=None):
    """Read the telescope events of a file with their truth.

    Parameters
    ----------
    path : pathlib.Path
        A file of simulations: DL1, DL2 or both.
    label : {0, 1}
        0 if it is of gammas, 1 if it is of background.
    quality_query : ImageQualityQuery
        Selects them by their DL1 parameters, where the file has them, and counts them.
    tel_ids : collection of int
        Telescopes that are of interest.
    tasks : collection of str
        Optional tasks whose truth must be known.
    atmosphere : ctapipe.atmosphere.AtmosphereDensityProfile, optional
        The atmosphere of the showers; by default that of the file.

    Returns
    -------
    astropy.table.Table
        A row for each telescope event, telescope after telescope; without DL1
        parameters the intensity is NaN.

    Raises
    ------
    EvaluationError
        If the file has no simulated showers, or does not say what must be known.
    DL1FileError
        If it cannot be read, or its particles or truth are not what they must be.
    """
    truth = {name: TASKS[task] for task in tasks for name in TASKS[task].truth}
    with open_events(path, "EQUIVALENT", needed=()) as reader:
        if not reader.has_truth:
            raise EvaluationError(
                f"{path} has no simulated showers: the truth of simulations is needed"
            )
        parts = list(
            telescope_events(
                reader,
                tel_ids,
                quality_query,
                _CHUNK,
                parameters=["intensity"],
                label=label,
                atmosphere=atmosphere,
                truth=truth,
            )
        )
    for name, task in truth.items():
        if parts and name not in parts[0].colnames:
            raise EvaluationError(
                f"{path} does not say the {name} of its showers: {task.advice}"
            )
    optional = {name: (float, *task.truth[name]) for name, task in truth.items()}
    events = _join(parts, _COLUMNS | optional)
    return events[np.lexsort((events["row"], events["tel_id"]))]


def _join(parts, descriptions):
    """A table of telescope events from parts of it, of which there may be none."""
    columns = []
    for name, (dtype, unit, description) in descriptions.items():
        values = [
            part[name] if unit is None else part[name].to_value(unit) for part in parts
        ]
        values = np.concatenate([np.empty(0, dtype), *values], dtype=dtype)
        columns.append(Column(values, name, unit=unit, description=description))
    return Table(columns)


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
