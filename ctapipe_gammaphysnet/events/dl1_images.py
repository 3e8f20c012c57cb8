"""Images in rows of a ctapipe file."""

from ctapipe.io.hdf5tableio import get_column_attrs, get_column_transforms

from ..files.input_file import open_input, reading
from .dl1_format import IMAGES, TRUE_IMAGES, of_telescope
from .dl1_keys import check_keys

__all__ = ["DL1Images"]


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
        table, rows = self._read_rows(IMAGES, tel_id, row, obs_id, event_id)
        with self.reading():
            transforms = get_column_transforms(get_column_attrs(table))
        image, peak_time = (
            transforms[name].inverse(rows[name]) if name in transforms else rows[name]
            for name in ("image", "peak_time")
        )
        mask = rows["image_mask"] if "image_mask" in rows.dtype.names else None
        return image, peak_time, mask

    def read_true_images(self, tel_id, row, obs_id, event_id):
        if of_telescope(TRUE_IMAGES, tel_id) not in self:
            return None
        _, rows = self._read_rows(TRUE_IMAGES, tel_id, row, obs_id, event_id)
        return rows["true_image"] if "true_image" in rows.dtype.names else None

    def _read_rows(self, group, tel_id, row, obs_id, event_id):
        """A table with a row for each image of a telescope, and some of its rows."""
        node = of_telescope(group, tel_id)
        first, last = row[0], row[-1]
        with self.reading():
            table = self.h5file.get_node(node)
            # Not as an astropy table, which stays in memory for a while.
            rows = table.read(first, last + 1)
            if len(rows) <= last - first:
                raise EOFError(f"{node} has become shorter")
        rows = rows[row - first]
        check_keys(self.path, node, rows, tel_id, obs_id, event_id)
        return table, rows
