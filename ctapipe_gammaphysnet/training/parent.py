"""The model with whose weights a training begins."""

from dataclasses import dataclass
from pathlib import Path

from ctapipe.core import Provenance, ToolConfigurationError

from ..configuration.sections import merged_section
from ..events.showers import count_seen
from ..files.input_file import sha256_of_file
from ..model.errors import ModelFileError
from ..model.file import Model, read_model, warn_incomplete
from ..network import NetworkConfig

__all__ = [
    "Parent",
    "choose_input",
    "default_settings",
    "read_parent",
    "warn_of_seen_showers",
]


@dataclass(frozen=True, eq=False)
class Parent:
    """A model whose weights a training begins with.

    Attributes
    ----------
    path : pathlib.Path
        Its file.
    sha256 : str
        The SHA-256 of the file, in hexadecimal digits.
    model : Model
        Its content.
    """

    path: Path
    sha256: str
    model: Model


def read_parent(path, log):
    """Read a model to begin with.

    The file is recorded as an input in the provenance.

    Parameters
    ----------
    path : pathlib.Path
        The model file.
    log : logging.Logger
        Where to warn of a model whose training was interrupted.

    Returns
    -------
    Parent
        The model.

    Raises
    ------
    ToolConfigurationError
        If the file cannot be read, or is not a model file.
    """
    try:
        model = read_model(path)
        sha256 = sha256_of_file(path)
    except ModelFileError as error:
        raise ToolConfigurationError(f"--init-from: {error}") from error
    warn_incomplete(path, model.card, log)
    Provenance().add_input_file(
        path, role="γ-PhysNet model to begin with", reference_meta={"sha256": sha256}
    )
    return Parent(path, sha256, model)


def default_settings(parent, names, given):
    """Find the architecture of a model, for all options that were not given.

    Parameters
    ----------
    parent : Parent
        The model.
    names : collection of str
        Options of the tool.
    given : collection of str
        Those that the user has given.

    Returns
    -------
    dict of str to object
        Values of those that were not.

    Raises
    ------
    ToolConfigurationError
        If the model's networks differ in one of them.
    """
    networks = [card.network for card in parent.model.card.networks]
    defaults = {}
    for name in NetworkConfig.model_fields:
        if name not in names or name in given:
            continue
        first, *others = (getattr(network, name) for network in networks)
        if any(other != first for other in others):
            raise ToolConfigurationError(
                f"{parent.path} has networks with different {name}: give "
                f"TrainGammaPhysNet.{name}, and choose with --telescope-types"
            )
        defaults[name] = list(first) if isinstance(first, tuple) else first
    return defaults


def choose_input(transformation, inherited, path):
    """Choose the input of the network, which must be that of the model to begin with.

    Options that are not given are the model's. So all models can be trained on, also
    those that `ctapipe-import-gammaphysnet` made, whose input has no options.

    Parameters
    ----------
    transformation : InputTransformation
        The user's options.
    inherited : Inheritance
        What the model gives.
    path : pathlib.Path
        The model file.

    Returns
    -------
    InputCard
        The input.

    Raises
    ------
    ToolConfigurationError
        If an option is another one than the model's.
    """
    card = inherited.network.input
    given = merged_section(transformation.config, transformation.section_names())
    for name in given:
        wanted, there = getattr(transformation, name), getattr(card, name)
        if wanted != there:
            raise ToolConfigurationError(
                f"InputTransformation.{name} is {wanted}, but in {path} it is {there}, "
                "and its weights fit no other input: leave the option out, or train "
                "without --init-from"
            )
    return card


def warn_of_seen_showers(name, validation, inherited, path, log):
    """Warn of validation images of showers that the model was trained on.

    A shower is kept for validation by its number: with the same share, these are those
    that the model was not trained on either.

    Parameters
    ----------
    name : str
        Telescope type.
    validation : EventIndex
        The images for validation.
    inherited : Inheritance
        What the model gives.
    path : pathlib.Path
        The model file.
    log : logging.Logger
        Where to warn.
    """
    if len(validation) == 0:
        return
    card, n_seen = inherited.card, 0
    if card.showers is not None:
        n_seen = count_seen(validation.shower, card.showers.description)
    if n_seen > 0:
        log.warning(
            "%s: at least %d of the showers for validation were among those that %s "
            "was trained on: metrics look too good, and errors too small. Use the "
            "TrainGammaPhysNet.validation_fraction of its training, or other files",
            name,
            n_seen,
            path,
        )
    elif not card.knows_all_showers:
        log.warning(
            "%s: the card of %s does not have all the showers of its training: if "
            "those for validation are among them, metrics look too good, and errors "
            "too small",
            name,
            path,
        )
