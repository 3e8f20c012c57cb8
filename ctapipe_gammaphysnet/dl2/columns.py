"""Outputs of the networks as columns of DL2, and their valid rows.

The columns are those of ctapipe's containers, in their units. The outputs of the
networks are averaged over the members: log10 of the energy, offsets in the telescope
and in the tilted ground frame, probabilities of the classes. What a network predicts
with errors, and the axis of the image, make one prediction (`tasks.axis`). Errors are
the mean of the members' covariances plus the covariance of the members; with a single
member that predicts no errors there are none. An uncertainty is half the width that
holds 68.27 % in one dimension; that of the angular distance is the radius that does in
two.
"""

from functools import cached_property

import astropy.units as u
import numpy as np

from ..tasks import TASKS
from ..tasks.axis import with_axes
from ..tasks.direction import direction_from_target
from ..tasks.ellipse import covariance_of_members, matrix_from_columns
from .containers import needed_fields

__all__ = ["Images", "are_usable", "invalidate_array", "is_error", "telescope_columns"]


class Images:
    """Outputs of members for images, with pointing and position of the telescopes.

    Parameters
    ----------
    outputs : dict of str to numpy.ndarray
        As for `telescope_columns`.
    pointing_alt, pointing_az, position, altitude : numpy.ndarray
        As for `telescope_columns`.
    targets : dict of str to str
        As for `telescope_columns`.
    axes, calibrations : ImageAxes, sequence of CalibrationCard
        As for `telescope_columns`.

    Attributes
    ----------
    outputs : dict of str to numpy.ndarray
        The outputs, converted to this package's targets.
    pointing : tuple of numpy.ndarray
        Altitude and azimuth in rad, shape (n,).
    position : numpy.ndarray
        Positions in m, shape (n, 3).
    altitude : numpy.ndarray or None
        Altitudes in m, shape (n,).
    """

    def __init__(
        self,
        outputs,
        pointing_alt,
        pointing_az,
        position,
        altitude=None,
        targets=None,
        axes=None,
        calibrations=(),
    ):
        self._axes, self._calibrations = axes, calibrations
        self._predictions = {}
        self.pointing = pointing_alt, pointing_az
        self.position, self.altitude = position, altitude
        self.outputs = {
            task: self._own(task, output, (targets or {}).get(task))
            for task, output in outputs.items()
        }

    def _own(self, task, output, meaning):
        """Outputs of a task as this package's targets."""
        convert = TASKS[task].other_targets.get(meaning)
        if convert is None:
            return output
        where = *u.Quantity(self.pointing, u.rad), u.Quantity(self.position, u.m)
        return np.stack([convert(member, *where) for member in output])

    def mean(self, task):
        """Compute the mean over the members, with the axes of the images.

        Parameters
        ----------
        task : str
            The task.

        Returns
        -------
        numpy.ndarray
            Its values, shape (n, n_outputs).
        """
        return self._predict(task)[0]

    def covariance(self, task):
        """Compute the covariance of `mean`: see `covariance_of_members`.

        Parameters
        ----------
        task : str
            The task.

        Returns
        -------
        numpy.ndarray or None
            Shape (n, n_outputs, n_outputs); None if it is not known.
        """
        return self._predict(task)[1]

    def _predict(self, task):
        """Mean and covariance of a task, computed once."""
        if task not in self._predictions:
            values, errors = TASKS[task].split(self.outputs[task])
            # What is infinite has no covariance.
            with np.errstate(invalid="ignore"):
                if errors is not None:
                    errors = matrix_from_columns(errors)
                    values, errors = self._use_axes(TASKS[task], values, errors)
                covariance = covariance_of_members(values, errors)
            self._predictions[task] = values.mean(axis=0), covariance
        return self._predictions[task]

    def _use_axes(self, task, values, covariance):
        """Members' predictions with the axes of the images, where these are used."""
        if self._axes is None or not self._calibrations:
            return values, covariance
        members = []
        for *member, calibration in zip(
            values, covariance, self._calibrations, strict=True
        ):
            if (curves := calibration.of_axis(task.name)) is not None:
                member = with_axes(task, *member, self._axes, curves)
            members.append(member)
        return tuple(map(np.stack, zip(*members, strict=True)))

    @cached_property
    def direction(self):
        """Altitude and azimuth in deg of the mean over the members, shape (n,)."""
        return direction_from_target(self.mean("direction"), *self.pointing)


def telescope_columns(
    outputs,
    pointing_alt,
    pointing_az,
    position,
    altitude=None,
    targets=None,
    axes=None,
    calibrations=(),
):
    """Turn the outputs of one telescope type's networks into DL2 columns.

    Parameters
    ----------
    outputs : dict of str to numpy.ndarray
        For each task, shape (n_members, n, n_outputs), as the predictor returns them:
        values, followed by their errors if the networks predict them.
    pointing_alt, pointing_az : numpy.ndarray
        Pointing of the telescope at each image in rad, shape (n,), float64.
    position : numpy.ndarray
        Position of each image's telescope in the GroundFrame in m, shape (n, 3).
    altitude : numpy.ndarray, optional
        Altitude of the telescope above sea level in m, shape (n,), for heights.
    targets : dict of str to str, optional
        Meaning of the outputs of each task, as in the model card; by default that of
        this package's own networks.
    axes : ImageAxes, optional
        Axes of the images, shape (n,).
    calibrations : sequence of CalibrationCard
        Of the members, with the axes; without them, the axes are not used.

    Returns
    -------
    dict of str to dict of str to array
        For each kind the columns of its container in its units, shape (n,): energy in
        TeV, alt and az in deg, positions and distances in m in the GroundFrame and in
        the TiltedGroundFrame of the telescope's pointing; uncertainties and
        correlations if they are known. Where ``is_valid`` is False all others are NaN.
    """
    where = pointing_alt, pointing_az, position, altitude
    images = Images(outputs, *where, targets, axes, calibrations)
    columns = {}
    for name, task in TASKS.items():
        for kind, values in task.dl2(images).items() if name in outputs else ():
            columns.setdefault(kind, {}).update(values)
    for container in columns.values():
        _invalidate(container)
    # The container of impact distances has no flag: NaN marks what is not valid.
    columns.get("impact", {}).pop("is_valid", None)
    return columns


def _invalidate(columns):
    """Set the validity flags: a row is valid if all its predictions are finite."""
    valid = are_usable(columns, [name for name in columns if not is_error(name)])
    if not valid.all():
        for values in columns.values():
            values[~valid] = np.nan
    columns["is_valid"] = valid


def is_error(name):
    """Check whether a column describes an error, which may be unknown.

    Parameters
    ----------
    name : str
        Name of a field of a container.

    Returns
    -------
    bool
        Whether it is an uncertainty or a correlation.
    """
    return "uncert" in name or name.endswith("correlation")


def are_usable(columns, needed):
    """Find the rows in which needed values are finite, and no value is infinite.

    Unknown values are NaN: errors that no network predicts, for example.

    Parameters
    ----------
    columns : dict of str to array_like
        Numbers, shape (n,).
    needed : iterable of str
        Columns that must be known.

    Returns
    -------
    numpy.ndarray
        Shape (n,), bool.
    """
    are_known = np.isfinite([columns[name] for name in needed]).all(axis=0)
    return are_known & ~np.isinf([*columns.values()]).any(axis=0)


def invalidate_array(kind, columns):
    """Mark predictions of the array that are not finite as invalid.

    Parameters
    ----------
    kind : str
        Kind of prediction: a key of `PROPERTIES`.
    columns : dict of str to numpy.ndarray
        Columns of its container, shape (n_events,), and ``telescopes``, a mask, shape
        (n_events, n_telescopes), bool. They are changed: rows that are not valid, or
        not finite, become NaN, without telescopes and with ``is_valid`` False. An
        unknown uncertainty or impact point may be NaN.
    """
    telescopes, valid = columns.pop("telescopes"), columns.pop("is_valid")
    valid = valid & are_usable(columns, needed_fields(kind))
    for value in columns.values():
        value[~valid] = np.nan
    columns["telescopes"] = telescopes & valid[:, np.newaxis]
    columns["is_valid"] = valid
