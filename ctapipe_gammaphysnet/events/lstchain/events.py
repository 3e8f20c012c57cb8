"""The events of a lstchain file, in the order of its first telescope events."""

import astropy.units as u
import numpy as np

__all__ = ["LSTChainEvents"]


class LSTChainEvents:
    """Telescope events of all tables of a file, one table after the other.

    Parameters
    ----------
    file : LSTChainFile
        The file.

    Attributes
    ----------
    number : numpy.ndarray
        The event of each telescope event, from 0, shape (n,), int.
    order : numpy.ndarray
        Index of the telescope events, by event and telescope, shape (n,), int.
    of_array : numpy.ndarray
        Index of each event's first telescope event, shape (n_events,), int.
    of_telescope : dict of int to numpy.ndarray
        Index of each telescope's events, in the order of the events, shape (n,), int.
    """

    def __init__(self, file):
        self._tables = file.parameters
        ids = np.column_stack([self.column("obs_id"), self.column("event_id")])
        _, first, event = np.unique(ids, axis=0, return_index=True, return_inverse=True)
        self.number = np.argsort(np.argsort(first))[event.reshape(-1)]
        tel_id = self.column("tel_id")
        self.order = np.lexsort((tel_id, self.number))
        ordered = tel_id[self.order]
        _, start = np.unique(self.number[self.order], return_index=True)
        self.of_array = self.order[start]
        self.of_telescope = {
            tel: self.order[ordered == tel] for tel in np.unique(tel_id).tolist()
        }

    def column(self, name):
        """Join a column of the parameters.

        Parameters
        ----------
        name : str
            The column in lstchain's files.

        Returns
        -------
        numpy.ndarray or astropy.units.Quantity
            Its values for all telescope events, shape (n,).
        """
        columns = [table[name] for table in self._tables.values()]
        is_quantity = isinstance(columns[0], u.Quantity)
        return np.concatenate(columns if is_quantity else [*map(np.asarray, columns)])

    def rows(self, index):
        """Find telescope events of one telescope in their table.

        Parameters
        ----------
        index : numpy.ndarray
            Index of the telescope events, shape (n,), int.

        Returns
        -------
        name : str
            Their table.
        row : numpy.ndarray
            Their rows, shape (n,), int.
        """
        ends = np.cumsum([len(table) for table in self._tables.values()])
        table = np.searchsorted(ends, index[0], side="right")
        name = [*self._tables][table]
        return name, index - (ends[table] - len(self._tables[name]))
