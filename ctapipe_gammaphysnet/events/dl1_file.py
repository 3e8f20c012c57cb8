"""A ctapipe DL1 file, read in chunks of events instead of event by event.

The rows of a telescope's tables are in the order of the events that it triggered.
ctapipe's `HDF5EventSource` assumes the same.
"""

import numpy as np
from astropy.table import QTable
from ctapipe.containers import EventType
from ctapipe.io import read_table
from ctapipe.io.hdf5eventsource import read_atmosphere_density_profile
from ctapipe.io.tableio import EnumColumnTransform

from ..files.input_file import DL1FileError
from .dl1_array import subarray_of
from .dl1_copy import copy_file
from .dl1_format import (
    IMAGES,
    PARAMETERS,
    RUN_COLUMNS,
    RUNS,
    SHOWERS,
    TELESCOPE_TRIGGER,
    TRIGGER,
    check_table,
    of_telescope,
    trigger_columns,
)
from .dl1_images import DL1Images
from .dl1_keys import TORN, check_keys, check_unique
from .dl1_pointing import DL1Pointing
from .dl1_tables import (
    check_is_empty,
    check_tables,
    check_telescope_triggers,
    check_truth,
)
from .dl2_tables import list_groups, read_group
from .reader import EventChunk, EventReader

__all__ = ["DL1File"]


class DL1File(DL1Images, EventReader):
    """A ctapipe DL1 file, open for reading; its tables are checked.

    Parameters
    ----------
    path, focal_length_choice, needed : pathlib.Path, str, collection of str
        As in `open_events`. Tables of images and parameters are checked, needed or not.

    Raises
    ------
    DL1FileError
        If it is damaged, or is not a DL1 file that this version of ctapipe can read.
    MissingImagesError
        If something needed is missing.
    """

    def __init__(
        self, path, focal_length_choice="EFFECTIVE", needed=("images", "parameters")
    ):
        super().__init__(path)
        #: The focal length used.
        self.focal_length_choice = focal_length_choice
        try:
            with self.reading():
                self._read_configuration(focal_length_choice)
                self._read_triggers()
                check_tables(self, needed)
        except BaseException:
            self.close()
            raise

    def _read_configuration(self, focal_length_choice):
        #: The telescopes.
        self.subarray = subarray_of(self.path, self.h5file, focal_length_choice)
        #: Pointing of telescopes and array.
        self.pointing = DL1Pointing(self.path, self.h5file)
        #: Ids of the observations.
        self.obs_ids = self.pointing.obs_ids
        #: ctapipe's id of this file.
        self.product_id = str(self.h5file.root._v_attrs["CTA PRODUCT ID"])
        #: Whether the events are simulated.
        self.is_simulation = "/simulation" in self.h5file
        #: Whether the file has simulated showers.
        self.has_truth = SHOWERS in self.h5file

    def _read_triggers(self):
        """Count the events, and those that each telescope triggered."""
        #: Number of events.
        self.n_events = 0
        #: Type of each event.
        self.event_type = np.zeros(0, dtype=int)
        #: Number of events that triggered each telescope.
        self.n_triggers = dict.fromkeys(self.subarray.tel_ids, 0)
        if TRIGGER not in self:
            check_is_empty(self)
            return
        columns = trigger_columns(len(self.subarray.tel_ids))
        check_table(self.path, self.h5file, TRIGGER, columns)
        table = self.h5file.root[TRIGGER]
        obs_id, event_id = (table.col(name) for name in ("obs_id", "event_id"))
        n_triggers = table.col("tels_with_trigger").sum(axis=0)
        self.n_events = len(event_id)
        self.event_type = _event_types(table)
        for tel_id, index in self.subarray.tel_indices.items():
            self.n_triggers[tel_id] = int(n_triggers[index])
        check_unique(self.path, obs_id, event_id)
        self.pointing.check_observations(np.unique(obs_id))

    @classmethod
    def can_read(cls, path):
        return True

    @classmethod
    def open_images(cls, path):
        return DL1Images(path)

    def check_rows(self):
        """Check that all rows are where ctapipe's `HDF5EventSource` looks for them.

        It finds images, parameters and the telescopes' triggers by their position in
        the file, and ignores their ids.

        Raises
        ------
        DL1FileError
            If the events of a table are not those that its telescope triggered, in the
            same order.
        """
        if self.n_events == 0:
            return
        with self.reading():
            trigger = self.h5file.root[TRIGGER].read()
            events = self._events_of(trigger["tels_with_trigger"])
            numbers = trigger["obs_id"], trigger["event_id"]
            check_telescope_triggers(self)
            self._trigger_times(0, *numbers, events)
            for tel_id, rows in events.items():
                for group in (IMAGES, PARAMETERS):
                    if group in self:
                        node = of_telescope(group, tel_id)
                        keys = ("obs_id", "event_id", "tel_id")
                        found = {key: self.h5file.root[node].col(key) for key in keys}
                        expected = (number[rows] for number in numbers)
                        check_keys(self.path, node, found, tel_id, *expected)

    def check_truth(self):
        if self.n_events > 0:
            with self.reading():
                check_truth(self)

    def without_pointing(self, tel_ids):
        return [
            tel_id
            for tel_id in tel_ids
            if self.n_triggers[tel_id] > 0 and not self.pointing.is_known(tel_id)
        ]

    def without_masks(self):
        with self.reading():
            return [
                table._v_pathname
                for table in (self.h5file.root[IMAGES] if IMAGES in self else ())
                if "image_mask" not in table.colnames
            ]

    def empty_tables(self):
        if self.n_events > 0 or TRIGGER not in self:
            return None
        tel_ids = self.subarray.tel_ids
        return [t for t in tel_ids if of_telescope(PARAMETERS, t) in self]

    def chunks(self, size):
        next_row = dict.fromkeys(self.subarray.tel_ids, 0)
        trigger_row = 0
        for start in range(0, self.n_events, size):
            with self.reading():
                chunk = self._read_chunk(start, start + size, next_row, trigger_row)
            for tel_id, events in chunk.event.items():
                next_row[tel_id] += len(events)
                trigger_row += len(events)
            yield chunk

    def _read_chunk(self, start, stop, next_row, trigger_row):
        trigger = read_table(self.h5file, TRIGGER, start=start, stop=stop)
        obs_id, event_id = (np.asarray(trigger[key]) for key in ("obs_id", "event_id"))
        event = self._events_of(np.asarray(trigger["tels_with_trigger"]))
        times = {}
        if self.pointing.is_monitored:
            times = self._trigger_times(trigger_row, obs_id, event_id, event)
        parameters, pointing = {}, {}
        for tel_id, events in event.items():
            if PARAMETERS in self:
                parameters[tel_id] = self._read_parameters(
                    tel_id, next_row[tel_id], obs_id[events], event_id[events]
                )
            pointing[tel_id] = self.pointing.of_telescope(
                tel_id, obs_id[events], trigger["time"][events], times.get(tel_id)
            )
        array_alt, array_az = self.pointing.of_array(obs_id)
        return EventChunk(
            number=start + np.arange(len(event_id)),
            obs_id=obs_id,
            event_id=event_id,
            array_alt=array_alt,
            array_az=array_az,
            event=event,
            row={t: next_row[t] + np.arange(len(rows)) for t, rows in event.items()},
            parameters=parameters,
            pointing=pointing,
        )

    def _events_of(self, tels_with_trigger):
        """The events of each telescope that triggered."""
        return {
            tel_id: np.flatnonzero(tels_with_trigger[:, index])
            for tel_id, index in self.subarray.tel_indices.items()
            if tels_with_trigger[:, index].any()
        }

    def _read_parameters(self, tel_id, start, obs_id, event_id):
        node = of_telescope(PARAMETERS, tel_id)
        # Not with `read_table`, which looks for all attributes each time.
        rows = self.fetch(node, start, start + len(event_id))()
        check_keys(self.path, node, rows, tel_id, obs_id, event_id)
        transforms = self.transforms(node)
        columns = {name: rows[name] for name in rows.dtype.names}
        for name in transforms:
            if not isinstance(transforms[name], EnumColumnTransform):
                columns[name] = transforms[name].inverse(columns[name])
        with self.reading():
            return QTable(columns, copy=False)

    def _trigger_times(self, start, obs_id, event_id, event):
        """Trigger times of the telescopes at some events."""
        n_telescopes = np.bincount(
            np.concatenate([[], *event.values()]).astype(int), minlength=len(event_id)
        )
        # The event that each row should have, counted from the start of the chunk.
        number = np.repeat(np.arange(len(event_id)), n_telescopes)
        table = read_table(
            self.h5file, TELESCOPE_TRIGGER, start=start, stop=start + len(number)
        )
        if np.array_equal(table["obs_id"], obs_id[number]) and np.array_equal(
            table["event_id"], event_id[number]
        ):
            rows = {t: np.flatnonzero(table["tel_id"] == t) for t in event}
            if all(np.array_equal(number[rows[t]], event[t]) for t in event):
                return {t: table["time"][rows[t]] for t in event}
        raise DL1FileError(
            f"{self.path}: from row {start} on, {TELESCOPE_TRIGGER} does not hold the "
            f"telescopes' triggers of the events in {TRIGGER} (from event "
            f"{event_id[0]} on). Their times are needed to find the pointing: {TORN}"
        )

    def read_showers(self, chunk):
        start, stop = (chunk.number[0], chunk.number[-1] + 1) if len(chunk) else (0, 0)
        with self.reading():
            showers = read_table(
                self.h5file, SHOWERS, start=start, stop=stop, table_cls=QTable
            )
        if len(showers) == stop - start:
            showers = showers[chunk.number - start]
        if not (
            np.array_equal(showers["obs_id"], chunk.obs_id)
            and np.array_equal(showers["event_id"], chunk.event_id)
        ):
            raise DL1FileError(
                f"{self.path}: from event {chunk.event_id[0]} of observation "
                f"{chunk.obs_id[0]} on, {SHOWERS} does not have the showers of the "
                "file's events"
            )
        return showers

    def read_atmosphere(self):
        with self.reading():
            return read_atmosphere_density_profile(self.h5file)

    def read_runs(self):
        if RUNS not in self:
            return None
        check_table(self.path, self.h5file, RUNS, RUN_COLUMNS)
        with self.reading():
            return read_table(self.h5file, RUNS, table_cls=QTable)

    def list_dl2(self, level):
        with self.reading():
            return {
                kind: {group: list(nodes) for group, nodes in groups.items()}
                for kind, groups in list_groups(self.h5file, level).items()
            }

    def read_dl2(self, level, kind, group, tel_id):
        with self.reading():
            node = list_groups(self.h5file, level)[kind][group][tel_id]
            return node, read_group(self.h5file, level, group, node)

    def copy_to(self, output, name, images, is_left_out, kept=None):
        ids = None
        if kept is not None and not kept.all():
            with self.reading():
                table = self.h5file.root[TRIGGER]
                ids = [table.col(key)[kept] for key in ("obs_id", "event_id")]
        copy_file(self, output.h5file, name, images, is_left_out, ids)


def _event_types(table):
    """Types of all events of a table of triggers: showers, if it does not have them."""
    if "event_type" in table.colnames:
        return table.col("event_type")
    return np.full(table.nrows, EventType.SUBARRAY.value)
