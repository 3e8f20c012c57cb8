"""Members that are added to a model file."""

from ..model.card import is_complete
from ..model.errors import ModelFileError
from ..model.file import Model, read_model
from .describe import list_differences

__all__ = ["add_members", "check_alike_training"]

#: Differences that a message names, and letters of each.
_LISTED, _LETTERS = 3, 200


def check_alike_training(path, old, new):
    """Check that two networks' members are of one ensemble, but for their seeds.

    Parameters
    ----------
    path : pathlib.Path
        The file of the old one.
    old, new : NetworkCard
        The networks, for the same telescope type.

    Raises
    ------
    ModelFileError
        If telescope, architecture, input or training differ; the message names the
        file and what differs.
    """
    before, now = (card.model_dump(mode="json") for card in (old, new))
    for part in ("telescope", "network", "input", "targets", "training"):
        if getattr(old, part) != getattr(new, part):
            found = list(list_differences(before[part], now[part]))
            texts = [text[:_LETTERS] + "…" * (len(text) > _LETTERS) for text in found]
            more = ["and more"] * (len(texts) > _LISTED)
            raise ModelFileError(
                f"{path}: its members for {new.telescope.type} differ from the new "
                f"ones in '{part}' of the model card "
                f"({'; '.join([*texts[:_LISTED], *more])}): train with the same files "
                "and settings, or into another file"
            )


def add_members(path, model, resumed=()):
    """Add a model's members to those in a file.

    Members in the file that were not trained to the end give way to those of the same
    seed, and so do those of a training that is resumed.

    Parameters
    ----------
    path : pathlib.Path
        The model file.
    model : Model
        The new members.
    resumed : collection of int
        Seeds whose members in the file are of the training that is resumed.

    Returns
    -------
    Model
        All members, those in the file first.

    Raises
    ------
    ModelFileError
        If the file's networks are for other telescopes, or have another architecture
        or training than the new ones, or have members of their seeds already.
    """
    before = read_model(path)
    old = {card.telescope.type: card for card in before.card.networks}
    new = {card.telescope.type: card for card in model.card.networks}
    if set(old) != set(new):
        raise ModelFileError(
            f"{path} has networks for {', '.join(old)}, the new members are for "
            f"{', '.join(new)}: train for the same telescope types"
        )
    cards, weights = [], []
    for name, card in new.items():
        check_alike_training(path, old[name], card)
        seeds = {member.seed for member in card.members}
        complete = {m.seed for m in old[name].members if is_complete(m)}
        twice = (seeds & complete).difference(resumed)
        if twice:
            raise ModelFileError(
                f"{path} has members of the seeds {sorted(twice)} for {name}"
            )
        number = list(old).index(name)
        kept = [
            (member, weight)
            for member, weight in zip(
                old[name].members, before.weights[number], strict=True
            )
            if member.seed not in seeds
        ]
        number = list(new).index(name)
        kept += zip(card.members, model.weights[number], strict=True)
        members, weights_of_members = zip(*kept, strict=True)
        cards.append(card.model_copy(update={"members": members}))
        weights.append(weights_of_members)
    update = {
        "networks": tuple(cards),
        # Not lost where the new members' training has none.
        "note": model.card.note or before.card.note,
    }
    return Model(model.card.model_copy(update=update), tuple(weights))
