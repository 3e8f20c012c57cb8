"""What algorithms predicted, from the DL2 tables of files."""

import astropy.units as u
import numpy as np
from astropy.table import QTable
from ctapipe.io import read_table

from ..compat import PARTICLE_TYPE
from ..files.input_file import open_input, reading
from .events import EvaluationError, find_rows, keys_of
from .predictions import COLUMNS

__all__ = ["find_groups", "named_groups", "read_dl2"]

#: What follows the prefix in the names of groups like ours, one for each property.
_SUFFIXES = ("", "Energy", "Geometry", "Classifier")
#: Names of the groups of a kind: files may be older than this ctapipe.
_GROUPS = {
    "energy": ("energy",),
    "geometry": ("geometry",),
    PARTICLE_TYPE: ("particle_type", "classification"),
}


def named_groups(text):
    """Understand the name of an algorithm, with or without its groups.

    Parameters
    ----------
    text : str
        ``PREFIX``, or ``NAME=PREFIX,PREFIX``.

    Returns
    -------
    name : str
        What to call it.
    groups : list of list of str
        Names of its groups. Of each list there must be one: groups that are named must
        all be there; otherwise the prefix is enough, with or without a property.
    """
    name, _, prefixes = text.partition("=")
    if prefixes:
        return name, [[prefix] for prefix in prefixes.split(",")]
    return name, [[name + suffix for suffix in _SUFFIXES]]


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


def find_groups(paths, level, groups):
    """Find those groups of an algorithm that files have.

    Parameters
    ----------
    paths : list of pathlib.Path
        ctapipe DL2 files.
    level : {"telescope", "array"}
        Predictions of the telescopes, or of the array.
    groups : list of list of str
        Names of groups, as `named_groups` gives them.

    Returns
    -------
    list of str
        Names of those that there are, sorted.

    Raises
    ------
    EvaluationError
        If a file has none of a list, or a property in two of them.
    DL1FileError
        If a file cannot be read.
    """
    found = set()
    for path in paths:
        with reading(path), open_input(path) as file:
            for names in groups:
                tables = _chosen_tables(path, file, level, names)
                found |= {name for _, name, _ in tables}
    return sorted(found)


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
