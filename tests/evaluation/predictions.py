"""Samples whose metrics are known, because they were planted."""

from dataclasses import replace

import numpy as np
from astropy.table import Table
from scipy.special import expit
from scipy.stats import norm

from ctapipe_gammaphysnet.evaluation.results import Settings
from ctapipe_gammaphysnet.evaluation.sample import Algorithm, Sample

#: Radius within which 68 % of a two-dimensional normal distribution are, in sigma.
TWO_DIMENSIONAL = np.sqrt(-2 * np.log(1 - (norm.cdf(1) - norm.cdf(-1))))


def make_events(n_gammas, n_background, seed=0, energy=(0.1, 10.0), reuse=1):
    """Events with energies that are uniform in the logarithm."""
    rng = np.random.default_rng(seed)
    n_events = n_gammas + n_background
    label = np.repeat([0, 1], [n_gammas, n_background])
    return Table(
        {
            "label": label,
            "shower": (np.arange(n_events) // reuse).astype(np.uint64),
            "true_energy": 10 ** rng.uniform(*np.log10(energy), n_events),
            "intensity": 10 ** rng.uniform(2, 4, n_events),
            "zenith": rng.uniform(15, 30, n_events),
            "offset": rng.uniform(0, 1.5, n_events),
            "noise": rng.uniform(1.2, 1.5, n_events),
        }
    )


def plant(events, seed=1, sigma=0.1, smearing=0.2, bias=0.1, impact=20.0, distance=1.5):
    """Predictions of one member.

    Directions are off by ``sigma`` in two coordinates, energies by a factor that is
    normal around ``1 + bias``, impact points by ``impact`` in two coordinates; the
    gammaness is that of two normal distributions at ``distance`` from each other.
    """
    rng = np.random.default_rng(seed)
    x, y, z, u, v, w = rng.normal(size=(6, len(events)))
    score = w + distance * (np.asarray(events["label"]) == 0)
    return {
        "energy": np.asarray(events["true_energy"]) * (1 + bias + smearing * z),
        "separation": sigma * np.hypot(x, y),
        "impact": impact * np.hypot(u, v),
        "gammaness": expit(score - distance / 2),
    }


def make_algorithm(name, members, ensemble=None):
    """An algorithm of planted predictions."""
    rows = members if len(members) == 1 else [ensemble or members[0], *members]
    return Algorithm(
        name,
        tuple(range(len(members))) if len(members) > 1 else (),
        {key: np.array([row[key] for row in rows]) for key in rows[0]},
    )


def with_uncertainties(algorithm, seed=0):
    """The same algorithm with uncertainties that have the size of its errors."""
    rng = np.random.default_rng(seed)
    shape = algorithm.predictions["energy"].shape
    normal = rng.normal(size=(5, *shape))
    distances = np.hypot(normal[1:3], normal[3:]) / TWO_DIMENSIONAL
    pulls = {"energy": normal[0], "direction": distances[0], "impact": distances[1]}
    sizes = {name: rng.uniform(1, 2, shape) for name in pulls}
    return replace(algorithm, sizes=sizes, pulls=pulls)


def make_sample(events, *algorithms, weights=None):
    weights = np.ones(len(events)) if weights is None else weights
    return Sample(events, list(algorithms), weights)


def make_settings(energy=(0.1, 1.0, 10.0), minimum=20, n_resamples=20, cut=0.5):
    return Settings(
        np.array(energy), np.array([100.0, 1000.0, 1e4]), cut, minimum, n_resamples
    )
