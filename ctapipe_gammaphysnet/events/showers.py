"""Number simulated showers: all images of a shower are on one side of any split."""

import base64
import hashlib

import astropy.units as u
import numpy as np
from scipy.special import bdtrc

__all__ = [
    "count_seen",
    "describe_showers",
    "is_among",
    "is_for_validation",
    "merge_descriptions",
    "shower_numbers",
]

#: A card describes at most this many showers, in half a megabyte.
MAX_DESCRIBED = 100_000
#: Matches with described showers that are less probable than this are not by chance.
_CHANCE = 1e-6


def shower_numbers(showers):
    """Number simulated showers by their properties.

    Images of one shower have the same number in all telescopes, at all impact points at
    which it is reused, and in all files. The number depends on nothing else.

    Parameters
    ----------
    showers : astropy.table.QTable
        The simulated shower of each image, n rows: run, primary particle, energy,
        altitude of the direction, and height of the first interaction, in ctapipe's
        columns.

    Returns
    -------
    numpy.ndarray
        Number of each image's shower, a hash, shape (n,), uint64.
    """
    # In float32, as in simulations: some versions of ctapipe write float64.
    truth = np.column_stack(
        [
            showers["true_energy"].to_value(u.TeV),
            showers["true_alt"].to_value(u.rad),
            showers["true_h_first_int"].to_value(u.m),
        ]
    ).astype("<f4")
    run = np.column_stack(
        [showers["obs_id"], showers["true_shower_primary_id"]]
    ).astype("<i8")
    rows = np.concatenate([run.view("u1"), truth.view("u1")], axis=1)
    distinct, inverse = np.unique(
        np.ascontiguousarray(rows).view(f"V{rows.shape[1]}"), return_inverse=True
    )
    digests = b"".join(
        hashlib.blake2b(shower.tobytes(), digest_size=8).digest() for shower in distinct
    )
    return np.frombuffer(digests, dtype="<u8")[inverse.reshape(-1)]


def is_for_validation(numbers, fraction):
    """Choose the showers that are kept for validation.

    The choice depends on the shower alone: adding files moves none.

    Parameters
    ----------
    numbers : numpy.ndarray
        Numbers of showers, shape (n,), uint64.
    fraction : float
        Share of the showers to choose.

    Returns
    -------
    numpy.ndarray
        Whether each is chosen, shape (n,), bool.
    """
    # The lowest bits: `describe_showers` keeps the showers with the smallest numbers.
    return (numbers & np.uint64(0xFFFFFFFF)) < fraction * 2**32


def describe_showers(numbers):
    """Describe showers for a model card, to be recognised by `is_among`.

    Parameters
    ----------
    numbers : numpy.ndarray
        Numbers of showers, shape (n,), uint64.

    Returns
    -------
    dict
        Their number, and the upper 32 bits of the smallest 100,000 of their numbers.
    """
    showers = np.unique(numbers)
    return _description(len(showers), showers >> np.uint64(32))


def _description(n_showers, upper):
    """Description of showers, of which the upper 32 bits are given in order."""
    smallest = upper[:MAX_DESCRIBED].astype("<u4").tobytes()
    return {
        "showers": n_showers,
        "smallest numbers": base64.b64encode(smallest).decode("ascii"),
    }


def merge_descriptions(descriptions):
    """Describe the showers of several descriptions.

    Parameters
    ----------
    descriptions : list of dict
        From `describe_showers`, at least one.

    Returns
    -------
    dict
        As for `describe_showers`. The number of showers is the smallest that it can be:
        of more than 100,000, descriptions do not show which they share.
    """
    upper = np.unique(np.concatenate([_smallest(d) for d in descriptions]))
    largest = max(description["showers"] for description in descriptions)
    return _description(max(largest, len(upper)), upper)


def _smallest(description):
    """Upper 32 bits of the smallest numbers in a description."""
    return np.frombuffer(base64.b64decode(description["smallest numbers"]), "<u4")


def is_among(numbers, description):
    """Find showers that are among those of a description.

    A description of more than 100,000 showers is incomplete: most matches are missed,
    but of a whole file some are found.

    Parameters
    ----------
    numbers : numpy.ndarray
        Numbers of showers, shape (n,), uint64.
    description : dict
        From `describe_showers`.

    Returns
    -------
    numpy.ndarray
        Whether each is found, shape (n,), bool.
    """
    return np.isin(numbers >> np.uint64(32), _smallest(description))


def count_seen(numbers, description):
    """Count the showers that are among those of a description.

    One shower in tens of thousands matches by chance.

    Parameters
    ----------
    numbers : numpy.ndarray
        Numbers of showers, shape (n,), uint64.
    description : dict
        From `describe_showers`.

    Returns
    -------
    int
        Number of different showers that are found, 0 if they can be chance matches.
    """
    showers = np.unique(numbers)
    n_seen = int(is_among(showers, description).sum())
    chance = min(description["showers"], MAX_DESCRIBED) / 2**32
    is_by_chance = bdtrc(n_seen - 1, len(showers), chance) > _CHANCE
    return 0 if is_by_chance else n_seen
