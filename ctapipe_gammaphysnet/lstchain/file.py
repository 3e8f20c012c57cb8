"""Read a DL1 file of lstchain.

Unlike ctapipe's, it has a table of images and one of parameters for each telescope
type, row by row of the same telescope events. Pointing, times and the truth of
simulations are columns of the parameters.
"""

import numpy as np
import tables
from astropy.table import QTable
from ctapipe.containers import EventType
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import read_table

from ..files.input_file import DL1FileError, reading

__all__ = ["LSTChainFile", "is_lstchain"]

IMAGES = "/dl1/event/telescope/image"
PARAMETERS = "/dl1/event/telescope/parameters"
RUNS = "/simulation/run_config"
SHOWERS = "/simulation/thrown_event_distribution"
#: Columns that show the file to be lstchain's.
_POINTING = ("alt_tel", "az_tel")
_KEYS = ("obs_id", "event_id", "tel_id")
_IMAGE_COLUMNS = ("image", "peak_time", "image_mask")
_TRUTH = (
    *("mc_energy", "mc_alt", "mc_az", "mc_core_x", "mc_core_y"),
    *("mc_h_first_int", "mc_x_max", "mc_type"),
)
#: The time of an event in s since 1970 (UTC); the first that a file has.
_TIMES = ("dragon_time", "trigger_time")
#: Rows of images that are read at once.
_BLOCK = 64


def is_lstchain(path):
    """Check whether a file is a DL1 file of lstchain, with or without images.

    Parameters
    ----------
    path : pathlib.Path
        The file, which need not exist.

    Returns
    -------
    bool
        Whether its parameters have the columns of lstchain.
    """
    if not (path.is_file() and tables.is_hdf5_file(path)):
        return False
    with tables.open_file(path) as h5file:
        return PARAMETERS in h5file and any(
            isinstance(table, tables.Table) and {*_POINTING} <= {*table.colnames}
            for table in h5file.root[PARAMETERS]
        )


class LSTChainFile:
    """A DL1 file of lstchain, open for reading.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    focal_length_choice : ctapipe.instrument.FocalLengthKind
        The focal length with which positions in the camera become angles.

    Attributes
    ----------
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes.
    is_simulation : bool
        Whether the events are simulated.
    parameters : dict of str to astropy.table.QTable
        Parameters of the images, pointings, times and the truth in lstchain's columns,
        by the names of the telescope types' tables.
    time_column : str
        The column with the time of an event.

    Raises
    ------
    DL1FileError
        If it is damaged, has no images, or columns are missing.
    """

    def __init__(self, path, focal_length_choice):
        self.path = path
        with reading(path):
            self._h5file = tables.open_file(path)
        try:
            with reading(path):
                self.subarray = SubarrayDescription.from_hdf(
                    self._h5file, focal_length_choice
                )
                self._read_parameters()
        except BaseException:
            self.close()
            raise
        self._blocks = {}

    def close(self):
        """Close the file."""
        self._h5file.close()

    def _read_parameters(self):
        if IMAGES not in self._h5file:
            raise DL1FileError(
                f"{self.path} has parameters of images, but not the images "
                f"themselves ({IMAGES}). Use the file from which they were left out, "
                "as lstchain_dl1ab and lstchain_merge_hdf5_files do with --no-image"
            )
        self.is_simulation = RUNS in self._h5file
        names = [table._v_name for table in self._h5file.root[PARAMETERS]]
        self.parameters = {
            name: read_table(self._h5file, f"{PARAMETERS}/{name}", table_cls=QTable)
            for name in names
        }
        for name in names:
            self._check(name)
        self.time_column = self._find_time()
        self._check_unique()

    def _check(self, name):
        """Check the columns and telescopes of a type, and that rows are alike."""
        node = f"{IMAGES}/{name}"
        parameters = self.parameters[name]
        if node not in self._h5file:
            raise DL1FileError(f"{self.path} has no table {node}")
        images = self._h5file.root[node]
        needed = (*_KEYS, *_POINTING, "event_type", "intensity", "x", "y")
        self._check_columns(f"{PARAMETERS}/{name}", parameters.colnames, needed)
        if self.is_simulation:
            self._check_columns(f"{PARAMETERS}/{name}", parameters.colnames, _TRUTH)
        self._check_columns(node, images.colnames, (*_KEYS, *_IMAGE_COLUMNS))
        for key in _KEYS:
            if not np.array_equal(images.col(key), parameters[key]):
                raise DL1FileError(
                    f"{self.path}: {node} and {PARAMETERS}/{name} have different "
                    f"{key}: they are not of the same telescope events"
                )
        for tel_id in np.unique(parameters["tel_id"]).tolist():
            if tel_id not in self.subarray.tel:
                raise DL1FileError(
                    f"{self.path}: {node} has images of telescope {tel_id}, which the "
                    "file does not describe"
                )
            n_pixels = self.subarray.tel[tel_id].camera.geometry.n_pixels
            for column in _IMAGE_COLUMNS:
                if images.coldescrs[column].shape != (n_pixels,):
                    raise DL1FileError(
                        f"{self.path}: column {column} of {node} does not have the "
                        f"{n_pixels} pixels of telescope {tel_id}"
                    )
        known = [event_type.value for event_type in EventType]
        unknown = set(np.asarray(parameters["event_type"]).tolist()).difference(known)
        if unknown:
            raise DL1FileError(
                f"{self.path}: {PARAMETERS}/{name} has the event type {min(unknown)}, "
                "which ctapipe does not know"
            )

    def _check_columns(self, node, found, needed):
        missing = [name for name in needed if name not in found]
        if missing:
            raise DL1FileError(
                f"{self.path}: {node} does not have the column {missing[0]} of lstchain"
            )

    def _find_time(self):
        for column in _TIMES:
            if all(column in table.colnames for table in self.parameters.values()):
                return column
        raise DL1FileError(
            f"{self.path} does not say when its events were: {PARAMETERS} has none of "
            f"the columns {', '.join(_TIMES)}"
        )

    def _check_unique(self):
        keys = [
            np.column_stack([np.asarray(table[key]) for key in _KEYS])
            for table in self.parameters.values()
        ]
        found, counts = np.unique(np.concatenate(keys), axis=0, return_counts=True)
        if (counts > 1).any():
            obs_id, event_id, tel_id = found[counts > 1][0].tolist()
            raise DL1FileError(
                f"{self.path} has event {event_id} of observation {obs_id} twice for "
                f"telescope {tel_id}: was a run merged with itself?"
            )

    def events(self):
        """Find the rows of each event.

        Returns
        -------
        dict of (int, int) to list of (str, int)
            For each event by obs_id and event_id its telescope events, as table and
            row; in the file's order.
        """
        events = {}
        for name, table in self.parameters.items():
            ids = (np.asarray(table[key]).tolist() for key in ("obs_id", "event_id"))
            for row, key in enumerate(zip(*ids, strict=True)):
                events.setdefault(key, []).append((name, row))
        return events

    def read_image(self, name, row):
        """Read an image.

        Parameters
        ----------
        name : str
            Table of the telescope type.
        row : int
            Row of the telescope event.

        Returns
        -------
        image, peak_time : numpy.ndarray
            Charge in p.e. and peak time in ns, shape (n_pixels,), float32.
        image_mask : numpy.ndarray
            Mask of lstchain's image cleaning, shape (n_pixels,), bool.

        Raises
        ------
        DL1FileError
            If it cannot be read.
        """
        start = row - row % _BLOCK
        if self._blocks.get(name, (None,))[0] != start:
            with reading(self.path):
                block = read_table(
                    self._h5file, f"{IMAGES}/{name}", start=start, stop=start + _BLOCK
                )
            self._blocks[name] = start, block
        values = self._blocks[name][1][row - start]
        image, peak_time, mask = (np.asarray(values[c]) for c in _IMAGE_COLUMNS)
        return image, peak_time, mask.astype(bool)

    def read_runs(self):
        """Read the settings of a simulation's runs.

        Returns
        -------
        astropy.table.QTable
            A row for each run, with ``obs_id``.
        """
        with reading(self.path):
            return read_table(self._h5file, RUNS, table_cls=QTable)

    def read_showers(self):
        """Read how many showers were simulated, by energy and core distance.

        Returns
        -------
        astropy.table.QTable or None
            A row for each run; None if the file does not have it.
        """
        if SHOWERS not in self._h5file:
            return None
        with reading(self.path):
            return read_table(self._h5file, SHOWERS, table_cls=QTable)
