"""Add members to a model file."""

from ..model.card import is_complete
from ..model.errors import ModelFileError
from ..model.file import Model, read_model
from .describe import list_differences

__all__ = ["add_members", "check_same_training"]

#: Parts of a network's card that are the same for all its members.
_COMPARED = (
    *("telescope", "network", "geomagnetic_field_ut", "input", "domain", "parent"),
    *("targets", "training"),
)
#: Number of differences that a message lists, and of characters for each.
_LISTED, _CHARACTERS = 3, 200


def check_same_training(path, old, new):
    """Check that the members of two networks differ in nothing but their seeds.

    Parameters
    ----------
    path : pathlib.Path
        The file of the old network.
    old, new : NetworkCard
        The networks, for the same telescope type.

    Raises
    ------
    ModelFileError
        If telescope, architecture, input or training differ; the message names the
        file and what differs.
    """
    before, now = (card.model_dump(mode="json") for card in (old, new))
    for part in _COMPARED:
        if getattr(old, part) != getattr(new, part):
            found = map(str.strip, list_differences(before[part], now[part]))
            texts = [t[:_CHARACTERS] + "…" * (len(t) > _CHARACTERS) for t in found]
            more = ["and more"] * (len(texts) > _LISTED)
            raise ModelFileError(
                f"{path}: its members for {new.telescope.type} differ from the new "
                f"ones in '{part}' of the model card "
                f"({'; '.join([*texts[:_LISTED], *more])}): train with the same files "
                "and settings, or into another file"
            )


def add_members(path, model, resumed=()):
    """Add a model's members to those in a file.

    A new member replaces one in the file that has the same seed, if that is incomplete
    or from a training that is resumed. Networks for other telescope types are added,
    and those in the file stay.

    Parameters
    ----------
    path : pathlib.Path
        The model file.
    model : Model
        The new members.
    resumed : collection of int
        Seeds whose members in the file are from the training that is resumed.

    Returns
    -------
    Model
        All members, those in the file first.

    Raises
    ------
    ModelFileError
        If the file's networks for the same telescopes have another architecture or
        training than the new ones, or already have members of their seeds.
    """
    before = read_model(path)
    old = dict(_networks(before))
    new = dict(_networks(model))
    networks = {**old, **new}
    for name in old.keys() & new.keys():
        networks[name] = _with_new_members(path, *old[name], *new[name], resumed)
    cards, weights = zip(*networks.values(), strict=True)
    update = {
        "networks": cards,
        # The old note is kept if there is no new one.
        "note": model.card.note or before.card.note,
    }
    return Model(model.card.model_copy(update=update), weights)


def _networks(model):
    """Telescope type, card and weights of each network."""
    for card, weights in zip(model.card.networks, model.weights, strict=True):
        yield card.telescope.type, (card, weights)


def _with_new_members(path, old, old_weights, new, new_weights, resumed):
    """Card and weights of a network with old and new members."""
    check_same_training(path, old, new)
    seeds = {member.seed for member in new.members}
    complete = {member.seed for member in old.members if is_complete(member)}
    twice = (seeds & complete).difference(resumed)
    if twice:
        raise ModelFileError(
            f"{path} already has members of the seeds {sorted(twice)} for "
            f"{new.telescope.type}"
        )
    kept = [
        (member, weights)
        for member, weights in zip(old.members, old_weights, strict=True)
        if member.seed not in seeds
    ]
    kept += zip(new.members, new_weights, strict=True)
    members, weights = zip(*kept, strict=True)
    return new.model_copy(update={"members": members}), weights
