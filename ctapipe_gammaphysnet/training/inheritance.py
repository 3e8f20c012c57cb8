"""What the networks of a telescope type get from a model to begin with."""

from dataclasses import dataclass

import numpy as np
from ctapipe.core import ToolConfigurationError

from ..model.card import NetworkCard, ParentCard
from ..model.matching import find_network
from ..model.telescope import TelescopeMismatchError, pixel_order
from ..network import CameraLattice
from ..tasks import TASKS
from ..tasks.conditions import CONDITIONS
from .describe import describe_parent

__all__ = ["Inheritance", "inherit"]

#: What must be the same for the backbone's weights to fit.
_BACKBONE = ("blocks", "channels", "attention", "attention_ratio")


@dataclass(frozen=True, eq=False)
class Inheritance:
    """What the networks of a telescope type get from a model.

    Attributes
    ----------
    network : NetworkCard
        Card of the model's network.
    card : ParentCard
        Its description for the card of the new network.
    weights : dict of int to dict of str to numpy.ndarray
        The weights to begin with, by the seed of the new member. What is new in the
        new network is not among them.
    """

    network: NetworkCard
    card: ParentCard
    weights: dict


def inherit(parent, telescope, network, seeds, log):
    """Find what the networks of a telescope type get from a model.

    Parts of the network, such as the backbone and the heads, are taken over if all
    their weights have the same names and shapes, and their outputs the same meaning.
    The weights of conditions that the model does not have are 0, as in a new network:
    it begins with the model's predictions.

    Parameters
    ----------
    parent : Parent
        The model.
    telescope : ctapipe.instrument.TelescopeDescription
        The telescope.
    network : NetworkConfig
        Architecture of the new networks.
    seeds : list of int
        Seeds of the new members.
    log : logging.Logger
        Where to log which parts are new, and which are left out.

    Returns
    -------
    Inheritance
        Weights and descriptions.

    Raises
    ------
    ToolConfigurationError
        If no network of the model fits the telescope, if its backbone is another one,
        or if it has no member for a seed.
    """
    old, weights = _find(parent, telescope)
    conditions = old.network.conditions
    _check_backbone(parent.path, old, network)
    weights = [_with_conditions(member, old, network) for member in weights]
    chosen = {seed: _member(parent.path, old, seed) for seed in seeds}
    kept, new, left_out = _compare(old, network, weights[0])
    added = [f"condition {n}" for n in _without(network.conditions, conditions)]
    left_out += [f"condition {n}" for n in _without(conditions, network.conditions)]
    log.info(
        "%s begins with the weights of %s. New: %s. Left out: %s",
        telescope,
        parent.path,
        ", ".join([*new, *added]) or "nothing",
        ", ".join(left_out) or "nothing",
    )
    return Inheritance(
        network=old,
        card=describe_parent(parent.path, parent.sha256, parent.model.card, old),
        weights={
            seed: {name: weights[number][name] for name in kept}
            for seed, number in chosen.items()
        },
    )


def _find(parent, telescope):
    """Card and weights of the model's network for a telescope."""
    cards = parent.model.card.networks
    trained = find_network(parent.path, telescope, [card.telescope for card in cards])
    (number,) = (n for n, card in enumerate(cards) if card.telescope is trained)
    _check_lattice(parent.path, telescope, trained)
    return cards[number], parent.model.weights[number]


def _check_lattice(path, telescope, trained):
    """Refuse a camera whose pixels have other places on the lattice.

    The weights are those of the lattice. It is the same whatever the order of the
    pixels, but not if the camera is the same in a frame that is turned.
    """
    here = CameraLattice.from_geometry(telescope.camera.geometry)
    there = CameraLattice.from_positions(trained.camera.pix_x_m, trained.camera.pix_y_m)
    order = pixel_order(telescope, trained)[there.order]
    if not np.array_equal(here.order, order):
        raise TelescopeMismatchError(
            f"{path}: its network for {trained.type} was trained for the camera of "
            f"{telescope}, but in another frame of the camera, in which its pixels "
            "have other rows and columns: train without --init-from, or on files with "
            "the camera as ctapipe describes it there"
        )


def _check_backbone(path, old, network):
    problems = [
        f"{name}={getattr(old.network, name)} instead of {getattr(network, name)}"
        for name in _BACKBONE
        if getattr(old.network, name) != getattr(network, name)
    ]
    if problems:
        raise ToolConfigurationError(
            f"{path}: the backbone of its network for {old.telescope.type} has "
            f"{', '.join(problems)}, so that its weights do not fit: leave these "
            "options out, or train without --init-from"
        )


def _member(path, old, seed):
    """Number of the member that a new member of a seed begins with."""
    seeds = [member.seed for member in old.members]
    if len(seeds) == 1:
        return 0
    if seed not in seeds:
        raise ToolConfigurationError(
            f"{path} has members of the seeds {', '.join(map(str, seeds))} for "
            f"{old.telescope.type}, and none of seed {seed} for the new one to begin "
            "with: choose others of these with --seeds, or a model with one member"
        )
    return seeds.index(seed)


def _with_conditions(weights, old, network):
    """Weights of a member with the columns of the new network's conditions."""
    # Imported here, since PyTorch takes a while.
    from ..network import parameter_shapes

    names = old.network.conditions
    if names == network.conditions:
        return weights
    # The layers with conditions have more columns with than without them.
    some, none = (
        parameter_shapes(
            old.network.model_copy(update={"conditions": conditions}),
            old.telescope.camera,
        )
        for conditions in (tuple(CONDITIONS), ())
    )
    changed = {
        name: _arranged(weights[name], none[name][1], names, network.conditions)
        for name in none
        if some[name] != none[name]
    }
    return {**weights, **changed}


def _arranged(weight, n_features, before, now):
    """Columns of the features, then of other conditions: 0 for those that are new."""
    edges = n_features + np.cumsum([0, *(CONDITIONS[n].n_columns for n in before)])
    features, *columns = np.split(weight, edges, axis=1)
    # After the last edge there is nothing.
    known = dict(zip(before, columns[:-1], strict=True))
    new = {n: np.zeros_like(weight[:, : CONDITIONS[n].n_columns]) for n in now}
    return np.concatenate([features, *((new | known)[n] for n in now)], axis=1)


def _compare(old, network, weights):
    """Names of the weights to take over, of new parts, and of parts that are left out.

    The hidden layer ``geometry`` is the input of several heads: those are new if it is.
    """
    # Imported here, since PyTorch takes a while.
    from ..network import parameter_shapes

    before = _parts({name: weight.shape for name, weight in weights.items()})
    now = _parts(parameter_shapes(network, old.telescope.camera))
    same = {
        part
        for part, shapes in now.items()
        if before.get(part) == shapes and _means_the_same(part, old, network)
    }
    kept = [part for part in now if part in same and _inputs(part, now) <= same]
    names = [name for part in kept for name in now[part]]
    return names, _without(now, kept), _without(before, kept)


def _parts(shapes):
    """Shapes of the weights of each part of a network, such as ``heads.energy``."""
    parts = {}
    for name, shape in shapes.items():
        first, second = f"{name}.".split(".")[:2]
        part = f"{first}.{second}" if second in TASKS else first
        parts.setdefault(part, {})[name] = tuple(shape)
    return parts


def _task(part):
    return TASKS.get(part.partition(".")[2])


def _means_the_same(part, old, network):
    """Whether the outputs of a part have the same meaning in both networks."""
    task = _task(part)
    if task is None:
        return True
    if not task.of_gammas and old.network.classes != network.classes:
        return False
    return old.targets.get(task.name) == task.meaning


def _inputs(part, parts):
    """Other parts that a part gets its input from, except the backbone."""
    task = _task(part)
    return {task.path} & set(parts) if task is not None else set()


def _without(parts, kept):
    return [part for part in parts if part not in kept]
