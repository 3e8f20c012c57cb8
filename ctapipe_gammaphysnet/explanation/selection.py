"""The selected images of files, and the choice of those to explain."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ctapipe.core import ToolConfigurationError

from ..evaluation.networks import check_showers
from ..events.quality import TrainingQualityQuery
from ..events.telescope_events import check_pointing
from ..tasks import TASKS
from ..tasks.conditions import that_need
from .choice import (
    choose,
    draw,
    find_events,
    list_images,
    read_one_by_one,
    which_are,
    why_unranked,
)
from .images import read_batches

__all__ = ["Choice", "Selection"]

#: Number of images that are read at once if they are not explained.
_BLOCK = 256


@dataclass(frozen=True)
class Choice:
    """Which images are explained one by one.

    Attributes
    ----------
    event_ids : list of int
        Events to explain instead of all others.
    n_best, n_worst, n_random : int
        Number of the best, worst and other images.
    rank_by : {"separation", "energy", "impact", "class"}
        Error by which images are the best or worst.
    seed : int
        Seed of the random numbers.
    may_be_empty : bool
        Whether there is more to explain than these images.
    """

    event_ids: list
    n_best: int
    n_worst: int
    n_random: int
    rank_by: str
    seed: int
    may_be_empty: bool


class Selection:
    """The selected images of files: read, listed and chosen.

    Parameters
    ----------
    paths : list of pathlib.Path
        ctapipe DL1 files.
    types : list of str
        Telescope types.
    focal_length_choice : ctapipe.instrument.FocalLengthKind
        Which focal length to use.
    explainers : dict of str to dict of str to Explainer
        For each model its explainers, by telescope type. The first one ranks.
    choice : Choice
        Which images are explained one by one.
    parent : ctapipe.core.Component
        Has the configuration of the selection, and the log.
    progress : callable
        Makes a progress bar from a name and a number of images, or None.
    atmosphere : ctapipe.atmosphere.AtmosphereDensityProfile, optional
        The atmosphere of the showers; by default that of each file.
    """

    def __init__(
        self,
        paths,
        types,
        focal_length_choice,
        explainers,
        choice,
        parent,
        progress,
        atmosphere=None,
    ):
        self.paths = paths
        self.explainers = explainers
        self._types = types
        self._focal_length_choice = focal_length_choice
        self._choice = choice
        self._parent, self._log = parent, parent.log
        self._progress = progress
        self._atmosphere = atmosphere

    def read(self, size, images=None):
        """Read images.

        Parameters
        ----------
        size : int
            Largest number of images in a batch.
        images : astropy.table.Table, optional
            Some rows of `images`. Default: all.

        Returns
        -------
        iterator of Batch
            The images, file after file.
        """
        return self._read(size, None if images is None else which_are(images))

    def _read(self, size, wanted=None, query=None):
        query = query or TrainingQualityQuery(parent=self._parent)
        for number, path in enumerate(self.paths):
            for batch in read_batches(
                path,
                self._types,
                query,
                size,
                wanted,
                self._focal_length_choice,
                number,
                self._truth(),
                self._atmosphere,
            ):
                if self._needs_pointing(batch.type):
                    check_pointing(path, batch.events)
                yield batch

    def _needs_pointing(self, telescope_type):
        """Whether a model predicts nothing without the pointing."""
        explainers = (of_model[telescope_type] for of_model in self.explainers.values())
        return any(
            that_need(explainer.card.network.conditions, "pointing")
            for explainer in explainers
        )

    def _truth(self):
        """Columns of truth that the models' tasks need, and not all files have."""
        return {
            name
            for explainers in self.explainers.values()
            for explainer in explainers.values()
            for task in explainer.card.network.tasks
            for name in TASKS[task].truth
        }

    @cached_property
    def images(self):
        """All selected images, with the error of the first model."""
        first = next(iter(self.explainers.values()))
        query = TrainingQualityQuery(parent=self._parent)
        with self._progress("looking for events", None) as bar:
            batches = self._read(_BLOCK, query=query)
            images = list_images(batches, first, self._choice.rank_by, bar.update)
        self._log.info("Selection of images:\n%s", query.to_table(functions=True))
        if len(images) == 0:
            raise ToolConfigurationError(
                "no image is selected: see the numbers above, and "
                "TrainingQualityQuery.quality_criteria"
            )
        self._check_showers(images)
        return images

    def _check_showers(self, images):
        """Warn of showers that a model was trained on."""
        for name, explainers in self.explainers.items():
            for telescope_type in self._types:
                shower = images["shower"][images["type"] == telescope_type]
                n_seen = check_showers(explainers[telescope_type].card, shower)
                if n_seen:
                    self._log.warning(
                        "%s was trained on at least %d of the showers", name, n_seen
                    )

    def draw(self, n):
        """Draw images at random.

        Parameters
        ----------
        n : int
            How many; all if there are fewer.

        Returns
        -------
        astropy.table.Table
            Rows of `images`.
        """
        rows = np.arange(len(self.images))
        return self.images[draw(rows, n, self._choice.seed)]

    def chosen(self):
        """Read the images that are explained one by one.

        Returns
        -------
        list of tuple of str and Batch
            For each image why it was chosen, and a batch of it alone.

        Raises
        ------
        ToolConfigurationError
            If there is none, and nothing else to explain.
        """
        return self._asked_for() if self._choice.event_ids else self._ranked()

    def _asked_for(self):
        """Images of the requested events."""
        query = TrainingQualityQuery(parent=self._parent)
        found, problems = find_events(
            self._choice.event_ids, lambda wanted: self._read(_BLOCK, wanted, query)
        )
        if not found:
            raise ToolConfigurationError(
                f"{'; '.join(problems)}. Images are selected by "
                f"TrainingQualityQuery.quality_criteria:\n{query.to_table()}"
            )
        for problem in problems:
            self._log.warning("%s", problem)
        return [("event", batch) for batch in found]

    def _ranked(self):
        """Images of the best, the worst and other events."""
        choice = self._choice
        is_ranked = np.isfinite(self.images["error"]).any()
        if not is_ranked and choice.n_best + choice.n_worst > 0:
            self._say_unranked()
        chosen = choose(
            self.images, choice.n_best, choice.n_worst, choice.n_random, choice.seed
        )
        images = self.images[np.concatenate(list(chosen.values()))]
        titles = [
            f"{kind}{number}"
            for kind, rows in chosen.items()
            for number in range(1, len(rows) + 1)
        ]
        batches = read_one_by_one(images, self.read(_BLOCK, images))
        return list(zip(titles, batches, strict=True))

    def _say_unranked(self):
        """Warn why there is no best or worst image; an error if there is no other."""
        first = next(iter(self.explainers.values()))
        reason = why_unranked(self.images, first, self._choice.rank_by)
        if not (self._choice.n_random or self._choice.may_be_empty):
            raise ToolConfigurationError(
                f"there is no best or worst image to explain: {reason} (or draw images "
                "at random: --random NUMBER)"
            )
        self._log.warning("there is no best or worst image: %s", reason)
