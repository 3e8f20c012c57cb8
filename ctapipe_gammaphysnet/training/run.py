"""A training of all members of a plan, one after the other."""

import sys
from datetime import UTC, datetime
from functools import partial

from ctapipe.core import Provenance, ToolConfigurationError
from tqdm.auto import tqdm

from ..model.card import MemberCard, ModelCard
from ..model.file import Model
from ..tasks import TASKS
from . import fit
from .checkpoint import check_resumable
from .describe import describe_results, describe_software
from .plan import prepare
from .records import describe_epoch, plot_histories, summarise

__all__ = ["TrainingRun", "report_epoch"]


class TrainingRun:
    """Trains the members of a plan, and writes the model.

    Parameters
    ----------
    plan : Plan
        The plan.
    outputs : Outputs
        The output files.
    note : str
        Free text for the model card.
    parent : ctapipe.core.Tool
        Has the configuration of the components, and the log.

    Attributes
    ----------
    prepared : dict of str to tuple of TrainingSet and dict
        Training data and settings of each telescope type, from `prepare`.
    networks : list of tuple of NetworkCard and tuple of dict
        Card and weights of the trained members, for each telescope type.
    histories : dict of str to list of dict
        The metrics after each epoch, by member.
    interrupted : int or None
        Number of the signal that interrupted the training.
    failure : ToolConfigurationError or None
        The error that ended it. The members before are written.
    """

    def __init__(self, plan, outputs, note, parent):
        self.plan, self.outputs = plan, outputs
        self.note, self.log = note, parent.log
        self.prepared = {name: prepare(plan, name, parent) for name in plan.telescopes}
        self.networks, self.histories = [], {}
        self.interrupted = self.failure = None

    def run(self, has_all, is_first_process, progress):
        """Train all members, until a signal or an error ends the training.

        Parameters
        ----------
        has_all : bool
            Whether the model file has them all. Then their settings are only compared.
        is_first_process : bool
            Whether this process is the one that writes.
        progress : callable or None
            As in `fit`.

        Raises
        ------
        ToolConfigurationError
            If a member in the model file, or a checkpoint, is from another training, or
            the model could not be written.
        """
        cards = [data.card for data, _ in self.prepared.values()]
        if has_all:
            self.outputs.check_same_training(cards)
            self.log.info(
                "%s has all these members, fully trained: nothing is left to train",
                self.outputs.model,
            )
            return
        self._check_checkpoints()
        if is_first_process:
            self.outputs.try_to_write(self._model_card(cards))
        for name in self.prepared:
            self._train_members(name, progress)

    def _check_checkpoints(self):
        """Check all checkpoints before the first one is resumed."""
        for (name, _), paths in self.outputs.paths.items():
            if paths.checkpoint.exists():
                _, settings = self.prepared[name]
                check_resumable(paths.checkpoint, settings)

    def _train_members(self, name, progress):
        """Train the members of a telescope type."""
        members = []
        for seed in self.plan.seeds:
            if self.interrupted is None and self.failure is None:
                members += self._train_member(name, seed, progress)
        if members:
            cards, weights = zip(*members, strict=True)
            card = self.prepared[name][0].card.model_copy(update={"members": cards})
            self.networks.append((card, weights))

    def _train_member(self, name, seed, progress):
        """Card and weights of a member, in a list that is empty if that failed."""
        data, settings = self.prepared[name]
        self.log.info(
            "Training %s, seed %d, on %d images", name, seed, len(data.training)
        )
        try:
            weights, history, calibration, self.interrupted = fit.fit(
                data,
                self.plan.recipe,
                seed,
                self.plan.hardware,
                self.outputs.paths[name, seed],
                settings,
                partial(report_epoch, self.log),
                progress,
            )
        except ToolConfigurationError as error:
            self.failure = error
            return []
        self.histories[f"{name} seed {seed}"] = history
        results = describe_results(history, self.interrupted is None)
        self._warn_of_calibration(name, seed, calibration)
        member = MemberCard(seed=seed, training=results, calibration=calibration)
        return [(member, weights)]

    def _warn_of_calibration(self, name, seed, calibration):
        """Warn of errors that the validation images did not suffice to calibrate."""
        network = self.plan.network
        tasks = [t for t in network.tasks if network.errors and TASKS[t].n_scales]
        missing = [task for task in tasks if task not in calibration.errors]
        if missing:
            self.log.warning(
                "%s, seed %d: too few validation gammas to calibrate the errors of %s: "
                "they are taken to be those of a Laplace distribution. Give more "
                "files, or raise TrainGammaPhysNet.validation_fraction",
                name,
                seed,
                ", ".join(missing),
            )

    def finish(self, is_first_process):
        """Write the trained members, and log how to continue an interrupted training.

        Parameters
        ----------
        is_first_process : bool
            Whether this process is the one that writes.

        Raises
        ------
        ToolConfigurationError
            If a training failed, or the model cannot be written. The checkpoints stay.
        """
        adds = self.outputs.add_members
        # Members are added for all telescope types of a training, or for none.
        is_whole = len(self.networks) == len(self.prepared)
        writes = self.networks and (is_whole or not adds)
        if is_first_process and writes:
            self._write()
        if self.failure is not None:
            raise self.failure
        if self.interrupted is not None:
            self.log.warning(
                "Interrupted: %s has %s. Continue with %s",
                self.outputs.model if writes else self.outputs.folder,
                "the members trained so far" if writes else "the checkpoints",
                "--resume --add-members" if adds else "--resume",
            )

    def _write(self):
        """Write the model file; then the curves and the summary."""
        cards, weights = zip(*self.networks, strict=True)
        self.outputs.write(Model(self._model_card(cards), weights))
        Provenance().add_output_file(
            self.outputs.model, role="γ-PhysNet model", add_meta=False
        )
        self.log.info("Wrote %s", self.outputs.model)
        if self.interrupted is None and self.failure is None:
            self.outputs.remove_checkpoints()
        try:
            plot_histories(self.histories, self.outputs.curves)
        except Exception as error:
            # Model and metrics are written, even if drawing fails.
            self.log.warning("The curves could not be drawn: %s", error)
        summary = "\n".join(summarise(self.histories).pformat(max_width=-1))
        self.log.info("Validation after the last epoch:\n%s", summary)

    def _model_card(self, cards):
        return ModelCard(
            note=self.note,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            software=describe_software(),
            networks=tuple(cards),
        )


def report_epoch(log, metrics):
    """Log the metrics after an epoch, above the progress bar if there is one.

    Parameters
    ----------
    log : logging.Logger
        Where to log.
    metrics : dict of str to float
        The metrics.
    """
    with tqdm.external_write_mode(sys.stderr):
        log.info("After the epoch:\n%s", describe_epoch(metrics))
