"""Which events are showers: their types, by ctapipe's filter."""

import numpy as np
from ctapipe.containers import EventType

from ..announce import warn_once

__all__ = [
    "are_allowed",
    "count_types",
    "name_allowed",
    "warn_if_none_is_allowed",
    "warn_of_others",
]

#: The numbers up to here are types of calibration and of muons.
_LAST_OTHER = EventType.MUON.value


def are_allowed(event_type, event_types):
    """Find the events that ``ctapipe-process`` would process.

    Parameters
    ----------
    event_type : numpy.ndarray
        Types of events, shape (n,), int.
    event_types : ctapipe.utils.EventTypeFilter or None
        The allowed types; None for all.

    Returns
    -------
    numpy.ndarray
        Shape (n,), bool.
    """
    if event_types is None or event_types.allowed_types is None:
        return np.ones(len(event_type), dtype=bool)
    return np.isin(event_type, [kind.value for kind in event_types.allowed_types])


def name_allowed(event_types):
    """Name the allowed types.

    Parameters
    ----------
    event_types : ctapipe.utils.EventTypeFilter
        The allowed types.

    Returns
    -------
    list of str or None
        Their names, in the order of their numbers; None if all are allowed.
    """
    if event_types.allowed_types is None:
        return None
    return [kind.name for kind in EventType if kind in event_types.allowed_types]


def warn_of_others(path, event_type, event_types):
    """Warn of calibration events and muons that nobody chose.

    Parameters
    ----------
    path : pathlib.Path
        The file of the events.
    event_type : numpy.ndarray
        Their types, shape (n,), int.
    event_types : ctapipe.utils.EventTypeFilter or None
        The allowed types; with any that are named there is no warning.
    """
    if event_types is None or event_types.allowed_types is not None:
        return
    others = event_type[event_type <= _LAST_OTHER]
    if len(others) > 0:
        warn_once(
            f"{path} has events that are not showers ({count_types(others)}), but are "
            "used like showers. Leave them out with EventTypeFilter.allowed_types, for "
            "example --EventTypeFilter.allowed_types=SUBARRAY"
        )


def warn_if_none_is_allowed(path, event_type, event_types):
    """Warn if the filter leaves out all events of a file.

    Parameters
    ----------
    path : pathlib.Path
        The file of the events.
    event_type : numpy.ndarray
        The types of all its events, shape (n,), int.
    event_types : ctapipe.utils.EventTypeFilter or None
        The allowed types; None for all.
    """
    if len(event_type) == 0 or are_allowed(event_type, event_types).any():
        return
    allowed = " or ".join(name_allowed(event_types)) or "no type"
    warn_once(
        f"{path}: EventTypeFilter.allowed_types leaves out all events: "
        f"{count_types(event_type)}, but {allowed} is allowed"
    )


def count_types(event_type):
    """Count events by their types, for messages.

    Parameters
    ----------
    event_type : numpy.ndarray
        Types of events, shape (n,), int.

    Returns
    -------
    str
        For example ``2 FLATFIELD, 1 MUON``.
    """
    names = {kind.value: kind.name for kind in EventType}
    numbers, counts = np.unique(event_type, return_counts=True)
    return ", ".join(
        f"{count} {names.get(number, number)}"
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    )
