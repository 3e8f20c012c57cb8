"""What ctapipe's combiners leave out of the geometry, as a combiner of its own.

A prediction here is of one telescope in one event; ``event`` numbers the events from 0.
"""

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz
from astropy.table import Table
from ctapipe.containers import ReconstructedGeometryContainer
from ctapipe.coordinates import GroundFrame, TiltedGroundFrame
from ctapipe.reco import StereoCombiner
from ctapipe.reco.reconstructor import ReconstructionProperty
from ctapipe.reco.telescope_event_handling import get_subarray_index

__all__ = [
    "GammaPhysNetGeometryCombiner",
    "combine_geometry",
    "intensity_weights",
    "weighted_mean",
]

#: Fields of the geometry, and of their uncertainties, that are means over telescopes.
#: A telescope knows all fields of a line, or none.
_MEANS = ({"core_x": "core_uncert_x", "core_y": "core_uncert_y"},)


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
        values or with negative weights, and the standard deviation with fewer than two
        values. It is that of `numpy.cov` with ``aweights``, which corrects for the
        number of values.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        total, of_values, of_squares = (
            np.bincount(event, weights=terms, minlength=n_events)
            for terms in (weights, weights * values, weights**2)
        )
        is_negative = np.bincount(event, weights=weights < 0, minlength=n_events) > 0
        total = np.where(is_negative, np.nan, total)
        mean = of_values / total
        deviations = weights * (values - mean[event]) ** 2
        deviations = np.bincount(event, weights=deviations, minlength=n_events)
        variance = deviations / (total - of_squares / total)
        several = np.bincount(event, minlength=n_events) > 1
        return mean, np.sqrt(np.where(several, variance, np.nan))


def intensity_weights(intensity, event, n_events):
    """Weights by the images' intensity, where it is known of all images of an event.

    Parameters
    ----------
    intensity : numpy.ndarray
        Intensity of the images, shape (n,).
    event : numpy.ndarray
        Event of each image, shape (n,), int.
    n_events : int
        Number of events.

    Returns
    -------
    numpy.ndarray
        The intensities; 1 for all images of an event where one of them is not positive
        or not finite, shape (n,).
    """
    is_good = (intensity > 0) & np.isfinite(intensity)
    is_bad = np.bincount(event, weights=~is_good, minlength=n_events) > 0
    return np.where(is_bad[event], 1, intensity)


def combine_geometry(values, intensity, event, array_alt, array_az):
    """Average the impact points of each event, weighted by the images' intensity.

    Parameters
    ----------
    values : dict of str to numpy.ndarray
        Fields of the telescopes' geometry, shape (n,): ``core_x`` and ``core_y`` in the
        GroundFrame in m, NaN where a telescope does not know them; or none.
    intensity : numpy.ndarray
        Intensity of the images, shape (n,), for `intensity_weights`.
    event : numpy.ndarray
        Event of each, shape (n,), int.
    array_alt, array_az : astropy.units.Quantity
        Pointing of the array at each event, shape (n_events,).

    Returns
    -------
    dict of str to numpy.ndarray
        Fields of the array's geometry in m, shape (n_events,): ``core_x`` and
        ``core_y``, the weighted standard deviations ``core_uncert_x`` and
        ``core_uncert_y``, and ``core_tilted_x`` and ``core_tilted_y`` in the frame of
        the array's pointing. Without any that a telescope knows, there are none.
    """
    n_events, columns = len(array_alt), {}
    for fields in _MEANS:
        # A network without the task impact gives a direction, but no impact point.
        nothing = np.full(len(event), np.nan)
        known = [np.isfinite(values.get(field, nothing)) for field in fields]
        known = np.all(known, axis=0)
        if not known.any():
            continue
        weights = intensity_weights(intensity[known], event[known], n_events)
        for field, uncertainty in fields.items():
            columns[field], columns[uncertainty] = weighted_mean(
                values[field][known], weights, event[known], n_events
            )
    if "core_x" in columns:
        columns |= _tilted(columns["core_x"], columns["core_y"], array_alt, array_az)
    return columns


def _tilted(core_x, core_y, array_alt, array_az):
    """Impact points in the frame of the array's pointing."""
    frame = TiltedGroundFrame(pointing_direction=AltAz(alt=array_alt, az=array_az))
    core = GroundFrame(x=core_x * u.m, y=core_y * u.m, z=np.zeros(len(core_x)) * u.m)
    tilted = core.transform_to(frame)
    return {
        "core_tilted_x": tilted.x.to_value(u.m),
        "core_tilted_y": tilted.y.to_value(u.m),
    }


class GammaPhysNetGeometryCombiner(StereoCombiner):
    """Add the impact point to a geometry of the array that has a direction.

    ctapipe's combiners leave it out. It is the mean over the telescopes in the
    GroundFrame, weighted by the intensity of their images; its uncertainty is the
    weighted standard deviation. The tilted impact point is that in the frame of the
    array's pointing.

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
            telescopes that it names are averaged; if it is not valid, it stays as it
            is.
        """
        stereo = event.dl2.stereo.geometry[self.prefix]
        if not stereo.is_valid:
            return
        mono = [event.dl2.tel[t].geometry[self.prefix] for t in stereo.telescopes]
        dl1 = [event.dl1.tel[tel_id].parameters for tel_id in stereo.telescopes]
        pointing = event.monitoring.pointing
        columns = combine_geometry(
            {
                field: u.Quantity([m[field] for m in mono]).to_value(u.m)
                for field in _fields()
            },
            np.array([parameters.hillas.intensity for parameters in dl1]),
            np.zeros(len(mono), dtype=int),
            np.atleast_1d(pointing.array_altitude),
            np.atleast_1d(pointing.array_azimuth),
        )
        for field, (value,) in columns.items():
            stereo[field] = value * u.m

    def predict_table(self, mono_predictions):
        """Combine the impact points of many events.

        Parameters
        ----------
        mono_predictions : astropy.table.Table
            Telescope events, those of an event in a block: ``obs_id``, ``event_id``,
            ``hillas_intensity``, the geometry with ``{prefix}_tel_is_valid``, and the
            pointing of the array, ``array_altitude`` and ``array_azimuth``.

        Returns
        -------
        astropy.table.Table
            A row for each event: ``obs_id``, ``event_id``, and the fields of
            `combine_geometry` after the prefix.
        """
        obs_id, event_id, multiplicity, event = get_subarray_index(mono_predictions)
        stereo = Table({"obs_id": obs_id, "event_id": event_id})
        valid = np.asarray(mono_predictions[f"{self.prefix}_tel_is_valid"])
        first = np.cumsum(multiplicity) - multiplicity
        columns = combine_geometry(
            {
                field: mono_predictions[name].quantity.to_value(u.m)[valid]
                for field in _fields()
                if (name := f"{self.prefix}_tel_{field}") in mono_predictions.colnames
            },
            np.asarray(mono_predictions["hillas_intensity"])[valid],
            event.astype(int)[valid],
            mono_predictions["array_altitude"].quantity[first],
            mono_predictions["array_azimuth"].quantity[first],
        )
        for field, values in columns.items():
            name = f"{self.prefix}_{field}"
            stereo[name] = u.Quantity(values, u.m)
            stereo[name].description = ReconstructedGeometryContainer.fields[
                field
            ].description
        return stereo


def _fields():
    return [field for fields in _MEANS for field in fields]
