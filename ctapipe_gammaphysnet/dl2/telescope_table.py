"""A table of telescope events, as ctapipe's combiners expect it."""

from itertools import chain

import numpy as np
from astropy.table import Column, Table

from .containers import CONTAINERS, PROPERTIES, group_name, needed_fields

__all__ = ["telescope_table"]

_KEYS = ("obs_id", "event_id", "tel_id")


def telescope_table(chunk, telescopes, prefix):
    """Collect telescope events in one table, as ctapipe's combiners expect it.

    Parameters
    ----------
    chunk : EventChunk
        The events, with the parameters of their images.
    telescopes : dict of int to dict of str to dict of str to numpy.ndarray
        For each telescope and kind the columns of its container, one row for each event
        that triggered it, in the container's units; fields may be missing.
    prefix : str
        Common stem of the groups' names.

    Returns
    -------
    table : astropy.table.Table
        ``obs_id``, ``event_id``, ``tel_id``, the parameters, the pointing of the array,
        and the predictions, prefixed ``{prefix}_tel_``; in the order of the events.
    event : numpy.ndarray
        The event of each row, counted from the start of the chunk, shape (n,), int.
    """
    event = np.concatenate([[], *chunk.event.values()]).astype(int)
    order = np.argsort(event, kind="stable")
    event = event[order]
    n_rows = [len(rows) for rows in chunk.event.values()]
    columns = {
        "obs_id": chunk.obs_id[event].astype(np.int64),
        "event_id": chunk.event_id[event].astype(np.int64),
        "tel_id": np.repeat([*chunk.event], n_rows)[order].astype(np.int64),
        "array_altitude": chunk.array_alt[event],
        "array_azimuth": chunk.array_az[event],
    }
    for name, parts in _parameters(chunk).items():
        columns[name] = np.concatenate(parts)[order]
    for kind in PROPERTIES:
        parts = [telescopes[tel_id].get(kind) for tel_id in chunk.event]
        if any(parts):
            prefix_of_kind = f"{group_name(prefix, kind)}_tel"
            for field, values in _predictions_of(kind, parts, n_rows).items():
                columns[f"{prefix_of_kind}_{field}"] = values[order]
    return Table(columns), event


def _parameters(chunk):
    """Parameters that all telescopes' images have, telescope by telescope."""
    # Older files have them in the camera frame, which changes no weight.
    tables = [
        {n.removeprefix("camera_frame_"): table[n] for n in table.colnames}
        for table in (chunk.parameters[tel_id] for tel_id in chunk.event)
    ]
    names = [n for n in next(iter(tables), ()) if all(n in table for table in tables)]
    return {n: [table[n] for table in tables] for n in names if n not in _KEYS}


def _predictions_of(kind, parts, n_rows):
    """Columns of a kind of all telescopes, one after the other."""
    columns = {}
    for field in dict.fromkeys([*needed_fields(kind), *chain.from_iterable(parts)]):
        values = [
            part.get(field, np.full(n, np.nan))
            for part, n in zip(parts, n_rows, strict=True)
        ]
        unit = CONTAINERS[kind][0].fields[field].unit
        columns[field] = Column(np.concatenate(values), unit=unit)
    return columns
