"""Outputs of the networks as columns of DL2, and which rows of them are valid.

The columns are those of ctapipe's containers, in their units. The mean over the members
is taken of what the networks regress (log10 of the energy, offsets in the telescope and
in the tilted ground frame) and of the probabilities of the classes. The spread of the
members, where a container has a field for it, is the standard deviation of the physical
quantity over the members; with a single member it is NaN.
"""

import astropy.units as u
import numpy as np
from ctapipe.coordinates.utils import altaz_to_righthanded_cartesian

from ..compat import PARTICLE_TYPE
from ..tasks.direction import direction_from_target
from ..tasks.energy import energy_from_target
from ..tasks.impact import impact_from_target
from .containers import NEEDED

__all__ = ["are_usable", "invalidate_array", "telescope_columns"]


def telescope_columns(outputs, pointing_alt, pointing_az, position):
    """Turn the outputs of one telescope type's networks into DL2 columns.

    Parameters
    ----------
    outputs : dict of str to numpy.ndarray
        For each task, shape (n_members, n, n_outputs), as the predictor gives them.
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope at each image, shape (n,).
    position : astropy.units.Quantity
        Telescope of each image in the GroundFrame, shape (n, 3).

    Returns
    -------
    dict of str to dict of str to array
        For each kind the columns of its container, shape (n,), with units: energy in
        TeV, alt and az in deg, positions and distances in m in the GroundFrame and in
        the TiltedGroundFrame of the telescope's pointing. Where ``is_valid`` is False
        all others are NaN.
    """
    columns = {}
    if "energy" in outputs:
        columns["energy"] = _energy_columns(outputs["energy"])
    if "direction" in outputs:
        columns.update(_geometry_columns(outputs, pointing_alt, pointing_az, position))
    if "class" in outputs:
        gammaness = outputs["class"][..., 0].mean(axis=0)
        columns[PARTICLE_TYPE] = {"prediction": gammaness}
    for container in columns.values():
        _invalidate(container)
    # The container of impact distances has no flag: NaN says it all.
    columns.get("impact", {}).pop("is_valid", None)
    return columns


def _with_mean(outputs):
    """The mean over members, followed by the members: (1 + n_members, n, ...)."""
    return np.concatenate([outputs.mean(axis=0, keepdims=True), outputs])


def _mean_and_spread(values):
    """First row, and standard deviation of the others: NaN if that is a single one."""
    members = values[1:]
    if len(members) == 1:
        return values[0], np.full_like(members[0], np.nan)
    return values[0], members.std(axis=0, ddof=1)


def _energy_columns(output):
    # What is too large for a number becomes infinite, and what is too small 0: neither
    # is an energy.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        energy, uncertainty = _mean_and_spread(energy_from_target(_with_mean(output)))
        energy = np.where(energy > 0, energy, np.nan)
    return {"energy": energy, "energy_uncert": uncertainty}


def _geometry_columns(outputs, pointing_alt, pointing_az, position):
    """Columns of geometry and impact: directions, impact points, distances."""
    offset = _with_mean(outputs["direction"])
    shape = offset.shape[:2]
    # ctapipe's tables have pointings in float32: too coarse to compute with.
    pointing = [
        np.tile(angle.astype(float), shape[0]) for angle in (pointing_alt, pointing_az)
    ]
    alt, az = direction_from_target(offset.reshape(-1, 2), *pointing)
    values = {("alt", "alt_uncert"): alt, ("az", "az_uncert"): az}
    distance = None
    if "impact" in outputs:
        position = np.tile(position, (shape[0], 1))
        core, tilted = impact_from_target(
            _with_mean(outputs["impact"]).reshape(-1, 2), position, *pointing
        )
        distance = _impact_distance(alt, az, core, position)
        values |= {
            ("core_x", "core_uncert_x"): core[:, 0],
            ("core_y", "core_uncert_y"): core[:, 1],
            ("core_tilted_x", "core_tilted_uncert_x"): tilted[:, 0],
            ("core_tilted_y", "core_tilted_uncert_y"): tilted[:, 1],
        }

    geometry = {}
    for (name, uncertainty), value in values.items():
        value = value.reshape(shape)
        mean = value[0]
        if name == "az":
            # As differences from their mean, so that they do not wrap at north.
            value = (value - mean + 180 * u.deg) % (360 * u.deg)
        geometry[name] = mean
        geometry[uncertainty] = _mean_and_spread(value)[1]
    # In the telescope frame, where nothing is distorted near the zenith.
    with np.errstate(invalid="ignore"):
        lon, lat = np.moveaxis(offset, -1, 0)
        _, spread = _mean_and_spread(np.stack([lon * np.cos(np.deg2rad(lat)), lat], -1))
    geometry["ang_distance_uncert"] = u.Quantity(np.hypot(*spread.T), u.deg)
    if distance is None:
        return {"geometry": geometry}
    distance, uncertainty = _mean_and_spread(distance.reshape(shape))
    impact = {"distance": distance, "distance_uncert": uncertainty}
    return {"geometry": geometry, "impact": impact}


def _impact_distance(alt, az, core, position):
    """Distance of telescopes from shower axes, shape (n,), as ctapipe defines it."""
    direction = altaz_to_righthanded_cartesian(alt=alt, az=az)
    from_core = position.to_value(u.m) - np.pad(core.to_value(u.m), ((0, 0), (0, 1)))
    return u.Quantity(np.linalg.norm(np.cross(from_core, direction), axis=-1), u.m)


def _invalidate(columns):
    """Set the validity flags: a row is valid if all it predicts is finite."""
    valid = are_usable(columns, [name for name in columns if "uncert" not in name])
    for value in columns.values():
        value[~valid] = np.nan
    columns["is_valid"] = valid


def are_usable(columns, needed):
    """Find the rows in which all that is needed is finite, and nothing is infinite.

    What is not known is NaN: the spread of a single member, for example.

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
    finite = [np.isfinite(columns[name]) for name in needed]
    return np.all([*finite, *(~np.isinf(v) for v in columns.values())], axis=0)


def invalidate_array(kind, columns):
    """Make predictions of the array invalid that are not finite.

    Parameters
    ----------
    kind : str
        Which: a key of `PROPERTIES`.
    columns : dict of str to numpy.ndarray
        Columns of its container, shape (n_events,), and ``telescopes``, a mask, shape
        (n_events, n_telescopes), bool. They are changed: rows that are not valid, or
        not finite, become NaN, without telescopes and with ``is_valid`` False. An
        uncertainty or an impact point that is not known may be NaN.
    """
    telescopes, valid = columns.pop("telescopes"), columns.pop("is_valid")
    valid = valid & are_usable(columns, NEEDED[kind])
    for value in columns.values():
        value[~valid] = np.nan
    columns["telescopes"] = telescopes & valid[:, np.newaxis]
    columns["is_valid"] = valid
