"""A combiner for the part of the geometry that ctapipe's combiners leave out.

A prediction here is that of one telescope in one event; ``event`` numbers the events
from 0.
"""

from itertools import chain

import astropy.units as u
import numpy as np
from astropy.table import Table
from ctapipe.containers import ReconstructedGeometryContainer
from ctapipe.reco import StereoCombiner
from ctapipe.reco.reconstructor import ReconstructionProperty
from ctapipe.reco.telescope_event_handling import get_subarray_index

from ..events.event import (
    array_pointing,
    image_parameters,
    predictions_of,
)
from ..tasks import TASKS
from ..tasks.frames import radians, tilted_from_ground

__all__ = [
    "GammaPhysNetGeometryCombiner",
    "combine_geometry",
    "weighted_mean",
]

#: Units of the geometry.
_UNITS = {
    name: field.unit
    for name, field in ReconstructedGeometryContainer.fields.items()
    if field.unit is not None
}


def weighted_mean(values, weights, event, n_events):
    """Average over the predictions of each event.

    Parameters
    ----------
    values : numpy.ndarray
        What to average, shape (n,).
    weights : numpy.ndarray
        Weights, shape (n,).
    event : numpy.ndarray
        Event of each value, shape (n,), int.
    n_events : int
        Number of events.

    Returns
    -------
    mean, spread : numpy.ndarray
        Weighted mean and standard deviation, shape (n_events,). The mean is NaN without
        values, and the standard deviation with fewer than two. It is that of
        `numpy.cov` with ``aweights``, which corrects for the number of values.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        total, of_values, of_squares = (
            np.bincount(event, weights=terms, minlength=n_events)
            for terms in (weights, weights * values, weights**2)
        )
        mean = of_values / total
        deviations = weights * (values - mean[event]) ** 2
        deviations = np.bincount(event, weights=deviations, minlength=n_events)
        variance = deviations / (total - of_squares / total)
        several = np.bincount(event, minlength=n_events) > 1
        return mean, np.sqrt(np.where(several, variance, np.nan))


def _intensity_weights(intensity, event, n_events):
    """Intensities, or 1 in an event where one is not positive or not finite."""
    is_good = (intensity > 0) & np.isfinite(intensity)
    is_bad = np.bincount(event, weights=~is_good, minlength=n_events) > 0
    return np.where(is_bad[event], 1, intensity)


def combine_geometry(values, intensity, event, array_alt, array_az):
    """Average fields of the telescopes' geometry, weighted by the images' intensity.

    Parameters
    ----------
    values : dict of str to numpy.ndarray
        Fields that are not needed, such as the impact point, in the container's units,
        shape (n,); NaN if unknown.
    intensity : numpy.ndarray
        Intensity of the images, shape (n,). If one in an event is not positive or not
        finite, all images of that event have the same weight.
    event : numpy.ndarray
        Event of each image, shape (n,), int.
    array_alt, array_az : astropy.units.Quantity
        Pointing of the array at each event, shape (n_events,).

    Returns
    -------
    dict of str to numpy.ndarray
        Fields known for any telescope, with their weighted standard deviations, shape
        (n_events,). The impact point comes with ``core_tilted_x`` and
        ``core_tilted_y`` in the frame of the array's pointing.
    """
    n_events, columns = len(array_alt), {}
    for fields in _averaged_fields(values):
        # A network without the task impact predicts a direction, but no impact point.
        known = np.all([np.isfinite(values[field]) for field in fields], axis=0)
        if not known.any():
            continue
        weights = _intensity_weights(intensity[known], event[known], n_events)
        for field in fields:
            columns[field], columns[_uncertainty(field)] = weighted_mean(
                values[field][known], weights, event[known], n_events
            )
    if "core_x" in columns:
        columns |= _tilted(columns["core_x"], columns["core_y"], array_alt, array_az)
    return columns


def _averaged_fields(available):
    """Fields of each task that belongs to the geometry, but is not needed for it.

    For a telescope, all fields of a task are known, or none.
    """
    fields = (
        [field for kind, field, _ in task.columns.values() if kind == "geometry"]
        for task in TASKS.values()
        if not task.needed
    )
    return [of_task for of_task in fields if of_task and {*of_task} <= {*available}]


def _uncertainty(field):
    """Name of an uncertainty in ctapipe's container."""
    stem, _, axis = field.rpartition("_")
    return f"{stem}_uncert_{axis}" if axis in ("x", "y") else f"{field}_uncert"


def _tilted(core_x, core_y, array_alt, array_az):
    """Impact points in the frame of the array's pointing."""
    core = np.column_stack([core_x, core_y, np.zeros(len(core_x))])
    x, y = tilted_from_ground(core, radians(array_alt), radians(array_az)).T
    return {"core_tilted_x": x, "core_tilted_y": y}


class GammaPhysNetGeometryCombiner(StereoCombiner):
    """Add the impact point to a geometry of the array that has a direction.

    ctapipe's combiners leave it out. It is the mean over the telescopes in the
    GroundFrame, weighted by the intensity of their images; its uncertainty is the
    weighted standard deviation. The tilted impact point is the same point in the frame
    of the array's pointing.

    Parameters
    ----------
    **kwargs
        Configuration: ``prefix``, and ``property``, which must be the geometry.

    Raises
    ------
    NotImplementedError
        If the property is another one.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.property is not ReconstructionProperty.GEOMETRY:
            raise NotImplementedError(
                f"{type(self).__name__} combines impact points, not {self.property}"
            )

    def __call__(self, event):
        """Add the impact point to the geometry of an event.

        Parameters
        ----------
        event : ctapipe.containers.ArrayEventContainer
            The event, with its DL2 of the telescopes and a geometry of the array. The
            mean is over the telescopes that the geometry names; if it is not valid, it
            stays as it is.
        """
        stereo = predictions_of(event, "geometry")[self.prefix]
        if not stereo.is_valid:
            return
        tel_ids = stereo.telescopes
        mono = [predictions_of(event, "geometry", t)[self.prefix] for t in tel_ids]
        parameters = [image_parameters(event, t) for t in tel_ids]
        columns = combine_geometry(
            {
                field: u.Quantity([m[field] for m in mono]).to_value(_UNITS[field])
                for field in chain.from_iterable(_averaged_fields(_UNITS))
            },
            np.array([p.hillas.intensity for p in parameters]),
            np.zeros(len(mono), dtype=int),
            *map(np.atleast_1d, array_pointing(event)),
        )
        for field, (value,) in columns.items():
            stereo[field] = u.Quantity(value, _UNITS[field])

    def predict_table(self, mono_predictions):
        """Combine the impact points of many events.

        Parameters
        ----------
        mono_predictions : astropy.table.Table
            Telescope events, with those of one event in consecutive rows: ``obs_id``,
            ``event_id``, ``hillas_intensity``, the geometry with
            ``{prefix}_tel_is_valid``, and the pointing of the array,
            ``array_altitude`` and ``array_azimuth``.

        Returns
        -------
        astropy.table.Table
            A row for each event: ``obs_id``, ``event_id``, and the fields of
            `combine_geometry` after the prefix.
        """
        obs_id, event_id, multiplicity, event = get_subarray_index(mono_predictions)
        stem = f"{self.prefix}_tel_"
        valid = np.asarray(mono_predictions[f"{stem}is_valid"])
        values = {
            field: mono_predictions[stem + field].quantity.to_value(unit)[valid]
            for field, unit in _UNITS.items()
            if stem + field in mono_predictions.colnames
        }
        first = np.cumsum(multiplicity) - multiplicity
        columns = combine_geometry(
            values,
            np.asarray(mono_predictions["hillas_intensity"])[valid],
            event.astype(int)[valid],
            mono_predictions["array_altitude"].quantity[first],
            mono_predictions["array_azimuth"].quantity[first],
        )
        stereo = {f: u.Quantity(v, _UNITS[f]) for f, v in columns.items()}
        stereo = {f"{self.prefix}_{field}": value for field, value in stereo.items()}
        return Table({"obs_id": obs_id, "event_id": event_id} | stereo)
