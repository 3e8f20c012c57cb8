"""A second kind of input, for tests: events in memory, made of the card of toy showers.

It has the same events as the DL1 file that ``ctapipe-process`` makes of the card.
"""

import functools
import tempfile
from pathlib import Path

import astropy.units as u
import numpy as np
import toy_sample
from astropy.table import QTable
from ctapipe.image import ImageProcessor

from ctapipe_gammaphysnet.events.dl1_file import DL1File
from ctapipe_gammaphysnet.events.reader import EventChunk, EventReader
from ctapipe_gammaphysnet.files.input_file import DL1FileError


@functools.cache
def read_card(path):
    """The source of a card, and all of its events with their parameters."""
    source = toy_sample.ToyShowerSource(path)
    process = ImageProcessor(source.subarray)
    events = list(source)
    for event in events:
        process(event)
    return source, events


def to_table(containers, add_prefix=True):
    """A table with a row for each container, in the columns of a file."""
    rows = [
        c.as_dict(recursive=True, flatten=True, add_prefix=add_prefix)
        for c in containers
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return QTable(
        {
            name: u.Quantity(values)
            if isinstance(values[0], u.Quantity)
            else np.array(values)
            for name, values in columns.items()
        }
    )


class MemoryReader(EventReader):
    """The events of a `ToyCard`."""

    is_simulation = has_truth = True

    def __init__(self, path, focal_length_choice="EFFECTIVE", needed=()):
        self.path = path
        self.focal_length_choice = focal_length_choice
        self._source, self._events = read_card(path)
        self.subarray = self._source.subarray
        self.n_events = len(self._events)
        self.event_type = np.array([e.trigger.event_type.value for e in self._events])
        self.product_id = str(path)
        self.obs_ids = list(self._source.observation_blocks)
        self._images = {tel_id: [] for tel_id in self.subarray.tel_ids}
        for event in self._events:
            for tel_id in event.trigger.tels_with_trigger:
                self._images[tel_id].append(event)

    @classmethod
    def can_read(cls, path):
        return toy_sample.ToyShowerSource.is_compatible(path)

    @classmethod
    def open_images(cls, path):
        return cls(path)

    def close(self):
        pass

    def check_truth(self):
        pass

    def empty_tables(self):
        return None

    def read_atmosphere(self):
        return None

    def without_masks(self):
        return []

    def without_pointing(self, tel_ids):
        return []

    def chunks(self, size):
        next_row = dict.fromkeys(self.subarray.tel_ids, 0)
        for start in range(0, self.n_events, size):
            chunk = self._chunk(start, self._events[start : start + size], next_row)
            for tel_id, events in chunk.event.items():
                next_row[tel_id] += len(events)
            yield chunk

    def _chunk(self, start, events, next_row):
        triggered = {
            tel_id: np.array(
                [
                    n
                    for n, e in enumerate(events)
                    if tel_id in e.trigger.tels_with_trigger
                ]
            )
            for tel_id in self.subarray.tel_ids
        }
        triggered = {t: numbers for t, numbers in triggered.items() if len(numbers) > 0}
        return EventChunk(
            number=start + np.arange(len(events)),
            obs_id=np.array([event.index.obs_id for event in events]),
            event_id=np.array([event.index.event_id for event in events]),
            array_alt=u.Quantity(
                [e.monitoring.pointing.array_altitude for e in events]
            ),
            array_az=u.Quantity([e.monitoring.pointing.array_azimuth for e in events]),
            event=triggered,
            row={t: next_row[t] + np.arange(len(n)) for t, n in triggered.items()},
            parameters={
                tel_id: to_table(
                    [events[n].dl1.tel[tel_id].parameters for n in numbers]
                )
                for tel_id, numbers in triggered.items()
            },
            pointing={
                tel_id: tuple(
                    u.Quantity(
                        [
                            events[n].monitoring.tel[tel_id].pointing[angle]
                            for n in numbers
                        ]
                    )
                    for angle in ("altitude", "azimuth")
                )
                for tel_id, numbers in triggered.items()
            },
        )

    def _rows(self, tel_id, row, obs_id, event_id):
        events = [self._images[tel_id][n] for n in row]
        found = [(event.index.obs_id, event.index.event_id) for event in events]
        if found != list(zip(obs_id, event_id, strict=True)):
            raise DL1FileError(f"{self.path}: images of other events")
        return events

    def read_images(self, tel_id, row, obs_id, event_id):
        images = [e.dl1.tel[tel_id] for e in self._rows(tel_id, row, obs_id, event_id)]
        names = ("image", "peak_time", "image_mask")
        return tuple(np.array([image[name] for image in images]) for name in names)

    def read_true_images(self, tel_id, row, obs_id, event_id):
        events = self._rows(tel_id, row, obs_id, event_id)
        return np.array([event.simulation.tel[tel_id].true_image for event in events])

    def read_showers(self, chunk):
        showers = to_table([self._events[n].simulation.shower for n in chunk.number])
        showers["obs_id"], showers["event_id"] = chunk.obs_id, chunk.event_id
        return showers

    def read_runs(self):
        runs = self._source.simulation_config
        table = to_table(runs.values(), add_prefix=False)
        table["obs_id"] = list(runs)
        return table

    def list_dl2(self, level):
        return {}

    def read_dl2(self, level, kind, group, tel_id):
        raise KeyError(group)

    def copy_to(self, output, name, images, is_left_out, kept=None):
        # ctapipe writes its format best.
        card = toy_sample.ToyCard.read(self.path)
        with tempfile.TemporaryDirectory() as folder:
            path = toy_sample.write_toy_file(Path(folder) / "a.dl1.h5", **vars(card))
            with DL1File(path, "EQUIVALENT") as dl1:
                dl1.copy_to(output, name, images, is_left_out, kept)
