"""Read a DL1 file of lstchain.

Unlike ctapipe's, it has a table of images and one of parameters for each telescope
type, row by row of the same telescope events. Pointing, times and the truth of
simulations are columns of the parameters.
"""

import astropy.units as u
import numpy as np
import tables
from astropy.coordinates import EarthLocation
from astropy.table import QTable
from astropy.time import Time
from ctapipe.containers import EventType
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import read_table
from ctapipe.io.hdf5tableio import get_column_attrs, get_column_transforms

from ...files.input_file import CACHE_BYTES, DL1FileError, reading
from ..dl1_array import subarray_of
from ..dl1_format import check_table

__all__ = ["RUNS", "TRUTH", "LSTChainFile", "is_lstchain", "to_time"]

IMAGES = "/dl1/event/telescope/image"
PARAMETERS = "/dl1/event/telescope/parameters"
RUNS = "/simulation/run_config"
SHOWERS = "/simulation/thrown_event_distribution"
#: Columns that show the file to be lstchain's.
_POINTING = ("alt_tel", "az_tel")
_KEYS = ("obs_id", "event_id", "tel_id")
_IMAGE_COLUMNS = ("image", "peak_time", "image_mask")
#: Columns of the parameters with units, which a table written by pandas has lost.
_UNITS = {
    **dict.fromkeys((*_POINTING, "psi"), u.rad),
    **dict.fromkeys(("x", "y"), u.m),
    **dict.fromkeys(("length", "width"), u.deg),
}
#: ctapipe's fields of a simulated shower, lstchain's columns and the units to use.
TRUTH = {
    "energy": ("mc_energy", u.TeV),
    "alt": ("mc_alt", u.rad),
    "az": ("mc_az", u.rad),
    "core_x": ("mc_core_x", u.m),
    "core_y": ("mc_core_y", u.m),
    "h_first_int": ("mc_h_first_int", u.m),
    "x_max": ("mc_x_max", u.g / u.cm**2),
    "shower_primary_id": ("mc_type", None),
}
#: The time of an event in s since 1970 (UTC); the first that a file has.
_TIMES = ("dragon_time", "trigger_time")
#: Below it, a file has no altitude of the array: computed from ITRS, 0 m is not exact.
_SEA_LEVEL = 1 * u.m


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
    try:
        with reading(path):
            if not (path.is_file() and tables.is_hdf5_file(path)):
                return False
            with tables.open_file(path) as h5file:
                return PARAMETERS in h5file and _has_pointing(h5file.root[PARAMETERS])
    except DL1FileError:
        return False


def _has_pointing(group):
    """Whether the first table has it; all have the same columns."""
    # ctapipe's tables need not be opened, which takes a while.
    names = [name for name in group._v_children if not name.startswith("tel_")]
    return any({*_POINTING} <= {*group[name].colnames} for name in names[:1])


def to_time(seconds):
    """Convert lstchain's times.

    Parameters
    ----------
    seconds : float or numpy.ndarray
        Seconds since 1970 (UTC), all finite.

    Returns
    -------
    astropy.time.Time
        The times (TAI).
    """
    return Time(seconds, format="unix", scale="utc").tai


class LSTChainFile:
    """A DL1 file of lstchain, open for reading.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    focal_length_choice : ctapipe.instrument.FocalLengthKind or str
        The focal length with which positions in the camera become angles.

    Attributes
    ----------
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes; of simulations, at the simulated altitude.
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
            self._h5file = tables.open_file(path, chunk_cache_size=CACHE_BYTES)
        try:
            self.subarray = subarray_of(path, self._h5file, focal_length_choice)
            with reading(path):
                self._read_parameters()
        except BaseException:
            self.close()
            raise

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
        if self.is_simulation:
            self._place_at_altitude()
        names = [table._v_name for table in self._h5file.root[PARAMETERS]]
        self.parameters = {
            name: read_table(self._h5file, f"{PARAMETERS}/{name}", table_cls=QTable)
            for name in names
        }
        for name in names:
            self._check(name)
        self.time_column = self._find_time()
        self._check_tables_of_telescopes()
        self._check_unique()

    def _place_at_altitude(self):
        """Give the array the altitude of the runs, where the file has none for it."""
        location = self.subarray.reference_location
        if location is None or abs(location.height) > _SEA_LEVEL:
            return
        runs = self.read_runs()
        if "prod_site_alt" not in runs.colnames:
            return
        altitude = np.unique(u.Quantity(runs["prod_site_alt"], u.m))
        if len(altitude) > 1:
            raise DL1FileError(
                f"{self.path}: {RUNS} has runs at the altitudes {altitude}: merge runs "
                "of one site"
            )
        if np.isfinite(altitude).all():
            self.subarray = SubarrayDescription(
                self.subarray.name,
                self.subarray.positions,
                self.subarray.tel,
                EarthLocation(location.lon, location.lat, altitude[0]),
            )

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
            truth = [column for column, _ in TRUTH.values()]
            self._check_columns(f"{PARAMETERS}/{name}", parameters.colnames, truth)
        self._check_columns(node, images.colnames, (*_KEYS, *_IMAGE_COLUMNS))
        self._check_units(f"{PARAMETERS}/{name}", parameters.colnames)
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

    def _check_units(self, node, found):
        units = dict(_UNITS)
        if self.is_simulation:
            units |= {name: unit for name, unit in TRUTH.values() if unit is not None}
        needed = {name: unit for name, unit in units.items() if name in found}
        check_table(self.path, self._h5file, node, needed)

    def _find_time(self):
        for column in _TIMES:
            if all(column in table.colnames for table in self.parameters.values()):
                return column
        raise DL1FileError(
            f"{self.path} does not say when its events were: {PARAMETERS} has none of "
            f"the columns {', '.join(_TIMES)}"
        )

    def _check_tables_of_telescopes(self):
        """Check that each telescope has all of its events in one table."""
        table_of = {}
        for name, table in self.parameters.items():
            for tel_id in np.unique(table["tel_id"]).tolist():
                if table_of.setdefault(tel_id, name) != name:
                    raise DL1FileError(
                        f"{self.path} has events of telescope {tel_id} in the tables "
                        f"{table_of[tel_id]} and {name} of {PARAMETERS}"
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

    def read_images(self, name, row):
        """Read many images at once.

        Parameters
        ----------
        name : str
            Table of the telescope type.
        row : numpy.ndarray
            Rows of the telescope events, in any order, shape (n,), int. All rows
            between the first and the last are read.

        Returns
        -------
        dict of str to numpy.ndarray
            ``obs_id``, ``event_id`` and ``tel_id``, shape (n,); ``image``, the charge
            in p.e., and ``peak_time`` in ns, float32, and ``image_mask``, the mask of
            lstchain's image cleaning, bool, shape (n, n_pixels).

        Raises
        ------
        DL1FileError
            If they cannot be read.
        """
        first, last = row.min(), row.max()
        with reading(self.path):
            table = self._h5file.root[f"{IMAGES}/{name}"]
            # Not as an astropy table, which stays in memory for a while.
            rows = table.read(first, last + 1)
            if len(rows) <= last - first:
                raise EOFError(f"{table._v_pathname} has become shorter")
            rows = rows[row - first]
            transforms = get_column_transforms(get_column_attrs(table))
            columns = {
                column: transforms[column].inverse(rows[column])
                if column in transforms
                else rows[column]
                for column in (*_KEYS, *_IMAGE_COLUMNS)
            }
        return columns | {"image_mask": columns["image_mask"].astype(bool)}

    def read_runs(self, needed=()):
        """Read the settings of a simulation's runs.

        Parameters
        ----------
        needed : dict of str to object
            Columns that it must have, as for `check_table`.

        Returns
        -------
        astropy.table.QTable
            A row for each run, with ``obs_id``.
        """
        check_table(self.path, self._h5file, RUNS, {"obs_id": int, **dict(needed)})
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
