"""Tables that ctapipe makes from containers, with many rows appended at once."""

import astropy.units as u
import numpy as np
from astropy.time import Time
from ctapipe.io.hdf5tableio import get_column_attrs, get_column_transforms

__all__ = ["ContainerTables"]


class ContainerTables:
    """Tables of an HDF5 file, in ctapipe's format.

    Parameters
    ----------
    writer : ctapipe.io.HDF5TableWriter
        The writer of the open file.
    """

    def __init__(self, writer):
        self.writer = writer
        self._templates = {}

    @property
    def h5file(self):
        """The open file."""
        return self.writer.h5file

    def append(self, table_name, containers, columns):
        """Append rows to a table.

        Parameters
        ----------
        table_name : str
            Path of the table, without the first slash.
        containers : list of ctapipe.core.Container
            What a row consists of, with values of the right types and shapes. Columns
            that are not given keep their values.
        columns : dict of str to numpy.ndarray, astropy.units.Quantity or Time
            Columns of the table, n rows; without units in those of the containers.
        """
        if table_name not in self._templates:
            self._make(table_name, containers)
        template, transforms = self._templates[table_name]
        rows = np.repeat(template, len(next(iter(columns.values()))))
        for name, values in columns.items():
            if isinstance(values, u.Quantity | Time) and name in transforms:
                values = transforms[name](values)
            rows[name] = values
        self.h5file.root[table_name].append(rows)

    def _make(self, table_name, containers):
        """Let ctapipe make a table with one row, the template for all rows."""
        self.writer.write(table_name, containers)
        table = self.h5file.root[table_name]
        table.flush()
        transforms = get_column_transforms(get_column_attrs(table))
        self._templates[table_name] = table[:], transforms
        table.remove_rows(0)
