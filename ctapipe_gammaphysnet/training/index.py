"""Index of the training images, with their targets.

The images themselves stay in their files until `stream` reads them.
"""

from dataclasses import dataclass, fields

import astropy.units as u
import numpy as np
from ctapipe.core import ToolConfigurationError

from ..events.opening import open_events
from ..events.telescope_events import check_pointing, telescope_events
from ..tasks import TASKS, default_tasks
from ..tasks.axis import ImageAxes
from ..tasks.energy import energy_to_target

__all__ = [
    "EventIndex",
    "TrainingDataError",
    "check_file",
    "read_index",
]

#: Events read at once.
_CHUNK = 5000


class TrainingDataError(ToolConfigurationError, ValueError):
    """The files cannot be used for training; the message says why."""


@dataclass(frozen=True, eq=False)
class EventIndex:
    """Telescope events of one telescope type, without their images.

    Attributes
    ----------
    file : numpy.ndarray
        Number of the file, shape (n,), int32.
    obs_id, event_id : numpy.ndarray
        Ids of observation and event, shape (n,), int64.
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
        Targets of each task except the class, shape (n, n_outputs), float32.
    pointing : numpy.ndarray
        Altitude and azimuth of the telescope in deg, shape (n, 2), float32.
    axes : numpy.ndarray
        Fields of `ImageAxes`, shape (n, 4), float32.
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
    axes: np.ndarray

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
            All their telescope events.
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
        """Apply a function to each array of this and other indices."""
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
        The file.

    Returns
    -------
    ctapipe.instrument.SubarrayDescription
        Its telescopes.

    Raises
    ------
    TrainingDataError
        If it does not; the message says what to do.
    DL1FileError
        If it cannot be read, or its tables are damaged or do not match.
    """
    # The focal length does not matter here, and old files have only one.
    with open_events(path, "EQUIVALENT") as reader:
        if reader.n_events > 0:
            _check_content(reader)
        return reader.subarray


def _check_content(reader):
    if not reader.has_truth:
        raise TrainingDataError(
            f"{reader.path} has no simulated showers: training needs simulations, not "
            "observations"
        )
    without = reader.without_masks()
    if without:
        raise TrainingDataError(
            f"{reader.path} has no image masks in {without[0]}: make it with "
            "'ctapipe-process --write-images --write-parameters'"
        )
    reader.check_truth()


def read_index(
    path, number, telescope, label, quality_query, tasks=None, atmosphere=None
):
    """Find the images of one telescope type in a file, with their truth.

    Parameters
    ----------
    path : pathlib.Path
        A file of simulations, with images and parameters.
    number : int
        Number of the file in the index.
    telescope : str
        Telescope type, for example ``LST_LST_LSTCam``.
    label : {0, 1}
        0 if the file is signal (gammas), 1 if it is background.
    quality_query : ImageQualityQuery
        Selects the images by their DL1 parameters, and counts them.
    tasks : collection of str, optional
        What networks learn. Default: `default_tasks`.
    atmosphere : ctapipe.atmosphere.AtmosphereDensityProfile, optional
        The atmosphere of the showers; by default that of the file.

    Returns
    -------
    EventIndex
        The selected images, in the order of telescopes and of the file.

    Raises
    ------
    DL1FileError
        If particles contradict the label, or truth or pointing is not known.
    TrainingDataError
        If a target is not known.
    """
    # The target of the class is the label.
    learnt = [TASKS[t] for t in tasks or default_tasks() if TASKS[t].of_gammas]
    parts = [_empty_index(learnt)]
    # The focal length does not matter here, and old files have only one.
    with open_events(path, "EQUIVALENT") as reader:
        tel_ids = reader.subarray.get_tel_ids_for_type(telescope)
        for events in telescope_events(
            reader,
            tel_ids,
            quality_query,
            _CHUNK,
            number,
            label=label,
            atmosphere=atmosphere,
            truth={name for task in learnt for name in task.truth},
            axes=True,
        ):
            check_pointing(path, events)
            targets = {task.name: _target(path, events, task) for task in learnt}
            parts.append(_index_events(events, targets))
    index = EventIndex.concatenate(parts)
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
        axes=np.empty((0, len(ImageAxes._fields)), np.float32),
    )


def _target(path, events, task):
    missing = set(task.truth) - set(events.colnames)
    if missing:
        names = ", ".join(missing)
        raise TrainingDataError(
            f"{path} does not have the {names} of its showers: {task.advice}"
        )
    target = task.to_target(events).astype(np.float32)
    unknown = np.flatnonzero(~np.isfinite(target).all(axis=1))
    if len(unknown) > 0:
        event = events[unknown[0]]
        raise TrainingDataError(
            f"{path}: the {task.name} of event {event['event_id']} of observation "
            f"{event['obs_id']} is not known: leave the file out, or simulate it again"
        )
    return target


def _index_events(events, targets):
    """Index of telescope events, as returned by `telescope_events`."""
    pointing = np.column_stack(
        [events[name].to_value(u.deg) for name in ("pointing_alt", "pointing_az")]
    )
    return EventIndex(
        file=events["file"].astype(np.int32),
        obs_id=events["obs_id"],
        event_id=events["event_id"],
        tel_id=events["tel_id"].astype(np.int32),
        row=events["row"],
        label=events["label"],
        shower=events["shower"],
        energy=energy_to_target(events["true_energy"]).astype(np.float32),
        targets=targets,
        pointing=pointing.astype(np.float32),
        axes=np.column_stack(
            [events[f"axis_{name}"] for name in ImageAxes._fields]
        ).astype(np.float32),
    )
