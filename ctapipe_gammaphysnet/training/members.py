"""Members that are added to a model file."""

import contextlib
import fcntl

from ..model_file import Model, read_model

__all__ = ["add_members", "complete_seeds", "locked"]


@contextlib.contextmanager
def locked(path):
    """Let one process at a time change a file.

    Parameters
    ----------
    path : pathlib.Path
        The file; beside it a file that ends in ``.lock`` appears, and stays.

    Yields
    ------
    None
        When it is this process's turn.
    """
    with open(path.with_name(f"{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def complete_seeds(network):
    """Seeds of the members that were trained to the end.

    Parameters
    ----------
    network : NetworkCard
        The members' network.

    Returns
    -------
    set of int
        The seeds.
    """
    return {m.seed for m in network.members if m.training.get("complete", True)}


def add_members(path, model):
    """Add a model's members to those in a file.

    Members in the file that were not trained to the end give way to those of the same
    seed.

    Parameters
    ----------
    path : pathlib.Path
        The model file.
    model : Model
        The new members.

    Returns
    -------
    Model
        All members, those in the file first.

    Raises
    ------
    ValueError
        If the file's networks are for other telescopes, or have another architecture
        or training than the new ones.
    """
    before = read_model(path)
    old = {card.telescope.type: card for card in before.card.networks}
    new = {card.telescope.type: card for card in model.card.networks}
    if set(old) != set(new):
        raise ValueError(
            f"{path} has networks for {', '.join(old)}, the new members are for "
            f"{', '.join(new)}: train for the same telescope types"
        )
    cards, weights = [], []
    for name, card in new.items():
        for part in ("telescope", "network", "input", "targets", "training"):
            if getattr(old[name], part) != getattr(card, part):
                raise ValueError(
                    f"{path}: its members for {name} differ from the new ones in "
                    f"'{part}' of the model card: train with the same files and "
                    "settings, or into another file"
                )
        seeds = {member.seed for member in card.members}
        twice = seeds & complete_seeds(old[name])
        if twice:
            raise ValueError(
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
    return Model(
        model.card.model_copy(update={"networks": tuple(cards)}), tuple(weights)
    )
