"""Images in rows of a ctapipe file."""

from functools import partial

import numpy as np
from ctapipe.io.hdf5tableio import get_column_attrs, get_column_transforms

from ..files.chunks import fetch_rows, has_plain_chunks
from ..files.input_file import open_input, reading
from .dl1_format import IMAGES, TRUE_IMAGES, of_telescope
from .dl1_keys import check_keys

__all__ = ["DL1Images"]

_KEYS = ("obs_id", "event_id", "tel_id")


class DL1Images:
    """A ctapipe file, open to read images, as described by `EventReader`.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Raises
    ------
    DL1FileError
        If it cannot be opened, or is not a file that this version of ctapipe can read.
    """

    def __init__(self, path):
        self.path = path
        #: The open file.
        self.h5file = open_input(path)
        # Of each table: whether its chunks are read outside of HDF5, and `transforms`.
        self._plain, self._transforms = {}, {}

    def __contains__(self, node):
        return node in self.h5file

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self.h5file.close()

    def reading(self):
        """Name the file in errors, as `reading` does.

        Returns
        -------
        contextlib.AbstractContextManager
            For code that reads from this file.
        """
        return reading(self.path)

    def read_images(self, tel_id, row, obs_id, event_id):
        return self.fetch_images(tel_id, row, obs_id, event_id)()

    def fetch_images(self, tel_id, row, obs_id, event_id):
        fetched = self._fetch_rows(IMAGES, tel_id, row, obs_id, event_id)
        transforms = self.transforms(of_telescope(IMAGES, tel_id))
        return partial(_images_of, fetched, transforms)

    def read_true_images(self, tel_id, row, obs_id, event_id):
        if of_telescope(TRUE_IMAGES, tel_id) not in self:
            return None
        rows, index = self._fetch_rows(TRUE_IMAGES, tel_id, row, obs_id, event_id)()
        return rows["true_image"][index] if "true_image" in rows.dtype.names else None

    def _fetch_rows(self, group, tel_id, row, obs_id, event_id):
        """Fetch some rows of a table with a row for each image of a telescope.

        Return a function that returns the rows around them, and the index of each.
        """
        node = of_telescope(group, tel_id)
        first, last = row[0], row[-1]
        fetched = self.fetch(node, first, last + 1)
        ids = tel_id, obs_id, event_id
        return partial(_checked, self.path, node, fetched, row - first, ids)

    def fetch(self, node, start, stop):
        """Fetch rows of a table, to be decompressed in any thread.

        Parameters
        ----------
        node : str
            Path of the table in the file.
        start, stop : int
            The first row, and the one after the last.

        Returns
        -------
        callable
            Returns the rows as a structured array; it raises a `DL1FileError` if they
            are damaged.
        """
        with self.reading():
            table = self.h5file.get_node(node)
            if table.nrows < stop:
                raise EOFError(f"{node} has become shorter")
            if node not in self._plain:
                self._plain[node] = has_plain_chunks(table)
            if self._plain[node]:
                fetched = fetch_rows(table, start, stop)
            else:
                # Not as an astropy table, which stays in memory for a while.
                fetched = partial(np.asarray, table.read(start, stop))
        return partial(_decompressed, self.path, fetched)

    def transforms(self, node):
        """Return what turns stored columns of a table into values.

        Parameters
        ----------
        node : str
            Path of the table in the file.

        Returns
        -------
        dict of str to ctapipe.io.tableio.ColumnTransform
            By name, for the columns that need it.
        """
        if node not in self._transforms:
            with self.reading():
                attributes = get_column_attrs(self.h5file.get_node(node))
                self._transforms[node] = get_column_transforms(attributes)
        return self._transforms[node]


def _decompressed(path, fetched):
    with reading(path):
        return fetched()


def _checked(path, node, fetched, index, ids):
    """Rows of a table, and the index of some, whose ids are checked."""
    rows = fetched()
    check_keys(path, node, {key: rows[key][index] for key in _KEYS}, *ids)
    return rows, index


def _images_of(fetched, transforms):
    """Charge, peak time and mask of fetched rows."""
    rows, index = fetched()
    image, peak_time = (
        transforms[name].inverse(values) if name in transforms else values
        for name, values in ((n, rows[n][index]) for n in ("image", "peak_time"))
    )
    has_mask = "image_mask" in rows.dtype.names
    return image, peak_time, rows["image_mask"][index] if has_mask else None
