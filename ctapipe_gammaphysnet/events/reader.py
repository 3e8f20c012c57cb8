"""What a reader gives of a file: events in chunks, images of rows, the truth.

All that needs telescope events asks a reader for them, which `opening.open_events`
finds. A further kind of file is a further class with these attributes and methods.
"""

from dataclasses import dataclass
from typing import Protocol

import astropy.units as u
import numpy as np

__all__ = ["EventChunk", "EventReader"]


@dataclass(frozen=True, eq=False)
class EventChunk:
    """Consecutive events of a file, without images.

    Attributes
    ----------
    start : int
        Number of the first of them in the file, from 0.
    obs_id, event_id : numpy.ndarray
        Numbers of the events, shape (n_events,), int.
    array_alt, array_az : astropy.units.Quantity
        Pointing of the array at each event, shape (n_events,); NaN where not known.
    event : dict of int to numpy.ndarray
        For each telescope with data the events it triggered, counted from the start of
        the chunk, shape (n,), int.
    first_row : dict of int to int
        Number of the first of them among all images of the telescope, from 0.
    parameters : dict of int to astropy.table.QTable
        Parameters of their images in ctapipe's columns, n rows; empty if the file has
        none.
    pointing : dict of int to (astropy.units.Quantity, astropy.units.Quantity)
        Altitude and azimuth of the telescope, shape (n,); NaN where not known.
    """

    start: int
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


class EventReader(Protocol):
    """An open file of telescope events, whose events and tables are checked.

    It is made of the path, of which focal length to use, and of what the file must
    have: a collection of ``"images"`` and ``"parameters"``. Whatever is wrong with the
    file is a `DL1FileError`, or a `MissingImagesError`, that names it.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    focal_length_choice : ctapipe.instrument.FocalLengthKind or str
        Which focal length is used.
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes.
    n_events : int
        Number of events.
    is_simulation : bool
        Whether the events are simulated.
    has_truth : bool
        Whether there are simulated showers.
    product_id : str
        Number by which ctapipe knows the file.
    obs_ids : list of int
        Numbers of the observations.
    """

    @classmethod
    def can_read(cls, path):
        """Tell from a path, or the first bytes, whether this is the reader of it."""

    @classmethod
    def open_images(cls, path):
        """Open the file for `read_images` alone, of rows that are known already."""

    def close(self):
        """Close the file. A reader is a context manager that does so, too."""

    def check_truth(self):
        """Check the tables of simulated showers and images."""

    def without_masks(self):
        """Name the tables, or telescopes, whose images have no mask."""

    def without_pointing(self, tel_ids):
        """Find those of some telescopes with events whose pointing is never known."""

    def empty_tables(self):
        """Telescopes with tables in a file without events; None if it has no tables."""

    def chunks(self, size):
        """Yield all events once, in chunks of at most ``size``: `EventChunk`."""

    def read_images(self, tel_id, row, obs_id, event_id):
        """Read some images of a telescope, which must be those of these events.

        ``row`` rises; all rows between its first and its last are read. Returns
        charge in p.e., peak time in ns, shape (n, n_pixels), float, and the mask of the
        image cleaning, bool, or None if there is none.
        """

    def read_true_images(self, tel_id, row, obs_id, event_id):
        """Read photoelectrons of the shower, as `read_images`; None if not there."""

    def read_showers(self, chunk):
        """Read the simulated shower of each event of a chunk.

        Returns an `astropy.table.QTable` with ctapipe's columns of simulated showers.
        """

    def read_runs(self):
        """Read how showers were simulated.

        Returns an `astropy.table.QTable` with ctapipe's columns of simulated runs; None
        if the file does not say.
        """

    def list_dl2(self, level):
        """List what is predicted, of ``level`` "telescope" or "array".

        Returns, for the kinds of DL2 information, the telescopes of each group with
        predictions; for the array they are [0].
        """

    def read_dl2(self, level, kind, group, tel_id):
        """Read the predictions of one group, for one telescope or the array.

        Returns what to call the table, and an `astropy.table.QTable` with obs_id,
        event_id and the fields of ctapipe's container.
        """

    def copy_to(self, h5file, name, images, is_left_out):
        """Copy all that there is into a ctapipe HDF5 file.

        ``name`` is its name for messages; images are copied if ``images`` is True, and
        nodes for which ``is_left_out`` is True are not.
        """
