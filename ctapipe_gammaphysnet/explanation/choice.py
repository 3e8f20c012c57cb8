"""Which images are explained: of events that were asked for, the best, the worst."""

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
        Those of a model, by telescope type.
    rank_by : str
        Which error, as `errors_of` names it.
    progress : callable
        Called with the number of images that are done.

    Returns
    -------
    astropy.table.Table
        A row for each image: the `KEYS`, ``shower``, its number, ``label``, as
        in `Batch`, ``type`` of the telescope, and ``error`` of the mean over the
        members, NaN where it is not known. Without any images it is empty.
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
    predictions = explainer.predictor(explainer.prepare(batch))
    errors = errors_of(batch, predictions)
    return errors[rank_by][0] if rank_by in errors else np.full(len(batch), np.nan)


def why_unranked(images, explainers, rank_by):
    """Say why the error of no image is known, and what to rank by instead.

    Parameters
    ----------
    images : astropy.table.Table
        As `list_images` gives them, at least one.
    explainers : dict of str to Explainer
        Those of the same model, by telescope type.
    rank_by : str
        Which error, as `errors_of` names it.

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
    needs_pointing = ranked in tasks
    if needs_pointing:
        reason = f"without the pointing no error of the {ranked} is known"
    else:
        reason = f"the model does not predict the {ranked}"
    others = [
        task.error
        for name, task in TASKS.items()
        if name in tasks and not (needs_pointing and task.needs_pointing)
    ]
    return f"{reason}: --rank-by {' or '.join(others)}" if others else reason


def choose(images, n_best, n_worst, n_random, seed):
    """Choose the best, the worst and other images; none is chosen twice.

    Parameters
    ----------
    images : astropy.table.Table
        As `list_images` gives them.
    n_best, n_worst : int
        Number of images of the smallest and the largest errors. Where fewer errors are
        known, there are fewer, and the best come first.
    n_random : int
        Number of other images, drawn at random.
    seed : int
        Seed of what is drawn.

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
        Seed of what is drawn.

    Returns
    -------
    numpy.ndarray
        Some of the rows, sorted.
    """
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(rows, min(n, len(rows)), replace=False))


def which_are(images):
    """Find images again.

    Parameters
    ----------
    images : astropy.table.Table
        Some of those of `list_images`.

    Returns
    -------
    callable
        Tells `read_batches` which telescope events these images are of.
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
        Some of those of `list_images`.
    batches : iterable of Batch
        Where they are, among others or not.

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
    """What tells each event from all others."""
    return list(zip(*(np.asarray(events[k]).tolist() for k in KEYS), strict=True))


def find_events(event_ids, read):
    """Find the images of events that were asked for.

    Parameters
    ----------
    event_ids : list of int
        Numbers of the events.
    read : callable
        Reads the images that are selected of the wanted events: takes what
        `read_batches` takes as ``wanted``, gives batches.

    Returns
    -------
    found : list of Batch
        Batches of a single image.
    problems : list of str
        For each event without an image why there is none.
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
        f"event {number} has no image that is selected"
        if number in in_files
        else f"event {number} is in none of the files"
        for number in event_ids
        if number not in selected
    ]
    return found, problems
