"""An explanation: maps of single events, of all images, and of disturbed ones."""

import numpy as np
from ctapipe.core import ToolConfigurationError

from ..figures.drawing import collect_failures, write_figures
from ..tasks import TASKS
from . import event_figure, statistics_figures
from .arrays import match_types
from .explainer import Explainer
from .files import write_events, write_maps, write_statistics, write_summary
from .heatmaps import all_outputs
from .names import figure_names
from .robustness import list_settings, measure_movements, summarise_movements
from .robustness_figures import draw_robustness

__all__ = ["Explanation", "make_explainers"]


def make_explainers(name, model, arrays, upsampling, log):
    """Make the explainers of a model.

    Parameters
    ----------
    name : str
        Name of the model.
    model : LoadedModel
        The model.
    arrays : dict of pathlib.Path to ctapipe.instrument.SubarrayDescription
        The array of each file.
    upsampling : {"cell", "linear"}
        As for `Explainer`.
    log : logging.Logger
        Where to report what will be missing.

    Returns
    -------
    dict of str to Explainer
        The explainers, by the telescopes' type in the files.

    Raises
    ------
    ToolConfigurationError
        If outputs of a network are not this package's targets, or telescopes of one
        type need different explainers.
    """
    networks = model.networks.values()
    for network in networks:
        _check_targets(name, network.card)
    if any(len(network.card.members) == 1 for network in networks):
        log.info("%s has a single member: there are no deviations", name)
    for network in networks:
        if not network.card.network.attention:
            log.info("%s has no attention: there are no attention maps", name)
    explainers = {}
    for telescope_type, match in match_types(arrays, model.matches).items():
        network = model.networks[match.type]
        explainers[telescope_type] = Explainer(
            network.card, network.predictor, upsampling, match.order
        )
    return explainers


def _check_targets(name, card):
    """Refuse outputs with other units and axes than those in tables and figures."""
    for task, meaning in card.targets.items():
        if meaning != TASKS[task].meaning:
            raise ToolConfigurationError(
                f"{name} predicts the {task} as {meaning!r}. Only models that predict "
                f"{TASKS[task].meaning!r} can be explained"
            )


class Explanation:
    """Explains images, and writes tables and figures of the results.

    Parameters
    ----------
    selection : Selection
        The images and their explainers.
    folder : pathlib.Path
        Where figures and text files go.
    file : tables.File
        Where tables go.
    log : logging.Logger
        Where to report results.
    progress : callable
        Makes a progress bar from a name and a number of images.

    Attributes
    ----------
    failures : list of str
        What could not be drawn, and why; tables are written all the same.
    """

    def __init__(self, selection, folder, file, log, progress):
        self._selection, self._explainers = selection, selection.explainers
        self._folder, self._file = folder, file
        self._log, self._progress = log, progress
        self.failures = []

    def explain_events(self):
        """Write the maps of single events."""
        found = self._selection.chosen()
        if not found:
            return
        titles, batches = zip(*found, strict=True)
        events = [batch.events[0] for batch in batches]
        names = figure_names(titles, events, self._selection.paths)
        write_events(self._file, titles, batches)
        with self._progress("events", len(found)) as bar:
            for name, batch in zip(names, batches, strict=True):
                self._explain_event(name, batch)
                bar.update()
        self._log.info(
            "Explained %d images with %d models", len(found), len(self._explainers)
        )

    def _explain_event(self, name, batch):
        maps = {
            model: explainers[batch.type].explain(batch)
            for model, explainers in self._explainers.items()
        }
        for model, its_maps in maps.items():
            write_maps(self._file, model, batch, its_maps)
            if its_maps.empty:
                self._log.info(
                    "%s, %s: no pixel raises %s, the heatmaps are empty",
                    name,
                    model,
                    ", ".join(all_outputs()[output].label for output in its_maps.empty),
                )
        self._draw(name, lambda: {name: event_figure.draw_event(batch, maps)})

    def write_statistics(self, batch_size):
        """Write where the heatmaps lie, over all images.

        Parameters
        ----------
        batch_size : int
            Number of images that are explained at once.
        """
        total = len(self._selection.images) * len(self._explainers)
        with self._progress("statistics", total) as bar:
            batches = self._selection.read(batch_size)
            summary = write_statistics(
                self._file, batches, self._explainers, bar.update
            )
        for name, table in summary.items():
            path = f"/statistics/summary/{name}"
            write_summary(self._file, path, self._folder, f"statistics_{name}", table)
        self._draw("statistics", lambda: statistics_figures.draw_statistics(summary))
        self._log.info("Overall:\n%s", _text(summary["overall"]))

    def write_robustness(self, n_images, batch_size, seed):
        """Write how predictions and heatmaps of disturbed images move.

        Parameters
        ----------
        n_images : int
            Number of images that are disturbed, drawn at random.
        batch_size : int
            Number of images that are explained at once.
        seed : int
            Seed of the disturbances.
        """
        images = self._selection.draw(n_images)
        n_settings = len(list_settings())
        total = len(images) * n_settings * len(self._explainers)
        with self._progress("robustness", total) as bar:
            moved = measure_movements(
                self._selection.read(batch_size, images),
                self._explainers,
                np.random.default_rng(seed),
                bar.update,
            )
        table = summarise_movements(moved)
        write_summary(self._file, "/robustness", self._folder, "robustness", table)
        self._draw("robustness", lambda: draw_robustness(table))
        self._log.info("Disturbed %d images in %d ways", len(images), n_settings)

    def _draw(self, what, draw):
        """Draw figures if possible: the tables are written already."""
        plots = {}
        with collect_failures(self.failures, what):
            plots = draw()
        write_figures(plots, self._folder, self.failures)


def _text(table):
    table = table.copy()
    for column in table.itercols():
        if column.dtype.kind == "f":
            column.info.format = ".3g"
    return "\n".join(table.pformat(max_width=-1, max_lines=-1))
