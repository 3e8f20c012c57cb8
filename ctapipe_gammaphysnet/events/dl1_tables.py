"""Check that a DL1 file has its tables, with a row for each trigger."""

from ctapipe.io.hdf5dataformat import FIXED_POINTING_GROUP

from ..files.input_file import DAMAGED, DL1FileError
from .dl1_format import (
    IMAGES,
    PARAMETERS,
    SHOWER_COLUMNS,
    SHOWERS,
    TELESCOPE_TRIGGER,
    TELESCOPE_TRIGGER_COLUMNS,
    TRIGGER,
    TRUE_IMAGES,
    check_image_table,
    check_parameter_table,
    check_table,
    of_telescope,
)
from .dl1_keys import TORN
from .preparation import MissingImagesError

__all__ = [
    "check_is_empty",
    "check_tables",
    "check_telescope_triggers",
    "check_truth",
]

#: Groups that ctapipe writes if there are events, and only then.
_WRITTEN_WITH_EVENTS = (
    "/dl1/event",
    "/dl2/event",
    "/simulation/event",
    FIXED_POINTING_GROUP,
)


def check_is_empty(dl1):
    """Check that a `DL1File` without triggers never had events."""
    lost = [group for group in _WRITTEN_WITH_EVENTS if group in dl1]
    # ctapipe writes no empty groups.
    if "/dl1" in dl1 and len(dl1.h5file.root["/dl1"]._v_children) == 0:
        lost.append("/dl1")
    if lost:
        raise DL1FileError(
            f"{dl1.path} has no table {TRIGGER}, but {lost[0]}, which ctapipe does not "
            f"write without events: {DAMAGED}"
        )


def check_tables(dl1, needed):
    """Check the tables of all telescopes that triggered.

    Parameters
    ----------
    dl1 : DL1File
        The file.
    needed : collection of {"images", "parameters"}
        What it must have.

    Raises
    ------
    DL1FileError
        If a table is missing, or is not what it must be.
    MissingImagesError
        If something needed is missing.
    """
    if dl1.n_events > 0:
        for what in needed:
            _check_group(dl1, what)
        if dl1.pointing.is_monitored:
            check_telescope_triggers(dl1)
    for tel_id, n_triggers in dl1.n_triggers.items():
        for group in (IMAGES, PARAMETERS):
            if group in dl1:
                _check_number_of_rows(dl1, group, tel_id)
                if n_triggers > 0:
                    _check_table(dl1, group, tel_id)
        if n_triggers > 0:
            dl1.pointing.check(tel_id)


def check_telescope_triggers(dl1):
    """Check the table of the times at which the telescopes' pointing is looked up."""
    check_table(dl1.path, dl1.h5file, TELESCOPE_TRIGGER, TELESCOPE_TRIGGER_COLUMNS)
    n_rows = dl1.h5file.root[TELESCOPE_TRIGGER].nrows
    n_triggers = sum(dl1.n_triggers.values())
    if n_rows != n_triggers:
        raise DL1FileError(
            f"{dl1.path}: {TELESCOPE_TRIGGER} has {n_rows} rows, but according to "
            f"{TRIGGER} the telescopes triggered {n_triggers} times: {TORN}"
        )


def check_truth(dl1):
    """Check that simulated showers and true images match the events of a `DL1File`."""
    check_table(dl1.path, dl1.h5file, SHOWERS, SHOWER_COLUMNS)
    n_showers = dl1.h5file.root[SHOWERS].nrows
    if n_showers != dl1.n_events:
        raise DL1FileError(
            f"{dl1.path}: {SHOWERS} has {n_showers} rows, but {TRIGGER} has "
            f"{dl1.n_events} events: they do not match. Make the file again"
        )
    if TRUE_IMAGES not in dl1:
        return
    for tel_id, n_triggers in dl1.n_triggers.items():
        _check_number_of_rows(dl1, TRUE_IMAGES, tel_id)
        if n_triggers > 0:
            _check_table(dl1, TRUE_IMAGES, tel_id)


def _check_group(dl1, what):
    group, why = {
        "images": (IMAGES, ": γ-PhysNet needs images with charge and peak time"),
        "parameters": (PARAMETERS, ", by which images are selected"),
    }[what]
    if group not in dl1:
        raise MissingImagesError(
            f"{dl1.path} has no DL1 {what}{why}. Make it with 'ctapipe-process "
            "--write-images --write-parameters'"
        )


def _check_table(dl1, group, tel_id):
    if group == PARAMETERS:
        check_parameter_table(dl1.path, dl1.h5file, of_telescope(group, tel_id))
    else:
        n_pixels = dl1.subarray.tel[tel_id].camera.geometry.n_pixels
        check_image_table(dl1.path, dl1.h5file, group, tel_id, n_pixels)


def _table_of(dl1, group, tel_id):
    node = of_telescope(group, tel_id)
    if node not in dl1:
        raise DL1FileError(
            f"{dl1.path} has no table {node}, but events that telescope {tel_id} "
            "triggered"
        )
    return dl1.h5file.root[node]


def _check_number_of_rows(dl1, group, tel_id):
    n_triggers = dl1.n_triggers[tel_id]
    if n_triggers == 0 and of_telescope(group, tel_id) not in dl1:
        return
    table = _table_of(dl1, group, tel_id)
    if table.nrows != n_triggers:
        raise DL1FileError(
            f"{dl1.path}: {table._v_pathname} has {table.nrows} rows, but according to "
            f"{TRIGGER} telescope {tel_id} triggered {n_triggers} times: {TORN}"
        )
