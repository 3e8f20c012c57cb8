"""Check by their ids that rows of a DL1 file's tables belong to its triggers."""

import numpy as np

from ..files.input_file import DL1FileError
from .dl1_format import TRIGGER

__all__ = ["TORN", "check_keys", "check_unique"]

#: Message for tables that do not match each other.
TORN = "the file is damaged, or was merged from different files. Make it again"


def check_keys(path, node, rows, tel_id, obs_id, event_id):
    """Check that rows of a telescope's table belong to some events.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    node : str
        Path of the table in the file.
    rows : numpy.ndarray, astropy.table.Table or dict
        Rows of the table, or their keys alone, shape (n,).
    tel_id : int
        The telescope.
    obs_id, event_id : numpy.ndarray
        Ids of the events, shape (n,), int.

    Raises
    ------
    DL1FileError
        If they do not, in this order.
    """
    if not (
        np.array_equal(rows["obs_id"], obs_id)
        and np.array_equal(rows["event_id"], event_id)
        and np.all(rows["tel_id"] == tel_id)
    ):
        raise DL1FileError(
            f"{path}: {node} does not hold the events that telescope {tel_id} "
            f"triggered according to {TRIGGER}, in their order: {TORN}"
        )


def check_unique(path, obs_id, event_id):
    """Check that no event appears twice.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    obs_id, event_id : numpy.ndarray
        Ids of its events, shape (n,), int.

    Raises
    ------
    DL1FileError
        If one does.
    """
    order = np.lexsort((event_id, obs_id))
    obs_id, event_id = obs_id[order], event_id[order]
    same = (obs_id[1:] == obs_id[:-1]) & (event_id[1:] == event_id[:-1])
    if same.any():
        first = np.argmax(same)
        raise DL1FileError(
            f"{path} has event {event_id[first]} of observation {obs_id[first]} twice "
            f"in {TRIGGER}: the two cannot be distinguished. Merge only files of "
            "different observations"
        )
