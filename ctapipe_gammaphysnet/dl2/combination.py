"""Combine the telescopes' predictions into those of the array, for one event or many.

They are combined by a ctapipe `StereoCombiner`. This module makes sure that for any
combiner a prediction of the array is finite or not valid, a single telescope has no
spread (but an error, if its network predicts that), and a table of many events has the
same results as the events one by one.
"""

import contextlib
import warnings
from itertools import chain

import astropy.units as u
import numpy as np
from ctapipe.core import ToolConfigurationError
from ctapipe.reco import StereoCombiner, StereoMeanCombiner
from ctapipe.reco.reconstructor import ReconstructionProperty

from ..events.event import (
    image_parameters,
    predictions_of,
    valid_telescopes,
)
from .columns import invalidate_array
from .containers import CONTAINERS, PROPERTIES, group_name, kind_of, needed_fields
from .ellipses import GammaPhysNetStereoCombiner
from .event import invalidate_stereo
from .stereo import GammaPhysNetGeometryCombiner, weighted_mean

__all__ = [
    "choose_combiner",
    "combine_event",
    "combine_table",
    "default_combiner",
    "make_combiners",
]

# It weighs telescopes by their errors.
_BY_ERRORS = GammaPhysNetStereoCombiner.__name__

_KEYS = ("obs_id", "event_id")


def choose_combiner(name, cards, path):
    """Choose the combiner for the networks of a model.

    Parameters
    ----------
    name : str or None
        Name of a `StereoCombiner`; None for the one by errors if all networks predict
        these, and else ctapipe's mean.
    cards : list of NetworkCard
        The networks.
    path : pathlib.Path
        The model, for messages.

    Returns
    -------
    str
        Name of the combiner.

    Raises
    ------
    ctapipe.core.ToolConfigurationError
        If it needs errors that a network does not predict.
    """
    if name is None:
        return default_combiner(all(card.network.errors for card in cards))
    for card in cards:
        if name == _BY_ERRORS and not card.network.errors:
            raise ToolConfigurationError(
                f"GammaPhysNetReconstructor.stereo_combiner_cls is {name}, which needs "
                f"errors, but the network of {path} for {card.telescope.type} predicts "
                "none: leave the option out, or train with --errors"
            )
    return name


def default_combiner(have_errors):
    """Choose the combiner.

    Parameters
    ----------
    have_errors : bool
        Whether all networks predict errors.

    Returns
    -------
    str
        Name of a `StereoCombiner`.
    """
    return _BY_ERRORS if have_errors else StereoMeanCombiner.__name__


def make_combiners(kinds, prefix, name, parent=None):
    """Make the combiners of the telescopes.

    Parameters
    ----------
    kinds : collection of str
        Kinds of predictions: keys of `dl2.containers.CONTAINERS`.
    prefix : str
        Common stem of the groups' names.
    name : str
        Name of a `StereoCombiner`.
    parent : ctapipe.core.Component, optional
        Component whose configuration is used.

    Returns
    -------
    dict of str to tuple of ctapipe.reco.StereoCombiner
        For each kind that the array has: the combiner and, for the geometry, a second
        one that adds what ctapipe's combiners leave out.

    Raises
    ------
    ctapipe.core.ToolConfigurationError
        If the combiner cannot combine one of them.
    """
    combiners = {}
    for kind in kinds:
        if kind in PROPERTIES:
            settings = {"prefix": group_name(prefix, kind), "parent": parent}
            settings["property"] = PROPERTIES[kind]
            try:
                combiners[kind] = (StereoCombiner.from_name(name, **settings),)
            except NotImplementedError as error:
                raise ToolConfigurationError(
                    f"GammaPhysNetReconstructor.stereo_combiner_cls is {name}, which "
                    f"cannot combine the {kind}: use another one, such as "
                    "StereoMeanCombiner"
                ) from error
            if kind == "geometry" and not _has_errors(combiners[kind][0]):
                combiners[kind] += (GammaPhysNetGeometryCombiner(**settings),)
    return combiners


def combine_event(combiners, event):
    """Combine one property of an event's telescopes.

    Parameters
    ----------
    combiners : tuple of ctapipe.reco.StereoCombiner
        Those of one kind, from `make_combiners`.
    event : ctapipe.containers.ArrayEventContainer
        The event, with its DL1 parameters and its DL2 of the telescopes. Its DL2 of
        the array is replaced.

    Returns
    -------
    bool
        Whether the prediction of the array is valid.
    """
    combiner, *others = combiners
    kind, name = kind_of(combiner), combiner.prefix
    predictions_of(event, kind)[name] = CONTAINERS[kind][0](prefix=name, telescopes=[])
    tel_ids = valid_telescopes(event, kind, name)
    if not tel_ids:
        return False
    with warnings.catch_warnings():
        # The spread over a single telescope is not defined: NaN is right.
        warnings.simplefilter("ignore", RuntimeWarning)
        # Without any weight, or with negative ones, there is no mean.
        if not _has_negative_weights(combiner, event, tel_ids):
            with contextlib.suppress(ZeroDivisionError):
                combiner(event)
    valid = invalidate_stereo(event, kind, name)
    for other in others:
        other(event)
    stereo = predictions_of(event, kind)[name]
    is_spread = kind == "geometry" and not _has_errors(combiner)
    if is_spread and len(stereo.telescopes) < 2:
        stereo.ang_distance_uncert = np.nan * u.deg
    return valid


def _has_errors(combiner):
    """Check whether uncertainties are errors, which a single telescope has, too."""
    return isinstance(combiner, GammaPhysNetStereoCombiner)


def _has_negative_weights(combiner, event, tel_ids):
    """Check whether a telescope would have a negative weight in a mean."""
    if getattr(combiner, "weights", "none") == "none":
        return False
    return any(image_parameters(event, t).hillas.intensity < 0 for t in tel_ids)


def combine_table(combiners, table, event, n_events, tel_ids):
    """Combine one property of the telescopes in many events.

    Parameters
    ----------
    combiners : tuple of ctapipe.reco.StereoCombiner
        Those of one kind, from `make_combiners`.
    table : astropy.table.Table
        Telescope events, from `telescope_table`.
    event : numpy.ndarray
        Number of the event of each row, shape (n,), int.
    n_events : int
        Number of events.
    tel_ids : sequence of int
        The telescopes.

    Returns
    -------
    dict of str to numpy.ndarray
        Fields of the container in its units, shape (n_events,), which agree with
        `combine_event` to rounding, and ``telescopes``, a mask, shape (n_events,
        n_telescopes), bool. Unknown fields may be missing.

    Raises
    ------
    ctapipe.core.ToolConfigurationError
        If the combiner cannot combine tables.
    """
    combiner, *others = combiners
    kind = kind_of(combiner)
    columns = {field: np.full(n_events, np.nan) for field in needed_fields(kind)}
    columns["is_valid"] = np.zeros(n_events, dtype=bool)
    columns["telescopes"] = np.zeros((n_events, len(tel_ids)), dtype=bool)
    if len(event) == 0:
        return columns
    index = np.zeros(max(tel_ids) + 1, dtype=int)
    index[list(tel_ids)] = np.arange(len(tel_ids))
    with_mean = _without_negative_weights(combiner, table, event)
    for stereo in _predict(combiner, *with_mean):
        number = _numbers_of(stereo, table, event)
        _fill(columns, kind, combiner.prefix, number, stereo)
        _fill_telescopes(columns, combiner.prefix, number, stereo, index)
    _mend_spreads(columns, combiner, table, event)
    invalidate_array(kind, columns)
    is_used = columns["telescopes"][event, index[table["tel_id"]]]
    if is_used.any():
        for other in others:
            stereo = other.predict_table(table[is_used])
            number = _numbers_of(stereo, table, event)
            _fill(columns, kind, other.prefix, number, stereo)
    return columns


def _without_negative_weights(combiner, table, event):
    """Leave out the events in which a weight is negative: they have no mean."""
    if getattr(combiner, "weights", "none") == "none":
        return table, event
    is_valid = table[f"{combiner.prefix}_tel_is_valid"]
    is_negative = np.asarray(is_valid & (table["hillas_intensity"] < 0))
    kept = ~np.isin(event, event[is_negative])
    return table[kept], event[kept]


def _predict(combiner, table, event):
    """Yield tables of predictions, which together have all events that can be valid.

    One weight that is not finite spoils all of ctapipe's means in a table: it is halved
    until the event of that weight is alone.
    """
    if not np.any(table[f"{combiner.prefix}_tel_is_valid"]):
        return
    stereo = _predict_table(combiner, table)
    if np.any(stereo[f"{combiner.prefix}_is_valid"]) or event[0] == event[-1]:
        yield stereo
        return
    is_first = event < max(event[len(event) // 2], event[0] + 1)
    for part in (is_first, ~is_first):
        yield from _predict(combiner, table[part], event[part])


def _predict_table(combiner, table):
    try:
        # Undefined values are NaN, as in `combine_event`.
        with np.errstate(all="ignore"):
            return combiner.predict_table(table)
    except NotImplementedError as error:
        raise ToolConfigurationError(
            f"GammaPhysNetReconstructor.stereo_combiner_cls is "
            f"{type(combiner).__name__}, which cannot combine many events at once: use "
            "another one, such as StereoMeanCombiner, or ctapipe-process"
        ) from error


def _numbers_of(stereo, table, event):
    """Numbers of the events in a combiner's table, which may leave out some."""
    _, first = np.unique(event, return_index=True)
    keys = zip(*(table[key][first].tolist() for key in _KEYS), strict=True)
    number = dict(zip(keys, event[first].tolist(), strict=True))
    keys = zip(*(stereo[key].tolist() for key in _KEYS), strict=True)
    return np.array([number[key] for key in keys], dtype=int)


def _fill(columns, kind, prefix, number, stereo):
    """Fill columns with the fields of a combiner's table."""
    for name, field in CONTAINERS[kind][0].fields.items():
        column = f"{prefix}_{name}"
        if name in ("is_valid", "telescopes") or column not in stereo.colnames:
            continue
        values = u.Quantity(stereo[column], field.unit or u.one).value
        columns.setdefault(name, np.full(len(columns["is_valid"]), np.nan))
        columns[name][number] = values


def _fill_telescopes(columns, prefix, number, stereo, index):
    """Fill the flag and the mask of telescopes; ``index`` is by tel_id."""
    columns["is_valid"][number] = stereo[f"{prefix}_is_valid"]
    used = [list(tel_ids) for tel_ids in stereo[f"{prefix}_telescopes"]]
    rows = np.repeat(number, [len(tel_ids) for tel_ids in used])
    columns["telescopes"][rows, index[list(chain.from_iterable(used))]] = True


def _mend_spreads(columns, combiner, table, event):
    """Correct the spreads of tables to those of events.

    A single telescope has none; and ctapipe's tables do not correct the spread of
    energies for the number of telescopes.
    """
    if "ang_distance_uncert" in columns and not _has_errors(combiner):
        is_single = columns["telescopes"].sum(axis=1) < 2
        columns["ang_distance_uncert"][is_single] = np.nan
    is_mean = type(combiner).predict_table is StereoMeanCombiner.predict_table
    if is_mean and "energy" in columns:
        columns["energy_uncert"] = _energy_spread(combiner, table, event, columns)


def _energy_spread(combiner, table, event, columns):
    """Spread of the telescopes' energies, as in `StereoMeanCombiner` for an event.

    Shape (n_events,), in TeV.
    """
    valid = np.asarray(table[f"{combiner.prefix}_tel_is_valid"])
    valid = valid & columns["is_valid"][event]
    energy = np.asarray(table[f"{combiner.prefix}_tel_energy"])[valid]
    if combiner.log_target:
        energy = np.log(energy)
    weights = np.ones(len(energy))
    if combiner.weights != "none":
        weights = _shares(combiner, table[valid], event[valid])
    _, spread = weighted_mean(energy, weights, event[valid], len(columns["is_valid"]))
    # Values that are too large become infinite, and are then not valid.
    with np.errstate(over="ignore"):
        return np.exp(spread) if combiner.log_target else spread


def _shares(combiner, table, event):
    """Shares of telescopes in the weights of their events, shape (n,).

    A share is the weighted mean of 1 for that telescope and 0 for the others.
    """
    mean = type(combiner)(
        prefix="Share",
        property=ReconstructionProperty.PARTICLE_TYPE,
        weights=combiner.weights,
    )
    _, number = np.unique(event, return_inverse=True)
    shares = np.empty(len(event))
    planted = table.copy()
    planted["Share_tel_is_valid"] = True
    for tel_id in np.unique(table["tel_id"]):
        is_this = np.asarray(table["tel_id"] == tel_id)
        planted["Share_tel_prediction"] = is_this.astype(float)
        found = np.asarray(_predict_table(mean, planted)["Share_prediction"])
        shares[is_this] = found[number[is_this]]
    return shares
