"""Predictions of algorithms, from the DL2 tables of files."""

import astropy.units as u
import numpy as np

from ..events.opening import open_events
from .events import EvaluationError, find_rows, keys_of
from .predictions import predicted_columns

__all__ = ["find_groups", "named_groups", "read_dl2"]

#: Suffixes in the names of groups like ours, one for each property.
_SUFFIXES = ("", "Energy", "Geometry", "Classifier")


def named_groups(text):
    """Parse the name of an algorithm, with or without its groups.

    Parameters
    ----------
    text : str
        ``PREFIX``, or ``NAME=PREFIX,PREFIX``.

    Returns
    -------
    name : str
        Its name.
    groups : list of list of str
        Names of its groups. A file must have one of each list: all groups that are
        named, or else the prefix, with or without a property.
    """
    name, _, prefixes = text.partition("=")
    if prefixes:
        return name, [[prefix] for prefix in prefixes.split(",")]
    return name, [[name + suffix for suffix in _SUFFIXES]]


def read_dl2(reader, level, groups, events):
    """Read the predictions of an algorithm from DL2 tables.

    Parameters
    ----------
    reader : EventReader
        A file with DL2.
    level : {"telescope", "array"}
        Predictions of the telescopes, or of the array.
    groups : collection of str
        Names of the algorithm's groups, for example ``RandomForestRegressor`` and
        ``disp``: each property is in one of them.
    events : astropy.table.Table
        The events, as `read_events` returns them.

    Returns
    -------
    dict of str to numpy.ndarray
        The `predicted_columns` in their units, shape (1, n_events); NaN if there is no
        valid prediction, or no such column.

    Raises
    ------
    EvaluationError
        If a group is missing, or a property is in two of them.
    DL1FileError
        If the file cannot be read.
    """
    predictions = {
        name: np.full((1, len(events)), np.nan) for name in predicted_columns()
    }
    for kind, group, tel_ids in _chosen_groups(reader, level, groups):
        for tel_id in tel_ids:
            name, table = reader.read_dl2(level, kind, group, tel_id)
            name = f"{reader.path}: {name}"
            _fill(name, table, tel_id, kind, events, predictions)
    return predictions


def find_groups(paths, level, groups):
    """Find the groups of an algorithm that are in files.

    Parameters
    ----------
    paths : list of pathlib.Path
        Files with DL2.
    level : {"telescope", "array"}
        Predictions of the telescopes, or of the array.
    groups : list of list of str
        Names of groups, as `named_groups` returns them.

    Returns
    -------
    list of str
        Names of these groups, sorted.

    Raises
    ------
    EvaluationError
        If a file has none of a list, or a property in two of them.
    DL1FileError
        If a file cannot be read.
    """
    found = set()
    for path in paths:
        with open_events(path, "EQUIVALENT", needed=()) as reader:
            for names in groups:
                chosen = _chosen_groups(reader, level, names)
                found |= {group for _, group, _ in chosen}
    return sorted(found)


def _chosen_groups(reader, level, groups):
    """Kind, group and its telescopes for each property that is predicted."""
    available = reader.list_dl2(level)
    chosen = []
    for kind, of_kind in available.items():
        names = sorted(set(groups) & set(of_kind))
        if len(names) > 1:
            raise EvaluationError(
                f"{reader.path} has the {kind} of one algorithm in several groups, "
                f"{' and '.join(names)}: name one of them"
            )
        chosen += [(kind, name, of_kind[name]) for name in names]
    if not chosen:
        other = "telescope" if level == "array" else "array"
        raise EvaluationError(
            f"{reader.path} has no predictions of the {level}s in "
            f"{' or '.join(groups)}, only {_listed(available)} (with --level {other}: "
            f"{_listed(reader.list_dl2(other))})"
        )
    return chosen


def _listed(available):
    names = {name for of_kind in available.values() for name in of_kind}
    return ", ".join(sorted(names)) or "none at all"


def _fill(name, table, tel_id, kind, events, predictions):
    """Fill the predictions of one table into the rows of their events."""
    # Events of the array have the telescope 0.
    rows = np.flatnonzero(np.asarray(events["tel_id"]) == tel_id)
    found = find_rows(keys_of(events[rows]), keys_of(table), name)
    rows, found = rows[found >= 0], found[found >= 0]
    if "is_valid" in table.colnames:
        is_valid = np.asarray(table["is_valid"][found], dtype=bool)
        rows, found = rows[is_valid], found[is_valid]
    for column, (its_kind, field, unit) in predicted_columns().items():
        if its_kind == kind and field in table.colnames:
            values = u.Quantity(table[field][found])
            # Not all algorithms write units.
            value = values.to_value(unit) if values.unit != u.one else values.value
            predictions[column][0, rows] = value
