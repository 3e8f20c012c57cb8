"""A ctapipe DL1 file, read in chunks of events without going through its events.

Rows of a telescope's tables are in the order of the events that it triggered, as
ctapipe's `HDF5EventSource` assumes too.
"""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.table import QTable
from ctapipe.io import read_table
from ctapipe.io.hdf5tableio import get_column_attrs, get_column_transforms

from ..files.input_file import DL1FileError, open_input, reading
from .dl1_array import subarray_of
from .dl1_format import (
    IMAGES,
    PARAMETERS,
    TELESCOPE_TRIGGER,
    TRIGGER,
    TRUE_IMAGES,
    check_table,
    of_telescope,
    trigger_columns,
)
from .dl1_keys import TORN, check_keys, check_unique
from .dl1_pointing import DL1Pointing
from .dl1_tables import (
    check_is_empty,
    check_tables,
    check_telescope_triggers,
    check_truth,
    table_of,
)
from .preparation import MissingImagesError

__all__ = ["DL1File", "EventChunk", "image_columns"]


@dataclass(frozen=True, eq=False)
class EventChunk:
    """Consecutive events of a file, without images.

    Attributes
    ----------
    obs_id, event_id : numpy.ndarray
        Numbers of the events, shape (n_events,), int.
    array_alt, array_az : astropy.units.Quantity
        Pointing of the array at each event, shape (n_events,); NaN where not known.
    event : dict of int to numpy.ndarray
        For each telescope with data the events it triggered, counted from the start of
        the chunk, shape (n,), int.
    first_row : dict of int to int
        Row of the first of them in the telescope's tables.
    parameters : dict of int to astropy.table.QTable
        Parameters of their images, n rows.
    pointing : dict of int to (astropy.units.Quantity, astropy.units.Quantity)
        Altitude and azimuth of the telescope, shape (n,); NaN where not known.
    """

    obs_id: np.ndarray
    event_id: np.ndarray
    array_alt: u.Quantity
    array_az: u.Quantity
    event: dict
    first_row: dict
    parameters: dict
    pointing: dict

    def __len__(self):
        return len(self.event_id)


class DL1File:
    """A ctapipe DL1 file, open for reading; what it has is checked.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    focal_length_choice : ctapipe.instrument.FocalLengthKind or str
        Which focal length to use, as for ctapipe's `HDF5EventSource`.
    needed : collection of str
        Groups that it must have, of `IMAGES` and `PARAMETERS`. The tables of all groups
        that are there are checked.

    Raises
    ------
    DL1FileError
        If it is damaged, or is not a DL1 file that this version of ctapipe can read.
    MissingImagesError
        If a group is missing that is needed.
    """

    def __init__(
        self, path, focal_length_choice="EFFECTIVE", needed=(IMAGES, PARAMETERS)
    ):
        self.path = path
        #: Which focal length is used.
        self.focal_length_choice = focal_length_choice
        #: The open file.
        self.h5file = open_input(path)
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
        #: Where telescopes and array point.
        self.pointing = DL1Pointing(self.path, self.h5file)
        #: Number by which ctapipe knows this file.
        self.product_id = str(self.h5file.root._v_attrs["CTA PRODUCT ID"])
        #: Whether the events are simulated.
        self.is_simulation = "/simulation" in self.h5file

    def _read_triggers(self):
        """Count the events, and those that each telescope triggered."""
        #: Number of events.
        self.n_events = 0
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
        for tel_id, index in self.subarray.tel_indices.items():
            self.n_triggers[tel_id] = int(n_triggers[index])
        check_unique(self.path, obs_id, event_id)
        self.pointing.check_observations(np.unique(obs_id))

    def __contains__(self, node):
        return node in self.h5file

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close the file."""
        self.h5file.close()

    def reading(self):
        """Say which file it is if something cannot be read, as `reading` does.

        Returns
        -------
        contextlib.AbstractContextManager
            For what is read from this file.
        """
        return reading(self.path)

    def check_rows(self):
        """Check that all rows are where ctapipe's `HDF5EventSource` looks for them.

        It takes images, parameters and the telescopes' triggers by their place in the
        file, whatever their numbers say.

        Raises
        ------
        DL1FileError
            If a table has other events than its telescope triggered, or another order.
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
        """Check that there is the truth of all events.

        Raises
        ------
        DL1FileError
            If tables of the simulated showers, or of the true images, do not fit the
            file's events and telescopes.
        """
        if self.n_events > 0:
            with self.reading():
                check_truth(self)

    def without_pointing(self, tel_ids):
        """Find telescopes whose pointing is not known at all.

        Parameters
        ----------
        tel_ids : iterable of int
            Some telescopes.

        Returns
        -------
        list of int
            Those that have triggered, and have no pointing.
        """
        return [
            tel_id
            for tel_id in tel_ids
            if self.n_triggers[tel_id] > 0 and not self.pointing.is_known(tel_id)
        ]

    def chunks(self, size):
        """Read the events.

        Parameters
        ----------
        size : int
            Number of events to read at once.

        Yields
        ------
        EventChunk
            Each event of the file exactly once, in the file's order.

        Raises
        ------
        DL1FileError
            If the file is damaged, or its tables do not fit each other.
        """
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
            parameters[tel_id] = self._read_parameters(
                tel_id, next_row[tel_id], obs_id[events], event_id[events]
            )
            pointing[tel_id] = self.pointing.of_telescope(
                tel_id, obs_id[events], trigger["time"][events], times.get(tel_id)
            )
        array_alt, array_az = self.pointing.of_array(obs_id)
        return EventChunk(
            obs_id=obs_id,
            event_id=event_id,
            array_alt=array_alt,
            array_az=array_az,
            event=event,
            first_row={tel_id: next_row[tel_id] for tel_id in event},
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
        stop = start + len(event_id)
        rows = read_table(self.h5file, node, start=start, stop=stop, table_cls=QTable)
        check_keys(self.path, node, rows, tel_id, obs_id, event_id)
        return rows

    def _trigger_times(self, start, obs_id, event_id, event):
        """Trigger times of the telescopes at some events."""
        n_telescopes = np.bincount(
            np.concatenate([[], *event.values()]).astype(int), minlength=len(event_id)
        )
        # Event, counted from the start of the chunk, of each row that there should be.
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
            f"telescopes' triggers of the events in {TRIGGER} (event {event_id[0]} "
            "and following), from which the time, and so the pointing, of each is "
            f"known: {TORN}"
        )

    def read_images(self, chunk, tel_id, rows, prepare):
        """Read images of a telescope.

        Parameters
        ----------
        chunk : EventChunk
            The events.
        tel_id : int
            The telescope.
        rows : numpy.ndarray
            Which of the telescope's images in the chunk, in order, shape (n,), int.
            All between the first and the last are read.
        prepare : InputPreparation
            What makes a network's input of them.

        Returns
        -------
        inputs, has_pixels : numpy.ndarray
            As ``prepare`` gives them.

        Raises
        ------
        DL1FileError
            If the file is damaged, or its tables do not fit each other.
        MissingImagesError
            If there is no image mask, and the network needs it.
        """
        table, found = self._read_rows(IMAGES, chunk, tel_id, rows)
        if prepare.needs_mask and "image_mask" not in found.dtype.names:
            raise MissingImagesError(
                f"{self.path} has no image masks of telescope {tel_id}, which this "
                "network, trained on cleaned images, needs: make it with "
                "'ctapipe-process --write-images --write-parameters'"
            )
        return prepare(*image_columns(table, found))

    def read_pixels(self, chunk, tel_id, rows):
        """Read what is known of the pixels of a telescope's images.

        Parameters
        ----------
        chunk : EventChunk
            The events.
        tel_id : int
            The telescope.
        rows : numpy.ndarray
            Which of the telescope's images in the chunk, as for `read_images`.

        Returns
        -------
        image, peak_time : numpy.ndarray
            Charge in p.e. and peak time in ns, shape (n, n_pixels).
        image_mask : numpy.ndarray
            Mask of the image cleaning, shape (n, n_pixels), bool.
        true_image : numpy.ndarray or None
            Simulated photoelectrons of the shower, shape (n, n_pixels); None if they
            are not in the file.

        Raises
        ------
        DL1FileError
            If the file is damaged, or its tables do not fit each other.
        MissingImagesError
            If there is no image mask.
        """
        table, found = self._read_rows(IMAGES, chunk, tel_id, rows)
        if "image_mask" not in found.dtype.names:
            raise MissingImagesError(
                f"{self.path} has no image masks of telescope {tel_id}: make it with "
                "'ctapipe-process --write-images --write-parameters'"
            )
        true_image = None
        if of_telescope(TRUE_IMAGES, tel_id) in self:
            _, true = self._read_rows(TRUE_IMAGES, chunk, tel_id, rows)
            if "true_image" in true.dtype.names:
                true_image = true["true_image"]
        return *image_columns(table, found), true_image

    def _read_rows(self, group, chunk, tel_id, rows):
        """A table with one row for each image of a telescope, and some of its rows."""
        first, last = rows[0], rows[-1]
        events = chunk.event[tel_id][first : last + 1]
        start = chunk.first_row[tel_id] + first
        with self.reading():
            table = table_of(self, group, tel_id)
            # Not as an astropy table: those stay in memory for a while.
            found = table.read(start, start + len(events))
        numbers = chunk.obs_id[events], chunk.event_id[events]
        check_keys(self.path, table._v_pathname, found, tel_id, *numbers)
        return table, found[rows - first]


def image_columns(table, rows):
    """Images in rows of a table, as they were before they were compressed.

    Parameters
    ----------
    table : tables.Table
        Table of a telescope's images, in a ctapipe file.
    rows : numpy.ndarray
        Some of its rows, as PyTables reads them, shape (n,).

    Returns
    -------
    image, peak_time : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, n_pixels).
    image_mask : numpy.ndarray or None
        Mask of the image cleaning, shape (n, n_pixels), bool; None if there is none.
    """
    transforms = get_column_transforms(get_column_attrs(table))
    image, peak_time = (
        transforms[name].inverse(rows[name]) if name in transforms else rows[name]
        for name in ("image", "peak_time")
    )
    mask = rows["image_mask"] if "image_mask" in rows.dtype.names else None
    return image, peak_time, mask
