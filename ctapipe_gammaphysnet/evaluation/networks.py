"""Predictions of a model's members from the images of DL1 files."""

import astropy.units as u
import numpy as np

from ..dl2.columns import telescope_columns
from ..events.images import read_images
from ..events.showers import count_seen
from ..events.telescope_events import altitudes_of, check_pointing
from ..model.errors import ModelFileError
from ..model.loading import load_model
from ..model.matching import match_telescopes
from ..tasks.axis import ImageAxes
from ..tasks.frames import radians
from .events import EvaluationError
from .predictions import predicted_columns

__all__ = [
    "check_showers",
    "check_unseen",
    "predict_file",
    "read_models",
    "read_networks",
    "seeds_of",
    "to_quantities",
]

#: Number of images that are read at once.
_BLOCK = 512


def read_networks(path, types, arrays, log, **settings):
    """Read the networks of a model for the telescopes of files.

    Parameters
    ----------
    path : pathlib.Path
        The model file.
    types : list of str
        Telescope types.
    arrays : dict of pathlib.Path to ctapipe.instrument.SubarrayDescription
        The array of each file.
    log : logging.Logger
        Where to warn of a model whose training was interrupted.
    **settings
        How to compute, as for `load_model`.

    Returns
    -------
    LoadedModel
        With a network for each type.

    Raises
    ------
    EvaluationError
        If the file cannot be read, has no network for a type, or its networks have
        members with different seeds.
    DeviceError
        If this machine cannot compute as asked.
    TelescopeMismatchError
        If no network fits telescopes that have the name of one, or several fit.
    """

    def _refuse(missing, available):
        raise EvaluationError(
            f"{path} has no network for {', '.join(sorted(missing))}, only "
            f"for {', '.join(available)}: choose with --telescope-types"
        )

    try:
        model = load_model(path, arrays, types, on_missing=_refuse, log=log, **settings)
    except ModelFileError as error:
        raise EvaluationError(str(error)) from error
    seeds_of([network.card for network in model.networks.values()])
    return model


def read_models(paths, types, arrays, log, **settings):
    """Read several models.

    Parameters
    ----------
    paths : dict of str to pathlib.Path
        The model files, by name.
    types, arrays, log : list, dict, logging.Logger
        As for `read_networks`.
    **settings
        How to compute, as for `load_model`.

    Returns
    -------
    dict of str to LoadedModel
        The models.
    """
    return {
        name: read_networks(path, types, arrays, log, **settings)
        for name, path in paths.items()
    }


def seeds_of(cards):
    """Find the seeds of a model's members, if there are several.

    Parameters
    ----------
    cards : list of NetworkCard
        Cards of the model's networks.

    Returns
    -------
    tuple of int
        The seeds; empty with a single member.

    Raises
    ------
    EvaluationError
        If networks have members with different seeds.
    """
    seeds = {tuple(member.seed for member in card.members) for card in cards}
    if len(seeds) > 1:
        raise EvaluationError(
            "the networks of different telescope types have members with different "
            "seeds: choose one type at a time, with --telescope-types"
        )
    (seeds,) = seeds
    return seeds if len(seeds) > 1 else ()


def check_showers(card, shower):
    """Count the showers that a network has seen in training.

    Those that the networks before it have seen, if its training began with the weights
    of another one, count as well. One unseen shower in tens of thousands matches a
    training shower by chance.

    Parameters
    ----------
    card : NetworkCard
        The network's card.
    shower : numpy.ndarray
        Numbers of showers, shape (n,), uint64.

    Returns
    -------
    int or None
        Number of showers that it has seen, at least; 0 if they can be chance matches;
        None if none was found, but the card does not describe all of its showers.
    """
    own = (card.training or {}).get("seen in training")
    before = card.parent and card.parent.showers
    descriptions = [own, before and before.description]
    n_seen = max((count_seen(shower, d) for d in descriptions if d), default=0)
    knows_all = own is not None and (not card.parent or card.parent.knows_all_showers)
    return n_seen if n_seen > 0 or knows_all else None


def check_unseen(name, networks, events, allow, log):
    """Refuse training showers of a model, and warn if these are unknown.

    Parameters
    ----------
    name : str
        The model's name.
    networks : list of Network
        Its networks.
    events : dict of pathlib.Path to astropy.table.Table
        Events of each file, as `read_events` returns them.
    allow : bool
        Whether to warn of training showers instead of refusing them.
    log : logging.Logger
        Where to warn.

    Raises
    ------
    EvaluationError
        If a network was trained on showers of a file.
    """
    for network in networks:
        for path, of_file in events.items():
            n_seen = check_showers(network.card, of_file["shower"])
            if n_seen is None:
                log.warning(
                    "%s does not say which showers it was trained on: it may have seen "
                    "those of %s",
                    name,
                    path,
                )
            elif n_seen > 0 and not allow:
                raise EvaluationError(
                    f"{name} was trained on at least {n_seen} of the showers in "
                    f"{path}: its predictions of them are no test. Give files of other "
                    "showers, or insist with --allow-training-showers"
                )
            elif n_seen > 0:
                log.warning(
                    "%s was trained on at least %d of the showers in %s",
                    name,
                    n_seen,
                    path,
                )


def predict_file(reader, networks, events, progress=None):
    """Predict from the images of a file with all members.

    Parameters
    ----------
    reader : EventReader
        A file with images.
    networks : list of Network
        The networks of a model.
    events : astropy.table.Table
        The file's telescope events, as `read_events` returns them.
    progress : callable, optional
        Called with the number of images that are done.

    Returns
    -------
    predictions : dict of str to numpy.ndarray
        The `predicted_columns` in their units; NaN if not valid, shape (n_rows,
        n_events). The first row is the mean over the members, as
        in `GammaPhysNetReconstructor`; the members follow if there are several.
    noise : numpy.ndarray
        Noise of the pixels without light of the shower in p.e.; NaN for images that no
        network sees, shape (n_events,).
    """
    noise = np.full(len(events), np.nan)
    n_members = len(networks[0].card.members)
    n_rows = 1 + n_members if n_members > 1 else 1
    predictions = {
        name: np.full((n_rows, len(events)), np.nan) for name in predicted_columns()
    }
    for network, order, of_network in _match_events(reader, networks, events):
        check_pointing(reader.path, events[of_network])
        for start in range(0, len(of_network), _BLOCK):
            rows = of_network[start : start + _BLOCK]
            found, noise[rows] = _predict(reader, network, order, events[rows])
            for column, values in found.items():
                predictions[column][:, rows] = values
            if progress is not None:
                progress(len(rows))
    return predictions, noise


def _match_events(reader, networks, events):
    """Yield networks, orders of pixels, and the rows of their events."""
    by_type = {network.card.telescope.type: network for network in networks}
    cards = [network.card.telescope for network in networks]
    tel_ids = np.unique(events["tel_id"]).tolist()
    names = {str(reader.subarray.tel[tel_id]) for tel_id in tel_ids}
    matches, _ = match_telescopes({reader.path: reader.subarray}, cards, names)
    matches = matches[reader.path]
    for match in dict.fromkeys(matches.values()):
        matched = [tel_id for tel_id in matches if matches[tel_id] is match]
        rows = np.flatnonzero(np.isin(events["tel_id"], matched))
        yield by_type[match.type], match.order, rows


def _predict(reader, network, order, events):
    """Predictions of some events, and their noise, as in `predict_file`."""
    predictor = network.predictor
    prepare = predictor.prepare.reordered(order)
    keys = (np.asarray(events[n]) for n in ("tel_id", "row", "obs_id", "event_id"))
    images = read_images(reader, *keys)
    inputs, has_pixels, background = prepare.with_background(*images)
    pointing = [events[f"pointing_{angle}"].quantity for angle in ("alt", "az")]
    positions = reader.subarray.tel_coords.cartesian.xyz.to(u.m).T
    index = reader.subarray.tel_ids_to_indices(events["tel_id"])
    predictions = to_quantities(
        predictor(inputs, predictor.conditions(*pointing, background.noise_pe)),
        *pointing,
        positions[index],
        altitudes_of(reader.subarray)[index],
        network.card.targets,
        ImageAxes(*(np.asarray(events[f"axis_{name}"]) for name in ImageAxes._fields)),
        [member.calibration for member in network.card.members],
    )
    for values in predictions.values():
        values[:, ~has_pixels] = np.nan
    return predictions, background.noise_pe


def to_quantities(
    outputs,
    pointing_alt,
    pointing_az,
    position,
    altitude=None,
    targets=None,
    axes=None,
    calibrations=(),
):
    """Convert outputs of networks to quantities, for their mean and each member.

    Parameters
    ----------
    outputs : dict of str to numpy.ndarray
        For each task, as for `telescope_columns`.
    pointing_alt, pointing_az, position, altitude : astropy.units.Quantity
        As for `telescope_columns`, with units.
    targets, axes, calibrations : optional
        As for `telescope_columns`.

    Returns
    -------
    dict of str to numpy.ndarray
        The `predicted_columns` in their units, NaN if not valid, shape (n_rows, n).
        The first row is the mean over the members, which follow if there are several.
    """
    n_members = len(next(iter(outputs.values())))
    members = [slice(None)]
    if n_members > 1:
        members += [slice(member, member + 1) for member in range(n_members)]
    where = radians(pointing_alt), radians(pointing_az), position.to_value(u.m)
    where += (None if altitude is None else altitude.to_value(u.m),)
    rows = [
        telescope_columns(
            {task: output[which] for task, output in outputs.items()},
            *(*where, targets, axes, calibrations[which]),
        )
        for which in members
    ]
    predictions = {
        name: np.full((len(rows), len(position)), np.nan)
        for name in predicted_columns()
    }
    for number, row in enumerate(rows):
        for name, (kind, field, _) in predicted_columns().items():
            if field in row.get(kind, ()):
                predictions[name][number] = row[kind][field]
    return predictions
