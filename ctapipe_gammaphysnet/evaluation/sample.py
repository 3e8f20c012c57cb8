"""The sample: events of all files, with the predictions of all algorithms."""

from dataclasses import dataclass, field, replace

import numpy as np
from astropy.table import Table, vstack

from ..dl2.combination import default_combiner
from ..events.opening import open_events
from .dl2_tables import read_dl2
from .events import EvaluationError, merge_telescopes
from .networks import predict_file, seeds_of
from .predictions import (
    combine_telescopes,
    compare_to_truth,
    compare_uncertainties,
)

__all__ = ["Algorithm", "Sample", "common_sample", "count_valid", "read_sample"]

#: Attributes of an algorithm with values of each event.
_PER_EVENT = ("predictions", "sizes", "pulls")


@dataclass(frozen=True, eq=False)
class Algorithm:
    """Predictions of an algorithm.

    Attributes
    ----------
    name : str
        Its name.
    seeds : tuple of int
        Seeds of its members; empty if there are not several.
    predictions : dict of str to numpy.ndarray
        Energy in TeV, angular separation from the true direction in deg, distance
        from the true impact point in m, gammaness; NaN if there is none, shape
        (1 + n_members, n_events). The first row is the algorithm's prediction: the
        mean of its members, which follow if there are several.
    sizes, pulls : dict of str to numpy.ndarray
        Predicted sizes of the errors, and errors in units of their predicted
        uncertainties, as `compare_uncertainties` returns them, shape (1 + n_members,
        n_events). A prediction is valid without them.
    """

    name: str
    seeds: tuple
    predictions: dict
    sizes: dict = field(default_factory=dict)
    pulls: dict = field(default_factory=dict)

    @property
    def is_known(self):
        """Events with each prediction, of all members: shape (n_events,), bool."""
        return {k: np.isfinite(v).all(axis=0) for k, v in self.predictions.items()}

    @property
    def provided(self):
        """Names of the predictions that it makes at all."""
        return [k for k, v in self.predictions.items() if np.isfinite(v).any()]

    @property
    def is_valid(self):
        """Events with all predictions that it makes, shape (n_events,), bool."""
        is_known = self.is_known
        known = [is_known[name] for name in self.provided]
        n_events = next(iter(self.predictions.values())).shape[1]
        return np.all(known, axis=0) if known else np.zeros(n_events, dtype=bool)


@dataclass(frozen=True, eq=False)
class Sample:
    """Events with the predictions of algorithms.

    Attributes
    ----------
    events : astropy.table.Table
        The events, as `read_events` returns them.
    algorithms : list of Algorithm
        Their predictions.
    weights : numpy.ndarray
        Weights of the events, shape (n_events,).
    """

    events: Table
    algorithms: list
    weights: np.ndarray


def read_sample(path, level, telescope_events, models, references, progress=None):
    """Predict from the images of a file, and read the predictions in it.

    Parameters
    ----------
    path : pathlib.Path
        A file of simulations.
    level : {"telescope", "array"}
        Whether to return telescope events, or array events, which have at least one
        telescope event.
    telescope_events : astropy.table.Table
        The file's events, as `read_events` returns them.
    models : dict of str to list of Network
        Networks of the models that predict, by name of the model.
    references : dict of str to list of str
        Groups of DL2 that are read, by name of their algorithm.
    progress : callable, optional
        Called with the number of images that are done.

    Returns
    -------
    Sample
        The events and the predictions.
    """
    telescope_events, algorithms, predicted = telescope_events.copy(), [], {}
    with open_events(path, "EQUIVALENT", needed=()) as reader:
        for name, networks in models.items():
            predicted[name], noise = predict_file(
                reader, networks, telescope_events, progress
            )
            is_new = np.isnan(telescope_events["noise"])
            telescope_events["noise"][is_new] = noise[is_new]
        events, number = telescope_events, None
        if level == "array":
            events, number = merge_telescopes(telescope_events)
        for name, networks in models.items():
            predictions = predicted.pop(name)
            cards = [network.card for network in networks]
            if level == "array":
                images = (
                    np.asarray(telescope_events[n]) for n in ("intensity", "tel_id")
                )
                # As `GammaPhysNetReconstructor` does by default.
                combiner = default_combiner(all(c.network.errors for c in cards))
                predictions = combine_telescopes(
                    predictions, *images, number, len(events), combiner
                )
            seeds = seeds_of(cards)
            algorithms.append(_compare(name, seeds, predictions, events))
        for name, groups in references.items():
            predictions = read_dl2(reader, level, groups, events)
            algorithms.append(_compare(name, (), predictions, events))
    return Sample(events, algorithms, np.ones(len(events)))


def _compare(name, seeds, predictions, events):
    """An algorithm, from its predictions and the truth."""
    return Algorithm(
        name,
        seeds,
        compare_to_truth(predictions, events),
        *compare_uncertainties(predictions, events),
    )


def common_sample(samples):
    """Join the samples of several files, and keep what all algorithms predict.

    Parameters
    ----------
    samples : list of Sample
        The samples, with the same algorithms, at least one.

    Returns
    -------
    sample : Sample
        The events for which each algorithm makes all its predictions.
    counts : astropy.table.Table
        Numbers of events, as `count_valid` returns them.

    Raises
    ------
    EvaluationError
        If there is no such event.
    """
    events = vstack([sample.events for sample in samples], metadata_conflicts="silent")
    weights = np.concatenate([sample.weights for sample in samples])
    algorithms = [
        _join(parts)
        for parts in zip(*(sample.algorithms for sample in samples), strict=True)
    ]
    counts = count_valid(events, algorithms)
    is_common = np.all([algorithm.is_valid for algorithm in algorithms], axis=0)
    if not is_common.any():
        raise EvaluationError(
            "there is no event for which all algorithms have valid predictions:\n"
            f"{counts}"
        )
    return (
        Sample(
            events[is_common],
            [_select(algorithm, is_common) for algorithm in algorithms],
            weights[is_common],
        ),
        counts,
    )


def _select(algorithm, is_common):
    """Select the predictions of some events."""
    selected = {
        name: {k: v[:, is_common] for k, v in getattr(algorithm, name).items()}
        for name in _PER_EVENT
    }
    return replace(algorithm, **selected)


def _join(parts):
    """Join the predictions of an algorithm from several files."""
    joined = {
        name: {
            key: np.concatenate([getattr(part, name)[key] for part in parts], axis=1)
            for key in getattr(parts[0], name)
        }
        for name in _PER_EVENT
    }
    return replace(parts[0], **joined)


def count_valid(events, algorithms):
    """Count the events with valid predictions.

    Parameters
    ----------
    events : astropy.table.Table
        The events.
    algorithms : list of Algorithm
        The predictions.

    Returns
    -------
    astropy.table.Table
        For each algorithm and class the number of events, of those with each valid
        prediction, and of those with all predictions that the algorithm makes. The
        last rows count the events for which this holds for all algorithms.
    """
    rows = []
    for algorithm in algorithms:
        rows += _count(events, algorithm.name, algorithm.is_known, algorithm.is_valid)
    names = list(algorithms[0].predictions)
    nowhere = np.zeros(len(events), dtype=bool)
    everywhere = {
        name: np.all(
            [a.is_known[name] for a in algorithms if name in a.provided] or [nowhere],
            axis=0,
        )
        for name in names
    }
    is_common = np.all([algorithm.is_valid for algorithm in algorithms], axis=0)
    rows += _count(events, "all of them", everywhere, is_common)
    return Table(rows=rows, names=["algorithm", "class", "events", *names, "valid"])


def _count(events, name, is_known, is_valid):
    """Rows of the counts of one algorithm, one for each class."""
    rows = []
    for label, of_class in enumerate(("gamma", "background")):
        chosen = np.asarray(events["label"]) == label
        counts = [int(x[chosen].sum()) for x in (*is_known.values(), is_valid)]
        rows.append((name, of_class, chosen.sum(), *counts))
    return rows
