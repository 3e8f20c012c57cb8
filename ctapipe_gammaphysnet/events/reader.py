"""What a reader returns from a file: events in chunks, images of rows, the truth.

All code that needs telescope events asks a reader for them. `opening.open_events` finds
the reader of a file. To read another kind of file, write another reader.
"""

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import QTable
from ctapipe.atmosphere import AtmosphereDensityProfile

__all__ = ["EventChunk", "EventReader"]


@dataclass(frozen=True, eq=False)
class EventChunk:
    """Events of a file, in its order, without images.

    Attributes
    ----------
    number : numpy.ndarray
        Index of each event in the file, from 0, shape (n_events,), int.
    obs_id, event_id : numpy.ndarray
        Ids of the events, shape (n_events,), int.
    array_alt, array_az : astropy.units.Quantity
        Pointing of the array at each event, shape (n_events,); NaN if not known.
    event : dict of int to numpy.ndarray
        For each telescope with data the events that it triggered, counted from the
        start of the chunk, shape (n,), int.
    row : dict of int to numpy.ndarray
        Rows of these events among all images of the telescope, from 0, shape (n,), int.
    parameters : dict of int to astropy.table.QTable
        Parameters of their images in ctapipe's columns, n rows; empty if the file has
        none.
    pointing : dict of int to (astropy.units.Quantity, astropy.units.Quantity)
        Altitude and azimuth of the telescope, shape (n,); NaN if not known.
    """

    number: np.ndarray
    obs_id: np.ndarray
    event_id: np.ndarray
    array_alt: u.Quantity
    array_az: u.Quantity
    event: dict
    row: dict
    parameters: dict
    pointing: dict

    def __len__(self):
        return len(self.event_id)

    def select(self, kept):
        """Select events.

        Parameters
        ----------
        kept : numpy.ndarray
            Which events to keep, shape (n_events,), bool.

        Returns
        -------
        EventChunk
            These events, with the same telescopes.
        """
        if kept.all():
            return self
        new_number = np.cumsum(kept) - 1
        rows = {tel_id: kept[events] for tel_id, events in self.event.items()}
        return replace(
            self,
            number=self.number[kept],
            obs_id=self.obs_id[kept],
            event_id=self.event_id[kept],
            array_alt=self.array_alt[kept],
            array_az=self.array_az[kept],
            event={t: new_number[self.event[t][part]] for t, part in rows.items()},
            row={t: self.row[t][part] for t, part in rows.items()},
            parameters={t: table[rows[t]] for t, table in self.parameters.items()},
            pointing={
                t: tuple(angle[rows[t]] for angle in angles)
                for t, angles in self.pointing.items()
            },
        )


class EventReader(AbstractContextManager):
    """An open file of telescope events, whose events and tables are checked.

    It is made from the path, the choice of focal length, and what the file must have: a
    collection of ``"images"`` and ``"parameters"``. Whatever is wrong with the file is
    a `DL1FileError` or a `MissingImagesError` that names it.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    focal_length_choice : ctapipe.instrument.FocalLengthKind or str
        The focal length used.
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes.
    n_events : int
        Number of events.
    event_type : numpy.ndarray
        ctapipe's `EventType` of each event, as a number, shape (n_events,), int.
    is_simulation : bool
        Whether the events are simulated.
    has_truth : bool
        Whether the file has simulated showers.
    product_id : str
        ctapipe's id of the file.
    obs_ids : list of int
        Ids of the observations.
    """

    @classmethod
    @abstractmethod
    def can_read(cls, path: Path) -> bool:
        """Check whether this is the reader of a file, which need not exist."""

    @classmethod
    @abstractmethod
    def open_images(cls, path: Path) -> "EventReader":
        """Open a file for `read_images` alone; its tables need not be checked."""

    def __exit__(self, *exception):
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def check_truth(self) -> None:
        """Check that simulated showers and true images match the events."""

    @abstractmethod
    def without_masks(self) -> list[str]:
        """Name the tables, or telescopes, with images that have no cleaning mask."""

    @abstractmethod
    def without_pointing(self, tel_ids: Iterable[int]) -> list[int]:
        """Find telescopes that triggered, but have no pointing."""

    @abstractmethod
    def empty_tables(self):
        """Find the tables of a file without events.

        Returns
        -------
        list of int or None
            Telescopes with empty tables; None if there are events, or no tables of
            events at all.
        """

    @abstractmethod
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
        """

    @abstractmethod
    def read_images(self, tel_id, row, obs_id, event_id):
        """Read images of a telescope.

        Parameters
        ----------
        tel_id : int
            The telescope.
        row : numpy.ndarray
            Rows of the images, in order, shape (n,), int. All rows between the first
            and the last are read.
        obs_id, event_id : numpy.ndarray
            Ids of the events that they must belong to, shape (n,), int.

        Returns
        -------
        image, peak_time : numpy.ndarray
            Charge in p.e. and peak time in ns, shape (n, n_pixels), float.
        image_mask : numpy.ndarray or None
            Mask of the image cleaning, shape (n, n_pixels), bool; None if there is
            none.

        Raises
        ------
        DL1FileError
            If the file is damaged, or the images belong to other events.
        """

    def fetch_images(self, tel_id, row, obs_id, event_id):
        """Fetch images of a telescope, to be decompressed in another thread.

        The file is read now: other threads cannot use it. Readers whose files are not
        compressed need nothing of their own.

        Parameters
        ----------
        tel_id, row, obs_id, event_id : int, numpy.ndarray
            Which images, as in `read_images`.

        Returns
        -------
        callable
            Returns what `read_images` does, or raises its errors, in any thread.
        """
        images = self.read_images(tel_id, row, obs_id, event_id)
        return lambda: images

    @abstractmethod
    def read_true_images(self, tel_id, row, obs_id, event_id):
        """Read the simulated photoelectrons of the shower.

        Parameters
        ----------
        tel_id : int
            The telescope.
        row, obs_id, event_id : numpy.ndarray
            Which images, as in `read_images`.

        Returns
        -------
        numpy.ndarray or None
            True images, shape (n, n_pixels); None if the file has none.
        """

    @abstractmethod
    def read_showers(self, chunk: EventChunk) -> QTable:
        """Read the shower of each event, in ctapipe's columns, with the event's ids."""

    @abstractmethod
    def read_atmosphere(self) -> AtmosphereDensityProfile | None:
        """Read the atmosphere of the simulation; None if the file has none."""

    @abstractmethod
    def read_runs(self):
        """Read the settings of the simulation.

        Returns
        -------
        astropy.table.QTable or None
            A row for each run, in ctapipe's columns, with ``obs_id``; None if the file
            has none.
        """

    @abstractmethod
    def list_dl2(self, level):
        """List the groups of predictions.

        Parameters
        ----------
        level : {"telescope", "array"}
            Predictions of the telescopes, or of the array.

        Returns
        -------
        dict of str to dict of str to list of int
            For each kind of DL2 information and each group the telescopes with
            predictions; [0] for the array.
        """

    @abstractmethod
    def read_dl2(self, level, kind, group, tel_id):
        """Read the predictions of a group.

        Parameters
        ----------
        level : {"telescope", "array"}
            Predictions of a telescope, or of the array.
        kind : str
            Kind of DL2 information.
        group : str
            Name of the group.
        tel_id : int
            The telescope; 0 for the array.

        Returns
        -------
        name : str
            Name of the table in messages.
        table : astropy.table.QTable
            ``obs_id``, ``event_id`` and the fields of ctapipe's container.
        """

    @abstractmethod
    def copy_to(self, output, name, images, is_left_out, kept=None):
        """Copy the content, except waveforms, into a ctapipe HDF5 file.

        Parameters
        ----------
        output : ContainerTables
            The file to copy into.
        name : pathlib.Path
            Its name in messages.
        images : bool
            Whether to copy images and true images.
        is_left_out : callable
            Function of a path in the file: whether to leave it out, too.
        kept : numpy.ndarray, optional
            Events whose rows are copied, shape (n_events,), bool. Default: all.

        Raises
        ------
        DL1FileError
            If something cannot be read.
        OutputError
            If it cannot be written.
        """
