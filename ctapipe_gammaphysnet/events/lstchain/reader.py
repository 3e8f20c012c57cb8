"""Read lstchain's DL1 files in chunks of events, as ctapipe's are.

The events are those of `LSTChainDL1EventSource`, in the same order.
"""

from functools import cached_property

import astropy.units as u
import numpy as np
from astropy.table import QTable, vstack
from ctapipe.containers import NAN_TIME

from ...files.input_file import DL1FileError, reading
from ..dl1_format import RUN_COLUMNS
from ..reader import EventChunk, EventReader
from .copy import copy_events
from .events import LSTChainEvents
from .file import TRUTH, LSTChainFile, is_lstchain, to_time
from .parameters import convert_parameters

__all__ = ["LSTChainReader"]

_KEYS = ("obs_id", "event_id", "tel_id")


class LSTChainReader(EventReader):
    """A DL1 file of lstchain, open for reading.

    Parameters
    ----------
    path, focal_length_choice, needed : pathlib.Path, str, collection of str
        As in `open_events`. The file must have images and parameters, needed or not.

    Raises
    ------
    DL1FileError
        If it is damaged, or has no images.
    """

    def __init__(self, path, focal_length_choice="EFFECTIVE", needed=()):
        self.path = path
        self.focal_length_choice = focal_length_choice
        #: The open file.
        self.file = LSTChainFile(path, focal_length_choice)
        try:
            with reading(path):
                self._read_events()
        except BaseException:
            self.close()
            raise

    def _read_events(self):
        self.subarray = self.file.subarray
        self.is_simulation = self.has_truth = self.file.is_simulation
        # lstchain's files have no id.
        self.product_id = self.path.name
        #: The telescope events, as `LSTChainEvents`.
        self.events = LSTChainEvents(self.file)
        #: Ids of the events.
        self.obs_id, self.event_id, self.event_type = (
            self.events.column(name)[self.events.of_array]
            for name in ("obs_id", "event_id", "event_type")
        )
        self.n_events = len(self.obs_id)
        self.obs_ids = list(dict.fromkeys(self.obs_id.tolist()))

    @classmethod
    def can_read(cls, path):
        return is_lstchain(path)

    @classmethod
    def open_images(cls, path):
        return cls(path, "EQUIVALENT")

    def close(self):
        self.file.close()

    def check_truth(self):
        # The truth is in the rows of the telescope events.
        pass

    def without_masks(self):
        return []

    def without_pointing(self, tel_ids):
        return []

    def empty_tables(self):
        return [] if self.n_events == 0 else None

    @cached_property
    def pointing(self):
        """Altitude and azimuth at each telescope event in rad, shape (n,)."""
        return tuple(
            self.events.column(name).to(u.rad) for name in ("alt_tel", "az_tel")
        )

    @cached_property
    def time(self):
        """Time of each telescope event, shape (n,)."""
        seconds = np.asarray(self.events.column(self.file.time_column), float)
        known = np.isfinite(seconds)
        time = to_time(np.where(known, seconds, 0)).copy()
        time[~known] = NAN_TIME
        return time

    @cached_property
    def parameters(self):
        """Parameters of each image in ctapipe's columns, with the ids, n rows."""
        tables = []
        for table in self.file.parameters.values():
            if len(table) > 0:
                # All telescopes of a table have the same camera and optics.
                telescope = self.subarray.tel[int(table["tel_id"][0])]
                tables.append(convert_parameters(table, telescope))
        parameters = vstack(tables)
        for name in _KEYS:
            parameters[name] = self.events.column(name)
        return parameters

    def chunks(self, size):
        for start in range(0, self.n_events, size):
            with reading(self.path):
                chunk = self._read_chunk(start, min(start + size, self.n_events))
            yield chunk

    def _read_chunk(self, start, stop):
        event, row, parameters, pointing = {}, {}, {}, {}
        for tel_id, index in self.events.of_telescope.items():
            number = self.events.number[index]
            first, last = np.searchsorted(number, (start, stop))
            if first < last:
                event[tel_id] = number[first:last] - start
                row[tel_id] = np.arange(first, last)
                parameters[tel_id] = self.parameters[index[first:last]]
                pointing[tel_id] = tuple(a[index[first:last]] for a in self.pointing)
        leading = self.events.of_array[start:stop]
        array_alt, array_az = (angle[leading] for angle in self.pointing)
        return EventChunk(
            number=np.arange(start, stop),
            obs_id=self.obs_id[start:stop],
            event_id=self.event_id[start:stop],
            array_alt=array_alt,
            array_az=array_az,
            event=event,
            row=row,
            parameters=parameters,
            pointing=pointing,
        )

    def read_images(self, tel_id, row, obs_id, event_id):
        index = self.events.of_telescope.get(tel_id, ())
        if row[-1] < len(index):
            found = self.image_columns(tel_id, row)
            if np.array_equal(found["obs_id"], obs_id) and np.array_equal(
                found["event_id"], event_id
            ):
                return tuple(found[n] for n in ("image", "peak_time", "image_mask"))
        raise DL1FileError(
            f"{self.path} does not have the images of telescope {tel_id} at the rows "
            "where they were: it has changed since its events were read"
        )

    def image_columns(self, tel_id, row):
        """Read images of a telescope with their ids, as `LSTChainFile.read_images`.

        Parameters
        ----------
        tel_id : int
            The telescope.
        row : numpy.ndarray
            Rows of the images, as in `read_images`.

        Returns
        -------
        dict of str to numpy.ndarray
            The columns of ctapipe's table of images, n rows.
        """
        index = self.events.of_telescope[tel_id][row]
        return self.file.read_images(*self.events.rows(index))

    def read_true_images(self, tel_id, row, obs_id, event_id):
        return None

    def read_showers(self, chunk):
        with reading(self.path):
            return self.showers(chunk.number)

    def showers(self, number):
        """Describe the showers of events.

        Parameters
        ----------
        number : numpy.ndarray
            The events, shape (n,), int.

        Returns
        -------
        astropy.table.QTable
            The showers in ctapipe's columns, with the ids of the events, n rows.
        """
        index = self.events.of_array[number]
        columns = {"obs_id": self.obs_id[number], "event_id": self.event_id[number]}
        for field, (name, unit) in TRUTH.items():
            values = self.events.column(name)[index]
            columns[f"true_{field}"] = values if unit is None else values.to(unit)
        return QTable(columns)

    def read_atmosphere(self):
        return None

    def read_runs(self):
        return self.file.read_runs(RUN_COLUMNS) if self.is_simulation else None

    def list_dl2(self, level):
        return {}

    def read_dl2(self, level, kind, group, tel_id):
        raise KeyError(f"{self.path} has no predictions {group}")

    def copy_to(self, output, name, images, is_left_out, kept=None):
        kept = np.ones(self.n_events, dtype=bool) if kept is None else kept
        copy_events(self, output, name, images, kept)
