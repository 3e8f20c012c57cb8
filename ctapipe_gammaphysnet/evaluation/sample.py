"""The sample: events of all files, and what all algorithms predict of them."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table, vstack

from .events import (
    Algorithm,
    EvaluationError,
    combine_telescopes,
    compare_to_truth,
    count_valid,
    join_algorithms,
    merge_telescopes,
    read_dl2,
)
from .networks import predict_file, seeds_of

__all__ = ["Sample", "common_sample", "read_sample"]


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


def read_sample(
    path, label, level, telescope_events, models, references, progress=None
):
    """Predict from the images of a file, and read what is predicted in it.

    Parameters
    ----------
    path : pathlib.Path
        A ctapipe file of simulations.
    label : {0, 1}
        0 if it is of gammas, 1 if it is of background.
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
    for name, networks in models.items():
        predictions = predict_file(path, label, networks, telescope_events, progress)
        if level == "array":
            intensity = np.asarray(telescope_events["intensity"])
            predictions = combine_telescopes(
                predictions, intensity, number, len(events)
            )
        seeds = seeds_of([network.card for network in networks])
        algorithms.append(Algorithm(name, seeds, compare_to_truth(predictions, events)))
    for name, groups in references.items():
        predictions = read_dl2(path, level, groups, events)
        algorithms.append(Algorithm(name, (), compare_to_truth(predictions, events)))
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
        join_algorithms(list(parts))
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
