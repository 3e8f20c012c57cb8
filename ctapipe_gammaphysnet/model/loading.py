"""Load a model for the telescopes whose images it will reconstruct."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctapipe.core import Provenance
from ctapipe.instrument import SubarrayDescription

from ..files.input_file import sha256_of_file
from .card import ModelCard, NetworkCard
from .file import read_model, warn_incomplete
from .matching import Match, match_telescopes
from .predictor import (
    BATCH_SIZE,
    Predictor,
    check_engine,
    select_device,
    set_threads,
)

__all__ = ["LoadedModel", "Network", "load_model"]


@dataclass(frozen=True, eq=False)
class Network:
    """The network of one telescope type.

    Attributes
    ----------
    card : NetworkCard
        Its entry in the model card.
    predictor : Predictor
        Its members.
    """

    card: NetworkCard
    predictor: Predictor


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model, ready to predict.

    Attributes
    ----------
    card : ModelCard
        The model card, with all networks of the file.
    sha256 : str
        The SHA-256 of the file, in hexadecimal digits.
    networks : dict of str to Network
        The needed networks, by the telescope type of their training.
    matches : dict of pathlib.Path or None to dict of int to Match
        For each file the networks of its telescopes, as from `match_telescopes`.
    """

    card: ModelCard
    sha256: str
    networks: dict[str, Network]
    matches: dict[Path | None, dict[int, Match]]


def load_model(
    path: str | Path,
    arrays: Mapping[Path | None, SubarrayDescription],
    types: Collection[str],
    *,
    on_missing: Callable[[list[str], list[str]], None],
    log: logging.Logger,
    device: str = "auto",
    precision: str = "float32",
    engine: str = "lattice",
    batch_size: int = BATCH_SIZE,
    n_jobs: int | None = None,
) -> LoadedModel:
    """Load the networks of a model file for the telescopes of arrays.

    Networks are found by the telescopes' cameras and optics, as in `match_telescopes`.
    The file is recorded as an input in the provenance.

    Parameters
    ----------
    path : str or pathlib.Path
        The model file.
    arrays : mapping of pathlib.Path or None to SubarrayDescription
        The array of each event file; the key is None for an array without a file.
    types : collection of str
        Names of the telescope types whose networks are needed.
    on_missing : callable
        Called if some types have no network, with descriptions of these types and the
        types of the file's networks. It raises if this is an error.
    log : logging.Logger
        Receives a warning about a model whose training was interrupted.
    device : str
        Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.
    precision : {"float32", "bfloat16"}
        Precision of the convolutions.
    engine : {"lattice", "indexed"}
        How convolutions are computed.
    batch_size : int
        Images per forward pass.
    n_jobs : int or None
        Number of threads in the whole process; None for one per core.

    Returns
    -------
    LoadedModel
        The model, with the networks that the file has.

    Raises
    ------
    ModelFileError
        If the file cannot be read, or is not a model file.
    DeviceError
        If this machine cannot compute with these settings.
    TelescopeMismatchError
        If no network fits telescopes that have the name of one, or several fit.
    """
    chosen = select_device(device)
    check_engine(engine, chosen)
    set_threads(n_jobs)
    model = read_model(path)
    warn_incomplete(path, model.card, log)
    sha256 = sha256_of_file(path)
    Provenance().add_input_file(
        path, role="γ-PhysNet model", reference_meta={"sha256": sha256}
    )
    cards = [network.telescope for network in model.card.networks]
    matches, missing = match_telescopes(arrays, cards, types)
    if missing:
        on_missing(missing, [card.type for card in cards])
    needed = {match.type for of_file in matches.values() for match in of_file.values()}
    settings = chosen, precision, engine, batch_size
    networks = {
        card.telescope.type: Network(card, Predictor(card, weights, *settings))
        for card, weights in zip(model.card.networks, model.weights, strict=True)
        if card.telescope.type in needed
    }
    return LoadedModel(model.card, sha256, networks, matches)
