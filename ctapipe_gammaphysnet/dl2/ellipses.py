"""A combiner that weighs telescopes by their predicted errors."""

import astropy.units as u
import numpy as np
from astropy.table import Table
from ctapipe.reco import StereoCombiner
from ctapipe.reco.telescope_event_handling import get_subarray_index

from ..events.event import array_pointing, predictions_of, valid_telescopes
from ..tasks import TASKS
from ..tasks.direction import direction_errors
from ..tasks.ellipse import matrix_from_widths
from ..tasks.frames import radians, tilted_from_ground
from ..tasks.impact import core_columns
from .containers import CONTAINERS, kind_of, value_of, with_unit
from .product import combine_directions, combine_values

__all__ = ["GammaPhysNetStereoCombiner"]

#: A telescope's correlation is at most this, so that its ellipse has two axes.
_MAX_CORRELATION = 1 - 1e-9
#: Gammaness is kept this far from 0 and 1, whose odds are infinite.
_LEAST_GAMMANESS = 1e-9
#: Power of the number of telescopes by which the sum of their log odds is divided: 0 if
#: they were independent, 1 if all saw the same. On the validation part of the
#: demonstration's sample it has the largest likelihood, of 0, 0.3, 0.5 ... 1.
_SHARED_ODDS = 0.5
#: Correlation of the errors of telescopes that see the same shower: its fluctuations
#: are common to all. With these, 65 to 72 % of the truths are within the array's
#: uncertainties, in run 1 of the demonstration's test and in its test of the array, of
#: images that pass the training's cuts. That of the height was not measured, and is
#: taken to be that of the energy.
_SHARED_ERRORS = {"energy": 0.35, "direction": 0.35, "impact": 0.35, "h_max": 0.35}


class GammaPhysNetStereoCombiner(StereoCombiner):
    """Combine telescopes by the errors that their networks predict.

    Direction, impact point, energy and height of the maximum are the product of the
    telescopes' error distributions (`dl2.product`); their errors are larger than those
    of the product, since telescopes share a part of theirs. The gammaness is that of
    the sum of the telescopes' log odds, divided by the square root of their number,
    since they see the same shower. Telescopes whose prediction is not valid, or has no
    error, do not count; a single telescope's prediction is that of the array. Of two
    that contradict each other the result is near the more certain one, and its error
    does not show it.

    Parameters
    ----------
    **kwargs
        Configuration: ``prefix`` and ``property``.

    Raises
    ------
    NotImplementedError
        If the property is not one of γ-PhysNet's.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        try:
            self._kind = kind_of(self)
        except ValueError:
            raise NotImplementedError(
                f"{type(self).__name__} cannot combine {self.property}"
            ) from None
        fields = CONTAINERS[self._kind][0].fields
        #: Units of the columns that are combined.
        self._units = {
            field: fields[field].unit
            for task in TASKS.values()
            for kind, field, _ in (task.columns | task.uncertainties).values()
            if kind == self._kind
        }

    def __call__(self, event):
        """Combine the telescopes of an event.

        Parameters
        ----------
        event : ctapipe.containers.ArrayEventContainer
            The event, with its DL2 of the telescopes.
        """
        tel_ids = np.array(valid_telescopes(event, self._kind, self.prefix), dtype=int)
        mono = [predictions_of(event, self._kind, t)[self.prefix] for t in tel_ids]
        values = {
            name: np.array([value_of(m[name], unit) for m in mono], dtype=float)
            for name, unit in self._units.items()
        }
        valid, number = np.ones(len(mono), dtype=bool), np.zeros(len(mono), dtype=int)
        pointing = [np.atleast_1d(angle) for angle in array_pointing(event)]
        columns, used = self._combine(values, valid, number, 1, pointing)
        predictions_of(event, self._kind)[self.prefix] = CONTAINERS[self._kind][0](
            prefix=self.prefix,
            telescopes=tel_ids[used].tolist(),
            is_valid=bool(used.any()),
            **{
                name: self._with_unit(name, value) for name, (value,) in columns.items()
            },
        )

    def predict_table(self, mono_predictions):
        """Combine the telescopes of many events.

        Parameters
        ----------
        mono_predictions : astropy.table.Table
            Telescope events, with those of one event in consecutive rows: ``obs_id``,
            ``event_id``, ``tel_id``, the predictions with ``{prefix}_tel_is_valid``,
            and the pointing of the array, ``array_altitude`` and ``array_azimuth``.

        Returns
        -------
        astropy.table.Table
            A row for each event: ``obs_id``, ``event_id``, and the fields of the
            container after the prefix.
        """
        obs_id, event_id, multiplicity, event = get_subarray_index(mono_predictions)
        stem, table = f"{self.prefix}_tel_", mono_predictions
        values = {
            name: u.Quantity(table[stem + name], copy=False).to_value(unit or u.one)
            for name, unit in self._units.items()
            if stem + name in table.colnames
        }
        last = np.cumsum(multiplicity)
        pointing = [
            table[angle].quantity[last - multiplicity]
            for angle in ("array_altitude", "array_azimuth")
        ]
        valid = np.asarray(table[f"{stem}is_valid"])
        event = event.astype(int)
        columns, used = self._combine(values, valid, event, len(obs_id), pointing)
        stereo = {
            f"{self.prefix}_{name}": self._with_unit(name, column)
            for name, column in columns.items()
        }
        is_valid = np.bincount(event[used], minlength=len(obs_id)) > 0
        telescopes = np.empty(len(obs_id), dtype=object)
        tel_ids = np.split(np.where(used, table["tel_id"], -1), last[:-1])
        for number, of_event in enumerate(tel_ids):
            telescopes[number] = of_event[of_event >= 0].tolist()
        return Table(
            {"obs_id": obs_id, "event_id": event_id}
            | stereo
            | {
                f"{self.prefix}_is_valid": is_valid,
                f"{self.prefix}_telescopes": telescopes,
            }
        )

    def _with_unit(self, name, values):
        return with_unit(values, CONTAINERS[self._kind][0].fields[name].unit)

    def _combine(self, values, valid, event, n_events, pointing):
        """Columns of the array, and which predictions they are made from."""
        if self._kind == "energy":
            return _combine_energies(values, valid, event, n_events)
        if self._kind == "geometry":
            return _combine_geometries(values, valid, event, n_events, pointing)
        return _combine_gammaness(values, valid, event, n_events)


def _have(values, valid, *pairs):
    """Find the valid predictions that have these values and their errors."""
    for name, width in pairs:
        unknown = np.full(len(valid), np.nan)
        error = values.get(width, unknown)
        valid = valid & np.isfinite(values.get(name, unknown))
        valid = valid & (error > 0) & np.isfinite(error)
    return valid


def _combine_energies(values, valid, event, n_events):
    """Combine the logarithms of energies, whose errors are those of the network."""
    used = _have(values, valid, ("energy", "energy_uncert"))
    energy = values["energy"][used]
    # The width in the logarithm whose half width in TeV this is.
    width = np.arcsinh(values["energy_uncert"][used] / energy)
    shared = _SHARED_ERRORS["energy"]
    mean, variance = _combine_numbers(
        np.log(energy), width, event[used], n_events, shared
    )
    energy = np.exp(mean)
    return {
        "energy": energy,
        "energy_uncert": energy * np.sinh(np.sqrt(variance)),
    }, used


def _combine_numbers(values, widths, event, n_events, shared):
    variances = widths[:, np.newaxis, np.newaxis] ** 2
    mean, variance = combine_values(values[:, np.newaxis], variances, event, n_events)
    return mean[:, 0], _add_shared(variance, variances, event, shared)[:, 0, 0]


def _add_shared(combined, covariances, event, shared):
    """Add what the errors of an event's telescopes share.

    The mean of n errors of the same size with the correlation r has 1 + r (n - 1) times
    the variance of independent ones. If their sizes differ, n is the effective number
    of telescopes. Those that lost their weight are counted, too, which errs on the safe
    side.
    """
    weight = np.trace(np.linalg.inv(covariances), axis1=1, axis2=2)
    total, squares = (
        np.bincount(event, weights=weight**power, minlength=len(combined))
        for power in (1, 2)
    )
    one = np.ones(len(combined))
    number = np.divide(total**2, squares, out=one, where=squares > 0)
    return combined * (1 + shared * (number - 1))[:, np.newaxis, np.newaxis]


def _combine_gammaness(values, valid, event, n_events):
    """Combine the log odds of gammas."""
    gammaness = np.clip(
        values["prediction"][valid], _LEAST_GAMMANESS, 1 - _LEAST_GAMMANESS
    )
    log_odds = np.log(gammaness / (1 - gammaness))
    number = np.bincount(event[valid], minlength=n_events)
    total = np.bincount(event[valid], weights=log_odds, minlength=n_events)
    shared = np.maximum(number, 1) ** _SHARED_ODDS
    prediction = np.where(number > 0, 1 / (1 + np.exp(-total / shared)), np.nan)
    return {"prediction": prediction}, valid


def _combine_geometries(values, valid, event, n_events, pointing):
    """Combine directions, and what else is known."""
    used = _have(values, valid, ("alt", "alt_uncert"), ("az", "az_uncert"))
    columns = _combine_sky(*_select(values, event, used), n_events)
    cores = ("core_x", "core_uncert_x"), ("core_y", "core_uncert_y")
    has_core = _have(values, used, *cores)
    if has_core.any():
        columns |= _combine_cores(*_select(values, event, has_core), n_events, pointing)
    has_height = _have(values, used, ("h_max", "h_max_uncert"))
    if has_height.any():
        height, widths = (values[n][has_height] for n in ("h_max", "h_max_uncert"))
        shared, of_height = _SHARED_ERRORS["h_max"], event[has_height]
        height, variance = _combine_numbers(height, widths, of_height, n_events, shared)
        columns |= {"h_max": height, "h_max_uncert": np.sqrt(variance)}
    return columns, used


def _select(values, event, rows):
    return {name: column[rows] for name, column in values.items()}, event[rows]


def _combine_sky(values, event, n_events):
    alt, az, alt_width, az_width = (
        np.deg2rad(values[name]) for name in ("alt", "az", "alt_uncert", "az_uncert")
    )
    correlations = _within(values["alt_az_correlation"])
    ellipses = matrix_from_widths(az_width * np.cos(alt), alt_width, correlations)
    shared = _SHARED_ERRORS["direction"]
    alt, az, combined = combine_directions(alt, az, ellipses, event, n_events)
    ellipses = _add_shared(combined, ellipses, event, shared)
    errors = direction_errors(alt, np.rad2deg(np.rad2deg(ellipses)))
    return {"alt": np.rad2deg(alt), "az": np.rad2deg(az), **errors}


def _combine_cores(values, event, n_events, pointing):
    """Combine impact points on the ground; also in the array's tilted frame."""
    ellipses = matrix_from_widths(
        values["core_uncert_x"],
        values["core_uncert_y"],
        _within(values["core_correlation"]),
    )
    cores = np.column_stack([values["core_x"], values["core_y"]])
    core, combined = combine_values(cores, ellipses, event, n_events)
    ellipses = _add_shared(combined, ellipses, event, _SHARED_ERRORS["impact"])
    angles = [radians(angle) for angle in pointing]
    tilted = tilted_from_ground(np.pad(core, ((0, 0), (0, 1))), *angles)
    axes = [
        tilted_from_ground(np.tile(axis, (n_events, 1)), *angles)
        for axis in np.eye(3)[:2]
    ]
    project = np.stack(axes, axis=-1)
    in_tilted = project @ ellipses @ np.swapaxes(project, 1, 2)
    return core_columns(core, tilted, ellipses, in_tilted)


def _within(correlations):
    return np.clip(correlations, -_MAX_CORRELATION, _MAX_CORRELATION)
