"""Rows of the tables of a DL1 file belong to its triggers, by their numbers.

ctapipe takes them by their place in the file, whatever their numbers say.
"""

import numpy as np

from .dl1_format import (
    IMAGES,
    PARAMETERS,
    TRIGGER,
    check_image_table,
    check_table,
    of_telescope,
    trigger_columns,
)
from .input_file import DL1FileError, open_input, reading, subarray_of

__all__ = ["TORN", "check_keys", "check_rows", "check_unique"]

#: What is said where tables do not fit each other.
TORN = "the file is damaged, or was put together of different files. Make it again"


def check_keys(path, node, rows, tel_id, obs_id, event_id):
    """Check that rows of a telescope's table are those of some events.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    node : str
        Path of the table in the file.
    rows : numpy.ndarray, astropy.table.Table or dict
        Rows of the table, or at least their keys, shape (n,).
    tel_id : int
        The telescope.
    obs_id, event_id : numpy.ndarray
        Numbers of the events, shape (n,), int.

    Raises
    ------
    DL1FileError
        If they are not, in this order.
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
    """Check that no event is there twice.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    obs_id, event_id : numpy.ndarray
        Numbers of its events, shape (n,), int.

    Raises
    ------
    DL1FileError
        If one is.
    """
    order = np.lexsort((event_id, obs_id))
    obs_id, event_id = obs_id[order], event_id[order]
    same = (obs_id[1:] == obs_id[:-1]) & (event_id[1:] == event_id[:-1])
    if same.any():
        first = np.argmax(same)
        raise DL1FileError(
            f"{path} has event {event_id[first]} of observation {obs_id[first]} twice "
            f"in {TRIGGER}: nothing tells the two apart. Merge only files of different "
            "observations"
        )


def check_rows(path):
    """Check that images and parameters are in the rows in which ctapipe looks for them.

    For the event loop, which reads by ctapipe's `HDF5EventSource`.

    Parameters
    ----------
    path : pathlib.Path
        A ctapipe HDF5 file, with or without images.

    Raises
    ------
    DL1FileError
        If a telescope's table has other events than it triggered, or another order.
    """
    with open_input(path) as file, reading(path):
        if TRIGGER not in file or IMAGES not in file:
            return
        subarray = subarray_of(path, file, "EQUIVALENT")
        columns = trigger_columns(len(subarray.tel_ids))
        check_table(path, file, TRIGGER, columns)
        trigger = file.root[TRIGGER].read()
        for tel_id, index in subarray.tel_indices.items():
            expected = trigger[trigger["tels_with_trigger"][:, index]]
            n_pixels = subarray.tel[tel_id].camera.geometry.n_pixels
            for group in (IMAGES, PARAMETERS):
                node = of_telescope(group, tel_id)
                if node not in file:
                    continue
                if group == IMAGES:
                    check_image_table(path, file, node, tel_id, n_pixels)
                keys = ("obs_id", "event_id", "tel_id")
                rows = {name: file.root[node].col(name) for name in keys}
                numbers = expected["obs_id"], expected["event_id"]
                check_keys(path, node, rows, tel_id, *numbers)
