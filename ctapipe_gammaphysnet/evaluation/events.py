"""Simulated telescope events with their truth."""

import astropy.units as u
import numpy as np
from astropy.coordinates import angular_separation
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

#: Description of the column of the noise.
NOISE = (
    "noise of the pixels without light of the shower in photoelectrons; array: mean "
    "of all images"
)
#: Number of array events that are read at once.
_CHUNK = 5000
#: Columns of an event: type, unit and description.
_COLUMNS = {
    "obs_id": (int, None, "number of the observation"),
    "event_id": (int, None, "number of the event"),
    "tel_id": (int, None, "telescope; 0: the array"),
    "row": (int, None, "row of the image in the telescope's table"),
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
        "light in the image in photoelectrons; array: in all images",
    ),
    "axis_fov_lon": (float, None, "centre of the image in deg, fov_lon"),
    "axis_fov_lat": (float, None, "centre of the image in deg, fov_lat"),
    "axis_psi": (float, None, "angle of the image's axis in rad"),
    "axis_noise": (float, None, "error of this angle by fluctuations, in rad"),
}


class EvaluationError(ToolConfigurationError, ValueError):
    """Something cannot be evaluated; the message says why."""


def find_rows(keys, table, where):
    """Find rows of a table by their keys.

    Parameters
    ----------
    keys : numpy.ndarray
        The keys to find, shape (n, n_keys), int.
    table : numpy.ndarray
        Keys of the table, shape (m, n_keys), int.
    where : str
        Name of the table for messages.

    Returns
    -------
    numpy.ndarray
        For each key the row in the table, or -1 if it is missing, shape (n,), int.

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
        0 for gammas, 1 for background.
    quality_query : ImageQualityQuery
        Selects and counts images by their DL1 parameters, if the file has them.
    tel_ids : collection of int
        The telescopes to read.
    tasks : collection of str
        Optional tasks whose truth must be known.
    atmosphere : ctapipe.atmosphere.AtmosphereDensityProfile, optional
        The atmosphere of the showers; by default that of the file.

    Returns
    -------
    astropy.table.Table
        A row for each telescope event, telescope after telescope; without DL1
        parameters the intensity is NaN. The noise, which needs the images, is NaN.

    Raises
    ------
    EvaluationError
        If the file has no simulated showers, or lacks the truth of a task.
    DL1FileError
        If it cannot be read, has other particles than its label, or its truth is
        damaged.
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
                axes=True,
            )
        )
    for name, task in truth.items():
        if parts and name not in parts[0].colnames:
            raise EvaluationError(
                f"{path} does not say the {name} of its showers: {task.advice}"
            )
    optional = {name: (float, *task.truth[name]) for name, task in truth.items()}
    events = _join(parts, _COLUMNS | optional)
    _add_conditions(events)
    return events[np.lexsort((events["row"], events["tel_id"]))]


def _add_conditions(events):
    """Add under which conditions showers were seen, as far as their truth tells."""
    zenith = 90 * u.deg - events["pointing_alt"].quantity
    offset = angular_separation(
        events["true_az"].quantity,
        events["true_alt"].quantity,
        events["pointing_az"].quantity,
        events["pointing_alt"].quantity,
    )
    for name, values, unit, description in (
        ("zenith", zenith, u.deg, "angle between pointing and zenith"),
        ("offset", offset, u.deg, "angle between true direction and pointing"),
        ("noise", np.full(len(events), np.nan), None, NOISE),
    ):
        values = u.Quantity(values).to_value(unit or u.one)
        events[name] = Column(values, unit=unit, description=description)


def _join(parts, descriptions):
    """Join parts of a table of telescope events; there may be none."""
    columns = []
    for name, (dtype, unit, description) in descriptions.items():
        values = [
            part[name] if unit is None else part[name].to_value(unit) for part in parts
        ]
        values = np.concatenate([np.empty(0, dtype), *values], dtype=dtype)
        columns.append(Column(values, name, unit=unit, description=description))
    return Table(columns)


def keys_of(table, names=("obs_id", "event_id")):
    """Collect the keys of a table's rows.

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
    """Make array events from telescope events.

    Parameters
    ----------
    events : astropy.table.Table
        Telescope events, as `read_events` returns them.

    Returns
    -------
    merged : astropy.table.Table
        The array events, with the light of all their telescopes.
    number : numpy.ndarray
        Row of the array event of each telescope event, shape (n,), int.
    """
    _, first, number = np.unique(
        keys_of(events), axis=0, return_index=True, return_inverse=True
    )
    number = number.reshape(-1)
    merged = events[first]
    merged["tel_id"] = 0
    merged.remove_columns(
        [name for name in merged.colnames if name.startswith("axis_")]
    )
    known = np.isfinite(events["intensity"])
    total = np.bincount(
        number[known], weights=events["intensity"][known], minlength=len(merged)
    )
    merged["intensity"] = np.where(total > 0, total, np.nan)
    known = np.isfinite(events["noise"])
    count, total = (
        np.bincount(number[known], weights=weights, minlength=len(merged))
        for weights in (None, events["noise"][known])
    )
    merged["noise"] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return merged, number
