"""The sample: events of all files, and what all algorithms predict of them."""

from dataclasses import dataclass, replace

import numpy as np
from astropy.table import Table, vstack

from ..events.opening import open_events
from .dl2_tables import read_dl2
from .events import EvaluationError, merge_telescopes
from .networks import predict_file, seeds_of
from .predictions import combine_telescopes, compare_to_truth

__all__ = ["Algorithm", "Sample", "common_sample", "count_valid", "read_sample"]


@dataclass(frozen=True, eq=False)
class Algorithm:
    """Predictions of an algorithm.

    Attributes
    ----------
    name : str
        What it is called.
    seeds : tuple of int
        Seeds of its members; empty if there are not several.
    predictions : dict of str to numpy.ndarray
        Energy in TeV, angular separation from the true direction in deg, distance
        from the true impact point in m, gammaness; NaN where there is none, shape
        (1 + n_members, n_events). The first row is what the algorithm says, that is
        of several members their mean; then follow the members.
    """

    name: str
    seeds: tuple
    predictions: dict

    @property
    def is_known(self):
        """Events with each prediction, of all members: shape (n_events,), bool."""
        return {k: np.isfinite(v).all(axis=0) for k, v in self.predictions.items()}

    @property
    def provided(self):
        """Which predictions it makes at all."""
        return [k for k, v in self.predictions.items() if np.isfinite(v).any()]

    @property
    def is_valid(self):
        """Events of which all that it predicts is known, shape (n_events,), bool."""
        is_known = self.is_known
        known = [is_known[name] for name in self.provided]
        n_events = next(iter(self.predictions.values())).shape[1]
        return np.all(known, axis=0) if known else np.zeros(n_events, dtype=bool)

    def select(self, rows):
        """Select events.

        Parameters
        ----------
        rows : numpy.ndarray
            A mask, shape (n_events,), bool, or numbers of rows.

        Returns
        -------
        Algorithm
            With these events only.
        """
        predictions = {k: v[:, rows] for k, v in self.predictions.items()}
        return replace(self, predictions=predictions)


@dataclass(frozen=True, eq=False)
class Sample:
    """Events, and what algorithms predict of them.

    Attributes
    ----------
    events : astropy.table.Table
        The events, as `read_events` gives them.
    algorithms : list of Algorithm
        Their predictions.
    weights : numpy.ndarray
        Weights of the events, shape (n_events,).
    """

    events: Table
    algorithms: list
    weights: np.ndarray


def read_sample(path, level, telescope_events, models, references, progress=None):
    """Predict from the images of a file, and read what is predicted in it.

    Parameters
    ----------
    path : pathlib.Path
        A file of simulations.
    level : {"telescope", "array"}
        Whether an event is what a telescope saw, or the array. Those of the array are
        those with at least one telescope event.
    telescope_events : astropy.table.Table
        The file's events, as `read_events` gives them.
    models : dict of str to list of Network
        Models whose predictions are made, by what they are called.
    references : dict of str to list of str
        Groups of DL2 whose predictions are read, by what they are called.
    progress : callable, optional
        Called with the number of images that are done.

    Returns
    -------
    Sample
        The events and the predictions.
    """
    events, number = telescope_events, None
    if level == "array":
        events, number = merge_telescopes(telescope_events)
    algorithms = []
    with open_events(path, "EQUIVALENT", needed=()) as reader:
        for name, networks in models.items():
            predictions = predict_file(reader, networks, telescope_events, progress)
            if level == "array":
                intensity = np.asarray(telescope_events["intensity"])
                predictions = combine_telescopes(
                    predictions, intensity, number, len(events)
                )
            seeds = seeds_of([network.card for network in networks])
            predictions = compare_to_truth(predictions, events)
            algorithms.append(Algorithm(name, seeds, predictions))
        for name, groups in references.items():
            predictions = read_dl2(reader, level, groups, events)
            predictions = compare_to_truth(predictions, events)
            algorithms.append(Algorithm(name, (), predictions))
    return Sample(events, algorithms, np.ones(len(events)))


def common_sample(samples):
    """Join the samples of several files, of the events that all algorithms know.

    Parameters
    ----------
    samples : list of Sample
        With the same algorithms, at least one.

    Returns
    -------
    sample : Sample
        The events of which each algorithm has all that it predicts.
    counts : astropy.table.Table
        How many these are, as `count_valid` gives it.

    Raises
    ------
    EvaluationError
        If there are none.
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
            "there is no event of which all algorithms have valid predictions:\n"
            f"{counts}"
        )
    return (
        Sample(
            events[is_common],
            [algorithm.select(is_common) for algorithm in algorithms],
            weights[is_common],
        ),
        counts,
    )


def _join(parts):
    """Join the predictions of an algorithm from several files."""
    predictions = {
        name: np.concatenate([part.predictions[name] for part in parts], axis=1)
        for name in parts[0].predictions
    }
    return replace(parts[0], predictions=predictions)


def count_valid(events, algorithms):
    """Count the events of which there are valid predictions.

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
        prediction, and of those with all that the algorithm makes; in the last rows of
        those where this is so for all algorithms.
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
