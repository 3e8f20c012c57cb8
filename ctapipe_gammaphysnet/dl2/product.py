"""The product of the telescopes' error distributions: plain arrays, any dimensions.

Each telescope predicts a value with a covariance, and independent errors multiply their
probabilities: the inverse covariances add up, and the values are weighted by them. A
telescope far off its stated error must not drag the array. So the normal distributions
get tails: beyond `LIMIT` standard deviations from the result, the weight of a telescope
falls with the square of its distance. Within it, weights are 1, and the result is
exactly the product. It begins at the telescope that all together find most probable, so
that two that agree outvote a third one, unless that is more certain than they are and
within some of their own standard deviations. Of two telescopes that contradict each
other the result is near the more certain one, and its error does not show it.

``event`` numbers the events from 0.
"""

import numpy as np

__all__ = ["combine_directions", "combine_values"]

#: Distance in standard deviations beyond which a telescope loses weight.
LIMIT = 3.0
#: Most iterations of the weights, and change of a weight at which they end.
_ITERATIONS, _TOLERANCE = 100, 1e-10


def combine_values(values, covariances, event, n_events):
    """Combine values of telescopes.

    Parameters
    ----------
    values : numpy.ndarray
        Predictions, shape (n, n_dimensions).
    covariances : numpy.ndarray
        Their covariances, positive definite, shape (n, n_dimensions, n_dimensions).
    event : numpy.ndarray
        Event of each prediction, shape (n,), int.
    n_events : int
        Number of events.

    Returns
    -------
    mean : numpy.ndarray
        Shape (n_events, n_dimensions); NaN in events without predictions.
    covariance : numpy.ndarray
        Shape (n_events, n_dimensions, n_dimensions).
    """
    n_dimensions = values.shape[1]
    mean = np.full((n_events, n_dimensions), np.nan)
    covariance = np.full((n_events, n_dimensions, n_dimensions), np.nan)
    if len(event) == 0:
        return mean, covariance
    order = np.argsort(event, kind="stable")
    values, precision = values[order], np.linalg.inv(covariances[order])
    count = np.bincount(event, minlength=n_events)
    (seen,) = np.nonzero(count)
    count = count[seen]
    # From here on, events are those seen, and their predictions follow each other.
    event, start = np.repeat(np.arange(len(seen)), count), np.cumsum(count) - count
    # From the first telescope of each event: large values lose no digits.
    origin = values[start]
    centred = values - origin[event]
    middle = _most_probable(centred, precision, event, start, count)
    # The first weights are those seen from one telescope: they may change once more.
    weight, total = np.zeros(len(event)), np.empty((len(seen), *precision.shape[1:]))
    # Few events need many iterations.
    is_open = np.full(len(seen), True)
    for _ in range(_ITERATIONS):
        rows = np.flatnonzero(is_open[event])
        number = (np.cumsum(is_open) - 1)[event[rows]]
        distance2 = _distance2(centred[rows] - middle[event[rows]], precision[rows])
        before = weight[rows]
        weight[rows] = LIMIT**2 / np.maximum(distance2, LIMIT**2)
        weighted = weight[rows, np.newaxis, np.newaxis] * precision[rows]
        pull = np.einsum("nij,nj->ni", weighted, centred[rows])
        total[is_open] = _sum(weighted, number)
        pull = _sum(pull, number)[..., np.newaxis]
        middle[is_open] = np.linalg.solve(total[is_open], pull)[..., 0]
        moves = np.abs(weight[rows] - before) >= _TOLERANCE
        is_open[is_open] = np.bincount(number, weights=moves) > 0
        if not is_open.any():
            break
    mean[seen], covariance[seen] = origin + middle, np.linalg.inv(total)
    return mean, covariance


def _most_probable(values, precision, event, start, count):
    """Of each event's values the one of largest probability by all telescopes."""
    first, second = _pairs(event, start, count)
    distance2 = _distance2(values[first] - values[second], precision[second])
    # Minus twice the logarithm of the probability, whose tails have the same weights.
    far = np.maximum(distance2, LIMIT**2)
    cost = np.minimum(distance2, LIMIT**2) + LIMIT**2 * np.log(far / LIMIT**2)
    cost = np.bincount(first, weights=cost, minlength=len(event))
    return values[np.lexsort([cost, event])[start]]


def _pairs(event, start, count):
    """Indices of all pairs of predictions in the same event, each with itself, too."""
    n_partners = count[event]
    first = np.repeat(np.arange(len(event)), n_partners)
    within = np.arange(len(first)) - np.repeat(
        np.cumsum(n_partners) - n_partners, n_partners
    )
    return first, start[event[first]] + within


def _distance2(deviation, precision):
    return np.einsum("ni,nij,nj->n", deviation, precision, deviation)


def _sum(terms, event):
    """Sum over the predictions of each event, which follow each other."""
    return np.add.reduceat(terms, np.flatnonzero(np.diff(event, prepend=-1)))


def combine_directions(alt, az, covariances, event, n_events):
    """Combine directions of telescopes on the sphere.

    Parameters
    ----------
    alt, az : numpy.ndarray
        Directions in rad, shape (n,).
    covariances : numpy.ndarray
        Covariances along azimuth and altitude, both as angles on the sky, in rad²,
        shape (n, 2, 2).
    event : numpy.ndarray
        Event of each direction, shape (n,), int.
    n_events : int
        Number of events.

    Returns
    -------
    alt, az : numpy.ndarray
        Directions in rad, az from 0 to 2π, shape (n_events,); NaN in events without.
    covariance : numpy.ndarray
        Covariances there, shape (n_events, 2, 2).
    """
    axes = _axes(alt, az)
    centre = np.zeros((n_events, 3))
    np.add.at(centre, event, axes[:, 2])
    # In the plane that touches the sphere at the middle, and again where that has led:
    # there, distances are true, and so are turns of the axes near the zenith.
    for _ in range(2):
        plane = _axes(*_angles(centre))
        seen = np.einsum("nij,nkj->nik", plane[event], axes)
        # A telescope that looks away from the others is far off all the same.
        offset = seen[:, :2, 2] / np.maximum(seen[:, 2:, 2], 0.1)
        turn = seen[:, :2, :2]
        ellipses = turn @ covariances @ np.swapaxes(turn, 1, 2)
        mean, covariance = combine_values(offset, ellipses, event, n_events)
        centre = plane[:, 2] + np.einsum("ni,nij->nj", mean, plane[:, :2])
    found = _angles(centre)
    turn = np.einsum("nij,nkj->nik", _axes(*found), plane)[:, :2, :2]
    covariance = turn @ covariance @ np.swapaxes(turn, 1, 2)
    alt, az = found
    return alt, az % (2 * np.pi), covariance


def _axes(alt, az):
    """Unit vectors to azimuth, to altitude and to the direction, shape (n, 3, 3)."""
    sin_alt, cos_alt, sin_az, cos_az = np.sin(alt), np.cos(alt), np.sin(az), np.cos(az)
    vectors = [
        [-sin_az, cos_az, np.zeros_like(az)],
        [-sin_alt * cos_az, -sin_alt * sin_az, cos_alt],
        [cos_alt * cos_az, cos_alt * sin_az, sin_alt],
    ]
    return np.moveaxis(np.array(vectors), -1, 0)


def _angles(vector):
    x, y, z = vector.T
    return np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)
