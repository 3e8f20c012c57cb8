"""Find the network of each telescope, by its camera and optics.

A telescope has different names in different files, and its pixels different orders.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ctapipe.core import ToolConfigurationError
from ctapipe.instrument import SubarrayDescription, TelescopeDescription

from .card import TelescopeCard
from .telescope import (
    TelescopeMismatchError,
    differences,
    identical_telescopes,
    name_telescopes,
    pixel_order,
)

__all__ = ["Match", "find_network", "match_telescopes", "report_missing"]


@dataclass(frozen=True, eq=False)
class Match:
    """The network of telescopes, and the order of their pixels.

    Attributes
    ----------
    type : str
        Telescope type of the network, which may not be the telescopes' own.
    order : numpy.ndarray or slice
        Index of the telescopes' pixels that puts them in the order of the network's,
        shape (n_pixels,), int; ``slice(None)`` if they already are.
    """

    type: str
    order: np.ndarray | slice


def match_telescopes(
    arrays: Mapping[Path | None, SubarrayDescription],
    cards: Sequence[TelescopeCard],
    names: Collection[str],
) -> tuple[dict[Path | None, dict[int, Match]], list[str]]:
    """Find the network of each telescope.

    A network fits a telescope without `differences` from that of its training. If
    several fit, the one with the telescope's name is used.

    Parameters
    ----------
    arrays : mapping of pathlib.Path or None to SubarrayDescription
        The array of each file; the key is None for an array without a file.
    cards : sequence of TelescopeCard
        Telescopes of the networks.
    names : collection of str
        Names of the telescope types to match. Other telescopes are left out.

    Returns
    -------
    matches : dict of pathlib.Path or None to dict of int to Match
        For each file and telescope its network. Telescopes with the same network and
        order of pixels share one `Match`.
    missing : list of str
        Names of telescope types without a network, and what differs if the camera of a
        network has as many pixels.

    Raises
    ------
    TelescopeMismatchError
        If a telescope with the name of a network differs from it and fits no other, or
        if several networks fit and none has the telescope's name. The message names
        file, telescopes and what differs.
    """
    matches, missing, shared = {path: {} for path in arrays}, {}, {}
    for path, subarray in arrays.items():
        of_file = "" if path is None else f"{path}, "
        for tel_ids, telescope in identical_telescopes(subarray, names):
            compared = [(card, differences(telescope, card)) for card in cards]
            where = f"{of_file}{name_telescopes(tel_ids)}"
            card = _find_card(telescope, compared, where)
            if card is None:
                # Many telescopes can be alike: one is enough.
                where = f"{of_file}{name_telescopes(tel_ids[:1])}"
                missing[str(telescope)] = _describe_missing(telescope, compared, where)
                continue
            order = pixel_order(telescope, card)
            match = shared.setdefault(
                (card.type, order.tobytes()), Match(card.type, _as_index(order))
            )
            matches[path] |= dict.fromkeys(tel_ids, match)
    return matches, list(missing.values())


def find_network(
    path: Path, telescope: TelescopeDescription, cards: Sequence[TelescopeCard]
) -> TelescopeCard:
    """Find the network of a model file that fits a telescope, as `match_telescopes`.

    Parameters
    ----------
    path : pathlib.Path
        The model file.
    telescope : ctapipe.instrument.TelescopeDescription
        The telescope.
    cards : sequence of TelescopeCard
        Telescopes of the file's networks.

    Returns
    -------
    TelescopeCard
        That of the network.

    Raises
    ------
    TelescopeMismatchError
        If there is none, or if several fit and none has the telescope's name.
    """
    compared = [(card, differences(telescope, card)) for card in cards]
    card = _find_card(telescope, compared, path)
    if card is None:
        raise TelescopeMismatchError(
            f"{path} has no network for "
            f"{_describe_missing(telescope, compared, 'the telescope')}, only for "
            f"{', '.join(card.type for card in cards)}"
        )
    return card


def _find_card(telescope, compared, where):
    """Card of the network for a telescope; None if there is none.

    ``compared`` has each network's card with the telescope's differences.
    """
    fitting = [card for card, problems in compared if not problems]
    for card in fitting:
        if card.type == str(telescope) or len(fitting) == 1:
            return card
    if fitting:
        raise TelescopeMismatchError(
            f"{where}: the networks for {' and '.join(card.type for card in fitting)} "
            f"all fit telescope type {telescope}, but none has its name. Use a model "
            "with only one of them"
        )
    for card, problems in compared:
        if card.type == str(telescope):
            raise TelescopeMismatchError(
                f"{where}: telescope type {telescope} differs from the {card.type} "
                f"that the model was trained for: {'; '.join(problems)}. Use a model "
                "trained for this telescope."
            )
    return None


def report_missing(
    path: str | Path,
    reaction: str,
    log: logging.Logger,
    names: Collection[str],
    available: Collection[str],
) -> None:
    """React to telescopes without network as the reconstructor's option says.

    Parameters
    ----------
    path : str or pathlib.Path
        The model file.
    reaction : {"error", "warn", "ignore"}
        What to do.
    log : logging.Logger
        Receives a warning for each telescope type.
    names : collection of str
        Descriptions of the telescope types.
    available : collection of str
        Telescope types of the model's networks.

    Raises
    ------
    ToolConfigurationError
        If this is an error.
    """
    for name in names:
        message = (
            f"{path} has no network for telescope type {name}, only for "
            f"{', '.join(available)}"
        )
        if reaction == "error":
            raise ToolConfigurationError(
                f"{message}. Leave these telescopes out (EventSource.allowed_tels of "
                "ctapipe-process), or set GammaPhysNetReconstructor.missing_network to "
                "'warn' or 'ignore' to have their events written as not valid."
            )
        if reaction == "warn":
            log.warning("%s: its events will not be valid", message)


def _describe_missing(telescope, compared, where):
    """Name a telescope without network, and how it differs from similar ones."""
    n_pixels = telescope.camera.geometry.n_pixels
    reasons = [
        f"{where} differs from {card.type}: {'; '.join(problems)}"
        for card, problems in compared
        if len(card.camera.pix_x_m) == n_pixels
    ]
    return f"{telescope} ({'. '.join(reasons)})" if reasons else str(telescope)


def _as_index(order):
    return slice(None) if np.array_equal(order, np.arange(len(order))) else order
