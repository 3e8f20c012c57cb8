"""The images to explain: of requested events, or the best, the worst and others."""

import numpy as np
from astropy.table import Table, vstack

from ..events.telescope_events import KEYS
from ..tasks import TASKS
from .statistics import errors_of

__all__ = [
    "choose",
    "draw",
    "find_events",
    "list_images",
    "read_one_by_one",
    "which_are",
    "why_unranked",
]


def list_images(batches, explainers, rank_by, progress):
    """List images, with the error of their reconstruction.

    Parameters
    ----------
    batches : iterable of Batch
        The images.
    explainers : dict of str to Explainer
        The explainers of a model, by telescope type.
    rank_by : str
        Name of the error, as in `errors_of`.
    progress : callable
        Called with the number of images that are done.

    Returns
    -------
    astropy.table.Table
        A row for each image: the `KEYS`; ``shower``, its number; ``label``, as in
        `Batch`; ``type`` of the telescope; and ``error`` of the mean over the members,
        NaN if it is unknown. Empty without images.
    """
    parts = []
    for batch in batches:
        names = (*KEYS, "shower", "label")
        part = Table({name: np.asarray(batch.events[name]) for name in names})
        part["type"] = np.full(len(batch), batch.type)
        part["error"] = _errors(batch, explainers[batch.type], rank_by)
        parts.append(part)
        progress(len(batch))
    return vstack(parts) if parts else Table()


def _errors(batch, explainer, rank_by):
    if (batch.events["label"] < 0).all():
        return np.full(len(batch), np.nan)
    predictions = explainer.predictor(*explainer.inputs_of(batch))
    errors = errors_of(batch, predictions)
    return errors[rank_by][0] if rank_by in errors else np.full(len(batch), np.nan)


def why_unranked(images, explainers, rank_by):
    """Describe why no image has a known error, and what to rank by instead.

    Parameters
    ----------
    images : astropy.table.Table
        As `list_images` returns them, at least one.
    explainers : dict of str to Explainer
        The explainers of the same model, by telescope type.
    rank_by : str
        Name of the error, as in `errors_of`.

    Returns
    -------
    str
        The reason.
    """
    if not (images["label"] == 0).any():
        return "there are no gammas whose truth is known"
    types = np.unique(images["type"])
    tasks = {task for name in types for task in explainers[name].card.network.tasks}
    (ranked,) = (name for name, task in TASKS.items() if task.error == rank_by)
    lacks_pointing = ranked in tasks and TASKS[ranked].needs_pointing
    if ranked not in tasks:
        reason = f"the model does not predict the {ranked}"
    elif lacks_pointing:
        reason = f"without the pointing no error of the {ranked} is known"
    else:
        reason = f"no error of the {ranked} is known: {TASKS[ranked].advice}"
    others = [
        task.error
        for name, task in TASKS.items()
        if name in tasks - {ranked} and not (lacks_pointing and task.needs_pointing)
    ]
    return f"{reason}: --rank-by {' or '.join(others)}" if others else reason


def choose(images, n_best, n_worst, n_random, seed):
    """Choose the best, the worst and other images; none is chosen twice.

    Parameters
    ----------
    images : astropy.table.Table
        As `list_images` returns them.
    n_best, n_worst : int
        Number of images with the smallest and the largest errors. There are fewer if
        fewer errors are known, and the best come first.
    n_random : int
        Number of other images, drawn at random.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    dict of str to numpy.ndarray
        Rows of the ``best``, best first, the ``worst``, worst first, and the
        ``random`` ones.
    """
    ranked = np.argsort(images["error"], kind="stable")
    ranked = ranked[np.isfinite(images["error"][ranked])]
    best, rest = ranked[:n_best], ranked[n_best:]
    worst = rest[::-1][:n_worst]
    others = np.setdiff1d(np.arange(len(images)), np.concatenate([best, worst]))
    return {"best": best, "worst": worst, "random": draw(others, n_random, seed)}


def draw(rows, n, seed):
    """Draw rows at random.

    Parameters
    ----------
    rows : numpy.ndarray
        The rows, shape (n_rows,), int.
    n : int
        How many to draw; all if there are fewer.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    numpy.ndarray
        Some of the rows, sorted.
    """
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(rows, min(n, len(rows)), replace=False))


def which_are(images):
    """Make the selection of some images, to read them again.

    Parameters
    ----------
    images : astropy.table.Table
        Some rows of `list_images`.

    Returns
    -------
    callable
        Selects the events of these images: ``wanted`` of `read_batches`.
    """
    keys = set(_keys_of(images))

    def _wanted(events):
        return np.array([key in keys for key in _keys_of(events)], dtype=bool)

    return _wanted


def read_one_by_one(images, batches):
    """Read images again, each as a batch of its own.

    Parameters
    ----------
    images : astropy.table.Table
        Some rows of `list_images`.
    batches : iterable of Batch
        Batches with these images, and perhaps others.

    Returns
    -------
    list of Batch
        One for each image, in the order of the table.
    """
    found = {}
    for batch in batches:
        for row, key in enumerate(_keys_of(batch.events)):
            found[key] = batch.select([row])
    return [found[key] for key in _keys_of(images)]


def _keys_of(events):
    """Keys of each event, which no other event has."""
    return list(zip(*(np.asarray(events[k]).tolist() for k in KEYS), strict=True))


def find_events(event_ids, read):
    """Find the images of requested events.

    Parameters
    ----------
    event_ids : list of int
        Numbers of the events.
    read : callable
        Reads the selected images of wanted events: takes ``wanted`` of `read_batches`,
        yields batches.

    Returns
    -------
    found : list of Batch
        Batches of a single image.
    problems : list of str
        For each event without an image the reason.
    """
    in_files, found = set(), []

    def _wanted(events):
        chosen = np.isin(events["event_id"], event_ids)
        in_files.update(events["event_id"][chosen].tolist())
        return chosen

    for batch in read(_wanted):
        found += [batch.select([row]) for row in range(len(batch))]
    selected = {int(batch.events["event_id"][0]) for batch in found}
    problems = [
        f"event {number} has no selected image"
        if number in in_files
        else f"event {number} is in none of the files"
        for number in event_ids
        if number not in selected
    ]
    return found, problems
