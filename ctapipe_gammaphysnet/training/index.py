"""Index of the images to train on: where they are, and what they show.

The images themselves stay in their files until `stream` reads them.
"""

from dataclasses import dataclass, fields

import astropy.units as u
import numpy as np
from astropy.table import QTable
from ctapipe.core import ToolConfigurationError
from ctapipe.io import read_table

from ..events.dl1_file import DL1File
from ..events.dl1_format import IMAGES, SHOWERS
from ..events.showers import shower_numbers
from ..tasks import TASKS, default_tasks
from ..tasks.energy import energy_to_target
from ..tasks.task import Truth

__all__ = [
    "EventIndex",
    "TrainingDataError",
    "check_file",
    "check_particles",
    "check_truth",
    "read_index",
]

#: Particle id of gammas in ctapipe's simulated showers: sim_telarray's ids.
_GAMMA_ID = 0
#: What has to be known of a shower.
_TRUTH = ("true_energy", "true_alt", "true_az", "true_core_x", "true_core_y")
#: No shower that is seen or simulated has more. float32 holds it.
_MAX_ENERGY = 1e6 * u.TeV
#: No shower that is seen is further from the array.
_MAX_DISTANCE = 100 * u.km
#: Events read at once.
_CHUNK = 5000


class TrainingDataError(ToolConfigurationError, ValueError):
    """A file cannot be used for training; the message says why."""


@dataclass(frozen=True, eq=False)
class EventIndex:
    """Telescope events of one telescope type, without their images.

    Attributes
    ----------
    file : numpy.ndarray
        Number of the file, shape (n,), int32.
    obs_id, event_id : numpy.ndarray
        Numbers of observation and event, shape (n,), int64.
    tel_id : numpy.ndarray
        Telescope, shape (n,), int32.
    row : numpy.ndarray
        Row of the image in the telescope's table, shape (n,), int64.
    label : numpy.ndarray
        0 for signal and 1 for background, shape (n,), int64.
    shower : numpy.ndarray
        Number of the simulated shower, shape (n,), uint64.
    energy : numpy.ndarray
        log10(E / TeV), shape (n, 1), float32.
    targets : dict of str to numpy.ndarray
        What networks learn of each task but the class, shape (n, n_outputs), float32.
    pointing : numpy.ndarray
        Altitude and azimuth of the telescope in deg, shape (n, 2), float32.
    """

    file: np.ndarray
    obs_id: np.ndarray
    event_id: np.ndarray
    tel_id: np.ndarray
    row: np.ndarray
    label: np.ndarray
    shower: np.ndarray
    energy: np.ndarray
    targets: dict
    pointing: np.ndarray

    def __len__(self):
        return len(self.row)

    @classmethod
    def concatenate(cls, parts):
        """Join indices.

        Parameters
        ----------
        parts : list of EventIndex
            At least one.

        Returns
        -------
        EventIndex
            All of them.
        """
        return parts[0]._map(lambda *values: np.concatenate(values), *parts[1:])

    def select(self, rows):
        """Select telescope events.

        Parameters
        ----------
        rows : numpy.ndarray
            A mask, shape (n,), bool, or numbers of rows.

        Returns
        -------
        EventIndex
            The selected ones.
        """
        return self._map(lambda values: values[rows])

    def _map(self, function, *others):
        """Apply a function to each array of this index, and those of others."""
        indices = [self, *others]
        arrays = {
            field.name: function(*(getattr(index, field.name) for index in indices))
            for field in fields(self)
            if field.name != "targets"
        }
        targets = {
            name: function(*(index.targets[name] for index in indices))
            for name in self.targets
        }
        return EventIndex(**arrays, targets=targets)


def check_file(path):
    """Check that a file has what training needs: images, parameters and truth.

    Parameters
    ----------
    path : str or pathlib.Path
        A ctapipe HDF5 file.

    Returns
    -------
    ctapipe.instrument.SubarrayDescription
        Its telescopes.

    Raises
    ------
    TrainingDataError
        If it has not, with what to do.
    DL1FileError
        If it cannot be read, or its tables are damaged or do not fit each other.
    """
    # The focal length does not matter here, and old files know only one.
    with DL1File(path, focal_length_choice="EQUIVALENT") as dl1:
        if dl1.n_events > 0:
            if SHOWERS not in dl1:
                raise TrainingDataError(
                    f"{path} has no simulated showers: the truth of simulations is "
                    "needed, not observations"
                )
            _check_masks(dl1)
            dl1.check_truth()
        return dl1.subarray


def _check_masks(dl1):
    with dl1.reading():
        without = [
            table._v_pathname
            for table in dl1.h5file.root[IMAGES]
            if "image_mask" not in table.colnames
        ]
    if without:
        raise TrainingDataError(
            f"{dl1.path} has no image masks in {without[0]}: make it with "
            "'ctapipe-process --write-images --write-parameters'"
        )


def read_index(path, number, telescope, label, quality_query, tasks=None):
    """Find the images of one telescope type in a file, with their truth.

    Parameters
    ----------
    path : pathlib.Path
        A ctapipe DL1 file of simulations, with images and parameters.
    number : int
        By which the index knows the file.
    telescope : str
        Telescope type, for example ``LST_LST_LSTCam``.
    label : {0, 1}
        0 if the file is signal (gammas), 1 if it is background.
    quality_query : ImageQualityQuery
        Selects the images by their DL1 parameters, and counts them.
    tasks : collection of str, optional
        What networks learn; by default all that they do unless told otherwise.

    Returns
    -------
    EventIndex
        The selected images, in the order in which they are in the file.

    Raises
    ------
    TrainingDataError
        If particles are not what the label says, or the pointing is not known.
    """
    # The class is the label, which the index has anyway.
    learnt = [TASKS[t] for t in tasks or default_tasks() if TASKS[t].of_gammas]
    # The focal length does not matter here, and old files know only one.
    with DL1File(path, focal_length_choice="EQUIVALENT") as dl1:
        tel_ids = dl1.subarray.get_tel_ids_for_type(telescope)
        positions = dl1.subarray.tel_coords.cartesian.xyz.to_value(u.m).T
        parts, first_event = [_empty_index(learnt)], 0
        for chunk in dl1.chunks(_CHUNK):
            with dl1.reading():
                showers = _read_showers(dl1, chunk, first_event)
            check_particles(path, showers["true_shower_primary_id"], label)
            first_event += len(chunk)
            for tel_id in tel_ids:
                if tel_id not in chunk.event:
                    continue
                is_good = quality_query.mask(chunk.parameters[tel_id], path)
                rows = np.flatnonzero(is_good)
                position = positions[dl1.subarray.tel_ids_to_indices(tel_id)]
                parts.append(
                    _index_rows(
                        path, number, chunk, tel_id, rows, showers, position, learnt
                    )
                )
    index = EventIndex.concatenate(parts)
    index.label[:] = label
    return index.select(np.lexsort((index.row, index.tel_id)))


def _empty_index(tasks):
    none = np.empty(0)
    return EventIndex(
        file=none.astype(np.int32),
        obs_id=none.astype(np.int64),
        event_id=none.astype(np.int64),
        tel_id=none.astype(np.int32),
        row=none.astype(np.int64),
        label=none.astype(np.int64),
        shower=none.astype(np.uint64),
        energy=np.empty((0, 1), np.float32),
        targets={t.name: np.empty((0, t.n_outputs(())), np.float32) for t in tasks},
        pointing=np.empty((0, 2), np.float32),
    )


def _read_showers(dl1, chunk, start):
    """Simulated showers of the events of a chunk."""
    showers = read_table(
        dl1.h5file, SHOWERS, start=start, stop=start + len(chunk), table_cls=QTable
    )
    if not (
        np.array_equal(showers["obs_id"], chunk.obs_id)
        and np.array_equal(showers["event_id"], chunk.event_id)
    ):
        raise TrainingDataError(
            f"{dl1.path}: {SHOWERS} does not have the showers of the file's events, "
            f"from event {chunk.event_id[0]} of observation {chunk.obs_id[0]} on"
        )
    return showers


def _index_rows(path, number, chunk, tel_id, rows, showers, position, tasks):
    """Index of the images of a telescope that passed the selection."""
    shower = showers[chunk.event[tel_id][rows]]
    check_truth(path, shower)
    alt, az = (angle[rows] for angle in chunk.pointing[tel_id])
    if not np.isfinite(alt.value + az.value).all():
        raise TrainingDataError(
            f"{path}: the pointing of telescope {tel_id} is not known for all its "
            "events"
        )
    n = len(rows)
    truth = Truth(shower, alt, az, u.Quantity(np.tile(position, (n, 1)), u.m))
    return EventIndex(
        file=np.full(n, number, np.int32),
        obs_id=np.asarray(shower["obs_id"], np.int64),
        event_id=np.asarray(shower["event_id"], np.int64),
        tel_id=np.full(n, tel_id, np.int32),
        row=(chunk.first_row[tel_id] + rows).astype(np.int64),
        label=np.zeros(n, np.int64),
        shower=shower_numbers(shower),
        energy=energy_to_target(shower["true_energy"]).astype(np.float32),
        targets={t.name: t.to_target(truth).astype(np.float32) for t in tasks},
        pointing=np.column_stack([alt.to_value(u.deg), az.to_value(u.deg)]).astype(
            np.float32
        ),
    )


def check_particles(path, primary_id, label):
    """Check that the particles of a file are what its label says.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    primary_id : numpy.ndarray
        Kind of the particles, shape (n,), int.
    label : {0, 1}
        0 if they are to be gammas, 1 if they are not.

    Raises
    ------
    TrainingDataError
        If they are not.
    """
    particles = np.unique(primary_id)
    is_gamma = particles == _GAMMA_ID
    if label == 0 and not is_gamma.all():
        raise TrainingDataError(
            f"{path} was given as signal, but has particles with the ids "
            f"{particles[~is_gamma].tolist()}; gammas have {_GAMMA_ID}"
        )
    if label == 1 and is_gamma.any():
        raise TrainingDataError(f"{path} was given as background, but has gammas")


def check_truth(path, showers):
    """Check that the truth of showers is known.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    showers : astropy.table.QTable
        Simulated showers, n rows.

    Raises
    ------
    TrainingDataError
        If something is not finite, or cannot be, with the event and the limits.
    """
    for name in _TRUTH:
        values = u.Quantity(showers[name])
        good, allowed = np.isfinite(values), ""
        if name == "true_energy":
            good &= (values.value > 0) & (values <= _MAX_ENERGY)
            allowed = f", not above 0 and up to {_MAX_ENERGY:g}"
        if name == "true_alt":
            good &= np.abs(values) <= 90 * u.deg
        if name in ("true_core_x", "true_core_y"):
            good &= np.abs(values) < _MAX_DISTANCE
            allowed = f", not within {_MAX_DISTANCE:g}"
        if not good.all():
            row = np.flatnonzero(~good)[0]
            raise TrainingDataError(
                f"{path}: event {showers['event_id'][row]} of observation "
                f"{showers['obs_id'][row]} has the {name} {values[row]}{allowed}: "
                "leave the file out, or simulate it again"
            )
