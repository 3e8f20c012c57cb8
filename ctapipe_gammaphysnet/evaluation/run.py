"""An evaluation: events are read and predicted, metrics computed and written."""

from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from ..events.opening import read_atmosphere
from .events import read_events
from .gaps import describe_sparse_bins, describe_unjudged
from .networks import check_unseen
from .report import describe_evaluation, summarise, write_evaluation
from .results import evaluate
from .sample import common_sample, read_sample
from .spectra import weight_events
from .uncertainty import summarise_uncertainties

__all__ = ["Evaluation", "trained_range"]


@dataclass(eq=False)
class Evaluation:
    """Inputs and results of an evaluation.

    Attributes
    ----------
    files : list of tuple of pathlib.Path and int
        Files of events, and their labels: 0 for gammas, 1 for background.
    tel_ids : dict of pathlib.Path to list of int
        Telescopes of each file that are evaluated.
    types : list of str
        Their types.
    level : {"telescope", "array"}
        Whose predictions are evaluated.
    model_paths : dict of str to pathlib.Path
        The model files, by name.
    models : dict of str to LoadedModel
        The models in them.
    groups : dict of str to list of str
        Groups of DL2, by name of their algorithm.
    spectra : tuple of (str or None)
        Spectra of gammas and of background, as for `weight_events`.
    settings : Settings
        How metrics are computed.
    atmosphere : pathlib.Path or None
        File with the atmosphere of the showers; None if each file has its own.
    criteria : list of str
        How images are selected, once they are read.
    events : dict of pathlib.Path to astropy.table.Table
        The events of each file, as `read_events` returns them.
    results : dict of str to astropy.table.Table
        As `evaluate` returns them.
    counts : astropy.table.Table or None
        As `count_valid` returns them.
    """

    files: list
    tel_ids: dict
    types: list
    level: str
    model_paths: dict
    models: dict
    groups: dict
    spectra: tuple
    settings: object
    atmosphere: object = None
    criteria: list = field(default_factory=list)
    events: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    counts: object = None

    @property
    def n_images(self):
        """Number of images to predict from, summed over the models."""
        return sum(map(len, self.events.values())) * len(self.models)

    def read(self, query, log):
        """Read the events of all files.

        Parameters
        ----------
        query : ImageQualityQuery
            Selects and counts images.
        log : logging.Logger
            Where to warn of files without DL1 parameters.
        """
        atmosphere = read_atmosphere(self.atmosphere)
        networks = chain.from_iterable(self._networks().values())
        tasks = {task for n in networks for task in n.card.network.tasks}
        for path, label in self.files:
            events = read_events(
                path, label, query, self.tel_ids[path], tasks, atmosphere
            )
            if len(events) > 0 and np.isnan(events["intensity"]).all():
                log.warning(
                    "%s has no DL1 parameters: all of its telescope events are used",
                    path,
                )
            self.events[path] = events
        self.criteria = query.describe()
        log.info("Selection of images:\n%s", query.to_table(functions=True))

    def _networks(self):
        return {name: list(m.networks.values()) for name, m in self.models.items()}

    def check_unseen(self, allow, log):
        """Refuse training showers of the models.

        Parameters
        ----------
        allow : bool
            Whether to warn of them instead.
        log : logging.Logger
            Where to warn.
        """
        for name, networks in self._networks().items():
            check_unseen(name, networks, self.events, allow, log)

    def compute(self, progress):
        """Predict the events, and compute all metrics.

        Parameters
        ----------
        progress : callable
            Called with the number of images that are done.
        """
        networks = self._networks()
        samples = [
            read_sample(
                path,
                self.level,
                self.events[path],
                networks,
                self.groups,
                progress,
            )
            for path, _ in self.files
        ]
        sample, self.counts = common_sample(samples)
        sample = weight_events(sample, self.files, self.spectra)
        self.results = evaluate(sample, self.settings)

    def write(self, folder, members, published, log):
        """Write tables, figures and the report.

        Parameters
        ----------
        folder : pathlib.Path
            Where to write them.
        members, published : bool
            As for `write_evaluation`.
        log : logging.Logger
            Where to report the results, and what could not be shown.

        Returns
        -------
        written : list of pathlib.Path
            All files.
        failures : list of str
            What could not be drawn, and why.
        """
        written, gaps, failures = write_evaluation(
            folder,
            self.results,
            self.counts,
            self.settings,
            describe_evaluation(self),
            members,
            published,
            any(self.spectra),
            trained_range(n.card for of in self._networks().values() for n in of),
        )
        log.info("Valid predictions:\n%s", _text(self.counts))
        log.info("Overall:\n%s", _text(summarise(self.results["overall"])))
        judged = summarise_uncertainties(self.results["uncertainty_overall"])
        if len(judged) > 0:
            log.info("Predicted uncertainties:\n%s", _text(judged))
        for text in (
            *describe_sparse_bins(self.results, self.settings),
            *describe_unjudged(self.results),
        ):
            log.info("Left out: %s", text)
        for gap in gaps:
            log.warning("Not shown: %s", gap)
        for failure in failures:
            log.error("Not drawn: %s", failure)
        return written, failures


def trained_range(cards):
    """Find the conditions that all of some networks saw in training.

    Parameters
    ----------
    cards : iterable of NetworkCard
        Cards of the networks.

    Returns
    -------
    dict of str to (float, float)
        Lowest and highest ``zenith`` in deg and ``noise`` in p.e.; empty if a card does
        not say them, or if no condition is common to all.
    """
    domains = [card.domain for card in cards]
    if not domains or None in domains:
        return {}
    ranges = {
        "zenith": [
            (90 - max(altitudes), 90 - min(altitudes))
            for altitudes in ([alt for alt, _ in d.pointings_deg] for d in domains)
            if altitudes
        ],
        "noise": [(d.noise_pe[0], d.noise_pe[-1]) for d in domains],
    }
    common = {
        name: (max(low for low, _ in each), min(high for _, high in each))
        for name, each in ranges.items()
        if len(each) == len(domains)
    }
    return {name: limits for name, limits in common.items() if limits[0] <= limits[1]}


def _text(table):
    return "\n".join(table.pformat(max_width=-1, max_lines=-1))
