"""Judge many nights: are the errors right, and is chance what it should be?"""

import numpy as np
from scipy.stats import kstest

#: Largest mean of pulls, largest difference of their width from 1, smallest probability
#: of the nights without a source.
MAX_MEAN, MAX_WIDTH, MIN_PROBABILITY = 0.15, 0.15, 0.01


def judge_pulls(values, truth, errors, common):
    """Compare fitted values with the truth.

    Parameters
    ----------
    values : numpy.ndarray
        Of each night, shape (n,), float.
    truth : float
        The planted value.
    errors : numpy.ndarray
        Of each night, shape (n,), float.
    common : float
        Error that all nights share, by the number of simulated showers.

    Returns
    -------
    dict
        ``mean`` and ``width`` of the pulls, with errors, and whether they are within
        the limits. The mean may also be off by twice the shared error, so with few
        simulated showers ``mean_is_right`` says little: ``mean_error_of_simulation``
        must be well below ``MAX_MEAN`` to exclude an error of that size.
    """
    values, errors = np.asarray(values), np.asarray(errors)
    pulls = (values - truth) / errors
    n, width = len(pulls), pulls.std(ddof=1)
    shared = common / np.median(errors)
    return {
        "mean": pulls.mean(),
        "mean_error": width / np.sqrt(n),
        "mean_error_of_simulation": shared,
        "width": width,
        "width_error": width / np.sqrt(2 * (n - 1)),
        "mean_is_right": bool(abs(pulls.mean()) < np.hypot(MAX_MEAN, 2 * shared)),
        "width_is_right": bool(abs(width - 1) < MAX_WIDTH),
    }


def judge_chance(sigmas):
    """Compare significances without a source with a standard normal distribution.

    With less than some ten events on the source, significances are steps, and no normal
    distribution.

    Parameters
    ----------
    sigmas : numpy.ndarray
        Of each night, shape (n,), float.

    Returns
    -------
    dict
        Mean, width, the probability of the Kolmogorov-Smirnov test, and whether it is
        large enough.
    """
    probability = kstest(sigmas, "norm").pvalue
    return {
        "mean": np.mean(sigmas),
        "width": np.std(sigmas, ddof=1),
        "ks_probability": probability,
        "is_chance": bool(probability > MIN_PROBABILITY),
    }
