"""Simulated events with their truth, and what is predicted of them.

Whatever the algorithm, predictions become the same arrays, one row for each member of a
model or a single one, so that several algorithms can be compared on the same events.
"""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import angular_separation
from astropy.table import Column, QTable, Table, vstack
from ctapipe.core import ToolConfigurationError
from ctapipe.io import read_table

from ..compat import PARTICLE_TYPE
from ..dl1_array import subarray_of
from ..dl1_format import (
    PARAMETERS,
    SHOWER_COLUMNS,
    SHOWERS,
    TRIGGER,
    check_parameter_table,
    check_table,
    of_telescope,
    trigger_columns,
)
from ..dl1_keys import check_keys, check_unique
from ..input_file import open_input, reading
from ..quality import INTENSITY
from ..stereo import combine_directions, intensity_weights, weighted_mean
from ..training.index import check_particles, check_truth
from ..training.showers import shower_numbers

__all__ = [
    "COLUMNS",
    "PREDICTIONS",
    "Algorithm",
    "EvaluationError",
    "combine_telescopes",
    "compare_to_truth",
    "count_valid",
    "find_groups",
    "find_rows",
    "keys_of",
    "merge_telescopes",
    "join_algorithms",
    "read_dl2",
    "read_events",
]

#: What is compared with the truth, and in which unit.
PREDICTIONS = {"energy": "TeV", "separation": "deg", "impact": "m", "gammaness": ""}
#: What algorithms predict: kind of DL2 information, field of its container, unit.
COLUMNS = {
    "energy": ("energy", "energy", u.TeV),
    "alt": ("geometry", "alt", u.deg),
    "az": ("geometry", "az", u.deg),
    "core_x": ("geometry", "core_x", u.m),
    "core_y": ("geometry", "core_y", u.m),
    "gammaness": (PARTICLE_TYPE, "prediction", u.one),
}
#: Names of the groups of a kind: files may be older than this ctapipe.
_GROUPS = {
    "energy": ("energy",),
    "geometry": ("geometry",),
    PARTICLE_TYPE: ("particle_type", "classification"),
}
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


@dataclass(frozen=True, eq=False)
class Algorithm:
    """Predictions of an algorithm.

    Attributes
    ----------
    name : str
        What it is called.
    seeds : tuple of int
        Seeds of its members; empty if there are not several.
    predictions : dict of str to numpy.ndarray
        Energy in TeV, angular separation from the true direction in deg, distance
        from the true impact point in m, gammaness; NaN where there is none, shape
        (1 + n_members, n_events). The first row is what the algorithm says, that is
        of several members their mean; then follow the members.
    """

    name: str
    seeds: tuple
    predictions: dict

    @property
    def provided(self):
        """Which predictions it makes at all."""
        return [
            k for k, values in self.predictions.items() if np.isfinite(values).any()
        ]

    @property
    def is_valid(self):
        """Events of which all that it predicts is known, shape (n_events,), bool."""
        known = [np.isfinite(self.predictions[k]).all(axis=0) for k in self.provided]
        n_events = self.predictions["energy"].shape[1]
        return np.all(known, axis=0) if known else np.zeros(n_events, dtype=bool)

    def select(self, rows):
        """Select events.

        Parameters
        ----------
        rows : numpy.ndarray
            A mask, shape (n_events,), bool, or numbers of rows.

        Returns
        -------
        Algorithm
            With these events only.
        """
        return Algorithm(
            self.name, self.seeds, {k: v[:, rows] for k, v in self.predictions.items()}
        )


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
    rows = find_rows(keys_of(events), keys_of(showers), f"{path}: {SHOWERS}")
    if len(rows) > 0 and rows.min() < 0:
        raise EvaluationError(f"{path}: {SHOWERS} does not have all of its events")
    check_truth(path, showers[rows])
    return _with_truth(events, showers[rows], label)


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
        parts.append(_telescope_events(parameters, tel_id, intensity))
    return vstack(parts) if parts else _telescope_events(_no_events(), 0, [])


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
    keys = np.concatenate([np.empty((0, 2), int), *triggered.values()])
    tel_id = np.repeat(list(triggered), [len(k) for k in triggered.values()])
    table = Table(keys, names=("obs_id", "event_id"))
    return _telescope_events(table, tel_id, np.full(len(keys), np.nan))


def _no_events():
    return Table({"obs_id": np.empty(0, int), "event_id": np.empty(0, int)})


def _telescope_events(table, tel_id, intensity):
    n_events = len(table)
    return Table(
        {
            "obs_id": np.asarray(table["obs_id"], dtype=np.int64),
            "event_id": np.asarray(table["event_id"], dtype=np.int64),
            "tel_id": np.full(n_events, tel_id, dtype=np.int64),
            "intensity": np.asarray(intensity, dtype=float),
        }
    )


def _with_truth(events, showers, label):
    events["label"] = np.full(len(events), label)
    events["shower"] = shower_numbers(
        showers["obs_id"],
        showers["true_shower_primary_id"],
        showers["true_energy"].to_value(u.TeV),
        showers["true_alt"].to_value(u.rad),
        showers["true_h_first_int"].to_value(u.m),
    )
    for name, unit in (
        ("true_energy", u.TeV),
        ("true_alt", u.deg),
        ("true_az", u.deg),
        ("true_core_x", u.m),
        ("true_core_y", u.m),
    ):
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


def read_dl2(path, level, groups, events):
    """Read what an algorithm predicted, from DL2 tables.

    Parameters
    ----------
    path : pathlib.Path
        A ctapipe DL2 file.
    level : {"telescope", "array"}
        Predictions of the telescopes, or of the array.
    groups : collection of str
        Names of the algorithm's groups, for example ``RandomForestRegressor`` and
        ``disp``: each property is in one of them.
    events : astropy.table.Table
        Of which events, as `read_events` gives them.

    Returns
    -------
    dict of str to numpy.ndarray
        Energy in TeV, alt and az in deg, core_x and core_y in m, gammaness, NaN where
        nothing is or nothing valid, shape (1, n_events).

    Raises
    ------
    EvaluationError
        If a group is not there, or a property is in two of them.
    DL1FileError
        If the file cannot be read.
    """
    predictions = {name: np.full((1, len(events)), np.nan) for name in COLUMNS}
    with reading(path), open_input(path) as file:
        for kind, name, nodes in _chosen_tables(path, file, level, groups):
            for node, tel_id in nodes:
                _fill(path, file, node, tel_id, kind, name, events, predictions)
    return predictions


def find_groups(path, level, groups):
    """Find those groups of an algorithm that a file has.

    Parameters
    ----------
    path : pathlib.Path
        A ctapipe DL2 file.
    level : {"telescope", "array"}
        Predictions of the telescopes, or of the array.
    groups : collection of str
        Names of groups that there may be.

    Returns
    -------
    list of str
        Names of those that there are, at least one, sorted.

    Raises
    ------
    EvaluationError
        If there is none, or a property is in two of them.
    DL1FileError
        If the file cannot be read.
    """
    with reading(path), open_input(path) as file:
        return sorted({n for _, n, _ in _chosen_tables(path, file, level, groups)})


def _chosen_tables(path, file, level, groups):
    """Kind, group and tables of each property that is predicted."""
    available = _available(file, level)
    chosen = []
    for kind in _GROUPS:
        names = sorted(set(groups) & set(available[kind]))
        if len(names) > 1:
            raise EvaluationError(
                f"{path} has the {kind} of one algorithm in several groups, "
                f"{' and '.join(names)}: name one of them"
            )
        chosen += [(kind, name, available[kind][name]) for name in names]
    if not chosen:
        other = "telescope" if level == "array" else "array"
        raise EvaluationError(
            f"{path} has no predictions of the {level}s in {' or '.join(groups)}, only "
            f"{_listed(available)} (with --level {other}: "
            f"{_listed(_available(file, other))})"
        )
    return chosen


def _listed(available):
    names = {name for of_kind in available.values() for name in of_kind}
    return ", ".join(sorted(names)) or "none at all"


def _available(file, level):
    """Tables of each kind by the name of their group: node, and telescope or None."""
    of_level = "subarray" if level == "array" else "telescope"
    available = {kind: {} for kind in _GROUPS}
    for kind, spellings in _GROUPS.items():
        for spelling in spellings:
            parent = f"/dl2/event/{of_level}/{spelling}"
            if parent not in file:
                continue
            for node in file.root[parent]:
                nodes = [(node, None)]
                if level == "telescope":
                    nodes = [(t, int(t.name.removeprefix("tel_"))) for t in node]
                available[kind][node._v_name] = nodes
    return available


def _fill(path, file, node, tel_id, kind, group, events, predictions):
    """Fill the predictions of one table into the rows of their events."""
    table = read_table(file, node._v_pathname, table_cls=QTable)
    rows = np.arange(len(events))
    if tel_id is not None:
        rows = np.flatnonzero(np.asarray(events["tel_id"]) == tel_id)
    where = f"{path}: {node._v_pathname}"
    found = find_rows(keys_of(events[rows]), keys_of(table), where)
    rows, found = rows[found >= 0], found[found >= 0]
    prefix = group if tel_id is None else f"{group}_tel"
    if f"{prefix}_is_valid" in table.colnames:
        is_valid = np.asarray(table[f"{prefix}_is_valid"][found], dtype=bool)
        rows, found = rows[is_valid], found[is_valid]
    for name, (its_kind, field, unit) in COLUMNS.items():
        if its_kind == kind and f"{prefix}_{field}" in table.colnames:
            values = u.Quantity(table[f"{prefix}_{field}"][found])
            # Not all algorithms write units.
            value = values.to_value(unit) if values.unit != u.one else values.value
            predictions[name][0, rows] = value


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
    n_rows = len(predictions["energy"])
    combined = {name: np.full((n_rows, n_events), np.nan) for name in predictions}
    for row in range(n_rows):
        one = {name: values[row] for name, values in predictions.items()}
        for name in ("energy", "gammaness"):
            known = np.isfinite(one[name])
            combined[name][row], _ = weighted_mean(
                one[name][known], np.ones(known.sum()), event[known], n_events
            )
        known = np.isfinite(one["alt"])
        combined["alt"][row], combined["az"][row], _ = combine_directions(
            one["alt"][known],
            one["az"][known],
            np.ones(known.sum()),
            event[known],
            n_events,
        )
        known = np.isfinite(one["core_x"]) & np.isfinite(one["core_y"])
        weights = intensity_weights(intensity[known], event[known], n_events)
        for name in ("core_x", "core_y"):
            combined[name][row], _ = weighted_mean(
                one[name][known], weights, event[known], n_events
            )
    return combined


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


def join_algorithms(parts):
    """Join the predictions of an algorithm from several files.

    Parameters
    ----------
    parts : list of Algorithm
        Of the same algorithm, at least one.

    Returns
    -------
    Algorithm
        All of them.
    """
    return Algorithm(
        parts[0].name,
        parts[0].seeds,
        {
            name: np.concatenate([part.predictions[name] for part in parts], axis=1)
            for name in PREDICTIONS
        },
    )


def count_valid(events, algorithms):
    """Count the events of which there are valid predictions.

    Parameters
    ----------
    events : astropy.table.Table
        The events.
    algorithms : list of Algorithm
        The predictions.

    Returns
    -------
    astropy.table.Table
        For each algorithm and class the number of events, of those with each valid
        prediction, and of those with all that the algorithm makes; in the last rows of
        those where this is so for all algorithms.
    """
    columns = [
        (a.name, {k: np.isfinite(v).all(axis=0) for k, v in a.predictions.items()}, a)
        for a in algorithms
    ]
    rows = []
    for name, known, algorithm in columns:
        rows += _count(events, name, known, algorithm.is_valid)
    everywhere = {
        k: np.all(
            [known[k] for _, known, a in columns if k in a.provided]
            or [np.zeros(len(events), dtype=bool)],
            axis=0,
        )
        for k in PREDICTIONS
    }
    is_common = np.all([algorithm.is_valid for algorithm in algorithms], axis=0)
    rows += _count(events, "all of them", everywhere, is_common)
    return Table(
        rows=rows, names=["algorithm", "class", "events", *PREDICTIONS, "valid"]
    )


def _count(events, name, known, is_valid):
    """Rows of the counts of one algorithm, one for each class."""
    label = np.asarray(events["label"])
    return [
        (
            name,
            of_class,
            (label == number).sum(),
            *(int(k[label == number].sum()) for k in known.values()),
            int(is_valid[label == number].sum()),
        )
        for number, of_class in enumerate(("gamma", "background"))
    ]
