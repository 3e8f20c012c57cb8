"""Which simulated shower an image shows: what no split and no test may divide."""

import base64
import hashlib

import astropy.units as u
import numpy as np

__all__ = [
    "describe_showers",
    "is_among",
    "is_for_validation",
    "shower_numbers",
]

#: A card describes at most this many showers, in half a megabyte.
MAX_DESCRIBED = 100_000


def shower_numbers(showers):
    """Number simulated showers by what they are.

    Images of the same shower, seen by several telescopes or reused at other impact
    points, in whatever file, have the same number; it depends on nothing else.

    Parameters
    ----------
    showers : astropy.table.QTable
        The simulated shower of each image, n rows: run, primary particle, energy,
        altitude of the direction, and height of the first interaction, in ctapipe's
        columns.

    Returns
    -------
    numpy.ndarray
        Random-looking number of each image's shower, shape (n,), uint64.
    """
    # In float32, as simulations have them: some versions of ctapipe write float64.
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

    A shower is on one side whatever files are given: adding files moves none.

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
    smallest = (showers[:MAX_DESCRIBED] >> np.uint64(32)).astype("<u4")
    return {
        "showers": len(showers),
        "smallest numbers": base64.b64encode(smallest.tobytes()).decode("ascii"),
    }


def is_among(numbers, description):
    """Tell which showers are among those of a description.

    If there are more than 100,000, most showers that are among them go unnoticed, but
    some of a file will not.

    Parameters
    ----------
    numbers : numpy.ndarray
        Numbers of showers, shape (n,), uint64.
    description : dict
        What `describe_showers` has made.

    Returns
    -------
    numpy.ndarray
        Whether each is among them, shape (n,), bool.
    """
    smallest = np.frombuffer(base64.b64decode(description["smallest numbers"]), "<u4")
    return np.isin(numbers >> np.uint64(32), smallest)
