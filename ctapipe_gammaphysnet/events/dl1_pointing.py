"""Where telescopes and array point, according to a DL1 file.

ctapipe has three ways to store the pointing: monitored over time, fixed for an
observation, and, before ctapipe 0.21, monitored in another place.
"""

import astropy.units as u
import numpy as np
from astropy.table import QTable
from ctapipe.containers import CoordinateFrameType
from ctapipe.io import read_table
from ctapipe.io.hdf5dataformat import (
    DL0_TEL_POINTING_GROUP,
    DL1_TEL_POINTING_GROUP,
    FIXED_POINTING_GROUP,
)
from ctapipe.monitoring.interpolation import PointingInterpolator

from ..files.input_file import DAMAGED, DL1FileError
from .dl1_format import (
    OBSERVATION_COLUMNS,
    OBSERVATIONS,
    POINTING_COLUMNS,
    check_table,
    of_telescope,
)
from .dl1_keys import TORN

__all__ = ["DL1Pointing"]


class DL1Pointing:
    """The pointings in a DL1 file.

    Parameters
    ----------
    path, file : pathlib.Path, tables.File
        As in `check_table`.

    Attributes
    ----------
    obs_ids : list of int
        Ids of the observations, in the file's order.
    is_monitored : bool
        Whether the times at which the telescopes triggered are needed.

    Raises
    ------
    DL1FileError
        If the observations are missing, or have impossible pointings.
    """

    def __init__(self, path, file):
        self._path, self._file, self._tables = path, file, {}
        check_table(path, file, OBSERVATIONS, OBSERVATION_COLUMNS)
        self._observations = read_table(file, OBSERVATIONS, table_cls=QTable)
        lat, lon = self._array_angles()
        _check_angles(path, OBSERVATIONS, lat, lon)
        self.obs_ids = self._observations["obs_id"].tolist()
        self.is_monitored = DL0_TEL_POINTING_GROUP in file
        self._interpolator = None
        if self.is_monitored:
            self._interpolator = PointingInterpolator(h5file=file)

    def check(self, tel_id: int) -> None:
        """Check the pointings of a telescope, however they are stored."""
        for group, kind in (
            (DL0_TEL_POINTING_GROUP, "monitored"),
            (FIXED_POINTING_GROUP, "fixed"),
            (DL1_TEL_POINTING_GROUP, "monitored"),
        ):
            node = of_telescope(group, tel_id)
            if node in self._file:
                self._check_table(node, kind, tel_id)

    def _check_table(self, node, kind, tel_id):
        columns = POINTING_COLUMNS[kind]
        check_table(self._path, self._file, node, columns)
        table = read_table(self._file, node, table_cls=QTable)
        if len(table) == 0:
            raise DL1FileError(f"{self._path}: {node} is empty")
        if kind == "fixed" and np.any(table["tel_id"] != tel_id):
            raise DL1FileError(
                f"{self._path}: {node} has the pointing of another telescope: {TORN}"
            )
        altitude, azimuth = (
            table[name]
            for angle in ("altitude", "azimuth")
            for name in columns
            if angle in name
        )
        _check_angles(self._path, node, altitude, azimuth)

    def is_known(self, tel_id: int) -> bool:
        """Check whether ctapipe's `HDF5EventSource` finds a telescope's pointing."""
        if self.is_monitored:
            group = DL0_TEL_POINTING_GROUP
        else:
            group = (
                FIXED_POINTING_GROUP
                if FIXED_POINTING_GROUP in self._file
                else DL1_TEL_POINTING_GROUP
            )
        return of_telescope(group, tel_id) in self._file

    def check_observations(self, obs_id: np.ndarray) -> None:
        """Check that observations are known, and have one pointing each."""
        self._observation_rows(OBSERVATIONS, self._observations, obs_id)

    def of_telescope(self, tel_id, obs_id, event_time, trigger_time):
        """Look up where a telescope pointed, as ctapipe's `HDF5EventSource` does.

        Parameters
        ----------
        tel_id : int
            The telescope.
        obs_id : numpy.ndarray
            Observation of each event, shape (n,), int.
        event_time : astropy.time.Time
            When the array triggered, shape (n,).
        trigger_time : astropy.time.Time or None
            When the telescope triggered, shape (n,); needed if ``is_monitored``.

        Returns
        -------
        altitude, azimuth : astropy.units.Quantity
            Horizontal coordinates, shape (n,); NaN if not known.

        Raises
        ------
        DL1FileError
            If it is not known at these times, or for one of the observations.
        """
        if not self.is_known(tel_id):
            unknown = np.full(len(obs_id), np.nan) * u.rad
            return unknown, unknown
        if self.is_monitored:
            try:
                return self._interpolator(tel_id, trigger_time)
            except ValueError as error:
                raise DL1FileError(
                    f"{self._path}: the pointing of telescope {tel_id} is not known at "
                    f"the time of all its events: {error}"
                ) from error
        fixed = of_telescope(FIXED_POINTING_GROUP, tel_id)
        if fixed in self._file:
            table = self._table(fixed)
            rows = self._observation_rows(fixed, table, obs_id)
            return tuple(
                table[f"telescope_pointing_{angle}"][rows]
                for angle in ("altitude", "azimuth")
            )
        table = self._table(of_telescope(DL1_TEL_POINTING_GROUP, tel_id))
        nearest = _nearest(table["time"].mjd, event_time.mjd)
        return table["altitude"][nearest], table["azimuth"][nearest]

    def _table(self, node):
        """A table, which is read only once."""
        if node not in self._tables:
            self._tables[node] = read_table(self._file, node, table_cls=QTable)
        return self._tables[node]

    def of_array(self, obs_id: np.ndarray) -> tuple[u.Quantity, u.Quantity]:
        """Look up altitude and azimuth of the array, shape (n,); NaN if not known."""
        table = self._observations
        rows = self._observation_rows(OBSERVATIONS, table, obs_id)
        lat, lon = self._array_angles()
        known = table["subarray_pointing_frame"] == CoordinateFrameType.ALTAZ.value
        known &= np.isfinite(lat) & np.isfinite(lon)
        return tuple(np.where(known, angle, np.nan)[rows] for angle in (lat, lon))

    def _array_angles(self):
        return [self._observations[f"subarray_pointing_{n}"] for n in ("lat", "lon")]

    def _observation_rows(self, node, table, obs_id):
        """Row of each observation in a table with one row for each."""
        numbers, first, inverse = np.unique(
            np.asarray(table["obs_id"], dtype=np.int64),
            return_index=True,
            return_inverse=True,
        )
        missing = np.setdiff1d(obs_id, numbers)
        if len(missing) > 0:
            raise DL1FileError(
                f"{self._path} has events of observation {missing[0]}, which is not "
                f"in {node}"
            )
        if len(numbers) < len(table):
            # Merged files may have the same row of an observation twice.
            for name in (name for name in table.colnames if "pointing" in name):
                values = u.Quantity(table[name]).value
                if not np.array_equal(values, values[first[inverse]], equal_nan=True):
                    raise DL1FileError(
                        f"{self._path}: {node} has several {name} of one observation"
                    )
        return first[np.searchsorted(numbers, obs_id)]


def _check_angles(path, node, altitude, azimuth):
    """Check that a telescope can point to these angles, or that they are NaN."""
    for name, angle, limit in (("altitude", altitude, 90), ("azimuth", azimuth, 720)):
        beyond = np.abs(angle) > limit * u.deg
        if beyond.any():
            raise DL1FileError(
                f"{path}: {node} has the {name} {angle[beyond][0].to(u.deg):.4g}, "
                f"which is impossible: {DAMAGED}"
            )


def _nearest(times, targets):
    """Index of the time nearest to each target."""
    order = np.argsort(times)
    after = np.searchsorted(times[order], targets).clip(1, len(times) - 1)
    before_is_nearer = targets - times[order[after - 1]] < times[order[after]] - targets
    return order[np.where(before_is_nearer, after - 1, after)]
