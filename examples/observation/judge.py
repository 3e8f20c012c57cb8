"""Judge many nights: are the errors right, and is chance what it should be?"""

import astropy.units as u
import numpy as np
from night import GAMMA, NAMES, SPECTRA
from scipy.stats import kstest

#: Largest mean of pulls, largest difference of their width from 1, smallest probability
#: of the nights without a source.
MAX_MEAN, MAX_WIDTH, MIN_PROBABILITY = 0.15, 0.15, 0.01


def judge_pulls(values, truth, errors, common, ideal=0.0):
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
    ideal : float
        Mean of the pulls of ideal nights.

    Returns
    -------
    dict
        ``mean`` and ``width`` of the pulls, with errors, and whether they are within
        the limits, the mean beside that of ideal nights. It may also be off by twice
        the shared error, so with few simulated showers ``mean_is_right`` says little:
        ``mean_error_of_simulation`` must be well below ``MAX_MEAN`` to exclude an error
        of that size.
    """
    values, errors = np.asarray(values), np.asarray(errors)
    pulls = (values - truth) / errors
    n, width = len(pulls), pulls.std(ddof=1)
    shared = common / np.median(errors)
    return {
        "mean": pulls.mean(),
        "mean_error": width / np.sqrt(n),
        "mean_error_of_simulation": shared,
        "mean_of_ideal_nights": ideal,
        "width": width,
        "width_error": width / np.sqrt(2 * (n - 1)),
        "mean_is_right": bool(
            abs(pulls.mean() - ideal) < np.hypot(MAX_MEAN, 2 * shared)
        ),
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


def summarise(with_source, without, ideal, night, common):
    """Judge the nights.

    Parameters
    ----------
    with_source, without : astropy.table.Table
        Nights with and without a source, from `run_nights`.
    ideal : astropy.table.Table
        Nights with the source, from `run_ideal_nights`.
    night : Night
        For the truth.
    common : tuple of float
        Errors of flux, index and position that all nights share.

    Returns
    -------
    dict
        What `summary.json` has.
    """
    hours = sum(run.duration for run in night.runs).to_value(u.hour)
    sigma = np.asarray(with_source["sqrt_ts"])
    truths = {"flux": 1, "index": -SPECTRA[GAMMA].index}
    fitted, ideal = (t[_has_errors(t)] for t in (with_source, ideal))
    return {
        "nights": len(with_source),
        "without_errors": len(with_source) - len(fitted),
        **{f"{NAMES[p]}_normalisation": n for p, n in night.normalisations.items()},
        "hours": hours,
        "events_on": float(np.mean(with_source["n_on"])),
        "background_on": float(np.mean(with_source["background"])),
        "sigma_per_sqrt_hour": sigma.mean() / np.sqrt(hours),
        "sigma_per_sqrt_hour_error": sigma.std() / np.sqrt(len(sigma) * hours),
        **{
            name: judge_pulls(
                fitted[name],
                truth,
                fitted[f"{name}_error"],
                shared,
                float(np.mean((ideal[name] - truth) / ideal[f"{name}_error"])),
            )
            for (name, truth), shared in zip(truths.items(), common[:2], strict=True)
        },
        **{
            angle: judge_pulls(
                with_source[angle], 0, with_source["position_error"], common[2]
            )
            for angle in ("lon", "lat")
        },
        "without_source": {
            "events_on": float(np.mean(without["n_on"])),
            **judge_chance(without["sigma"]),
        },
    }


def _has_errors(table):
    return np.isfinite(table["flux_error"] + table["index_error"])
