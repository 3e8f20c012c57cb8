"""Output files of a training: the model, and a folder next to it.

The folder contains the checkpoint of each member until the model is written, the
metrics after each epoch, and the curves. Existing files are kept, unless the training
continues from them or the user passes ``--overwrite``.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ctapipe.core import ToolConfigurationError

from ..files.locks import locked
from ..files.output import (
    OutputError,
    check_file,
    real_path,
    remove_unfinished,
    trial_path,
)
from ..model.card import is_complete
from ..model.errors import ModelFileError
from ..model.file import Model, read_card, write_model
from .members import add_members, check_same_training

__all__ = ["Outputs", "Paths"]


@dataclass(frozen=True)
class Paths:
    """Files of a member's training.

    Attributes
    ----------
    checkpoint : pathlib.Path
        The state of the training.
    history : pathlib.Path
        The metrics after each epoch, CSV.
    tensorboard : pathlib.Path or None
        Directory of a log for TensorBoard.
    """

    checkpoint: Path
    history: Path
    tensorboard: Path | None = None


class Outputs:
    """The model file of a training, and the folder of checkpoints and records.

    Parameters
    ----------
    model : pathlib.Path
        The model file.
    members : list of tuple
        Telescope type (str) and seed (int) of each member to train.
    resume : bool
        Whether interrupted trainings continue.
    add_members : bool
        Whether the members are added to those in the model file.
    overwrite : bool
        Whether existing files may be replaced.
    tensorboard : bool
        Whether to write a log for TensorBoard.

    Attributes
    ----------
    folder : pathlib.Path
        The folder next to the model file, whose name ends in ``.training``.
    curves : pathlib.Path
        The curves of all members, PNG.
    paths : dict of tuple to Paths
        Files of each member's training.
    resumed : set of int
        Seeds with a checkpoint: their trainings continue, or were not written yet.
    """

    def __init__(
        self,
        model,
        members,
        *,
        resume=False,
        add_members=False,
        overwrite=False,
        tensorboard=False,
    ):
        self.model = model
        self.resume = resume
        self.add_members = add_members
        self.overwrite = overwrite
        name = model.name.removesuffix(".safetensors")
        self.folder = model.with_name(f"{name}.training")
        self.curves = self.folder / "curves.png"
        self.paths = {
            (telescope, seed): Paths(
                checkpoint=self.folder / f"{telescope}_seed{seed}.ckpt",
                history=self.folder / f"{telescope}_seed{seed}.csv",
                tensorboard=self.folder / "tensorboard" if tensorboard else None,
            )
            for telescope, seed in members
        }
        self.resumed = set()

    def has_all(self):
        """Check whether nothing is left to train, as in a repeated job.

        Returns
        -------
        bool
            True if all members are in the model file, fully trained.
        """
        return not self._interrupted() and self._complete().issuperset(self.paths)

    @property
    def continues(self):
        """Whether the members in the model file are kept, or trained further."""
        # An interrupted training has written its unfinished members.
        return self.add_members or (self.resume and bool(self.resumed))

    @contextlib.contextmanager
    def claimed(self, inputs, log):
        """Keep other processes from training the same members.

        This makes the folder, and checks that all files can be written in the end.

        Parameters
        ----------
        inputs : list of pathlib.Path
            Files that must stay as they are.
        log : logging.Logger
            Where to warn if there are no locks.

        Yields
        ------
        None
            While no other process can train them.

        Raises
        ------
        ToolConfigurationError
            If the folder or a file in it cannot be written, members are to be added
            but there are no locks, or another process trains one of the members.
        """
        self._make_folder()
        check_file(self.curves, inputs)
        for paths in self.paths.values():
            check_file(paths.checkpoint, inputs)
            check_file(paths.history, inputs)
        if self.add_members:
            self._try_lock()
        with contextlib.ExitStack() as locks:
            for member in self.paths:
                self._claim(member, locks, log)
            yield

    def _make_folder(self):
        try:
            self.folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise ToolConfigurationError(
                f"{self.folder} is not a folder, but the checkpoints of {self.model} "
                "need a folder of this name: move it, or choose another output"
            ) from error
        except OSError as error:
            raise ToolConfigurationError(
                f"{self.folder}, the folder of checkpoints, cannot be made: "
                f"{error.strerror}"
            ) from error

    def _try_lock(self):
        """Check early that members can be added at the end."""
        try:
            with locked(real_path(self.model), wait=False):
                pass
        except BlockingIOError:
            # Another process adds members: there are locks.
            pass
        except OSError as error:
            raise ToolConfigurationError(
                f"--add-members locks {self.model}, but files in its folder "
                f"cannot be locked ({error.strerror}): choose an output on another "
                "disk, or train all members in one run, without --add-members"
            ) from error

    def _claim(self, member, locks, log):
        checkpoint = self.paths[member].checkpoint
        try:
            locks.enter_context(locked(checkpoint, wait=False))
        except BlockingIOError as error:
            telescope, seed = member
            raise ToolConfigurationError(
                f"another process trains seed {seed} of {telescope} for {self.model}: "
                "wait for it, or choose other seeds. Processes that split one training "
                "need --devices and --nodes"
            ) from error
        except OSError as error:
            log.warning(
                "Files in %s cannot be locked (%s): do not train the same seed twice "
                "at the same time",
                self.folder,
                error.strerror,
            )
            return
        remove_unfinished(checkpoint)

    def check_checkpoints(self):
        """Continue from existing checkpoints or remove them, as requested.

        Raises
        ------
        ToolConfigurationError
            If there are checkpoints, but neither was requested; or if a rewritten model
            would lose a member.
        """
        interrupted = self._interrupted()
        self.resumed = {seed for _, seed in interrupted}
        if self.overwrite:
            self.remove_checkpoints()
        elif interrupted and not self.resume:
            raise ToolConfigurationError(
                f"{self.paths[interrupted[0]].checkpoint} is from a training that was "
                "interrupted: continue with --resume, or start again with --overwrite"
            )
        elif interrupted and not self.add_members:
            self._check_no_checkpoint_is_left_out()
            self._check_no_member_is_lost()

    def check_records(self):
        """Check that existing metrics and curves belong to trainings that continue.

        Raises
        ------
        ToolConfigurationError
            If a file does not, and would be replaced.
        """
        # A member in the model is refused later, with a better message.
        continued = {*self._interrupted(), *self._complete()}
        records = [p.history for m, p in self.paths.items() if m not in continued]
        # Curves are drawn again for the members that are added.
        if not self.continues:
            records.append(self.curves)
        for path in records:
            if path.exists():
                raise ToolConfigurationError(
                    f"{path} exists, but no training continues from it: move it, or "
                    "replace it with --overwrite"
                )

    def check_same_training(self, networks):
        """Check that the members in the model file are those that would be trained.

        Parameters
        ----------
        networks : list of NetworkCard
            Networks that would be trained; all are in the file.

        Raises
        ------
        ToolConfigurationError
            If one differs; the message says in what.
        """
        old = {card.telescope.type: card for card in read_card(self.model).networks}
        try:
            for new in networks:
                check_same_training(self.model, old[new.telescope.type], new)
        except ModelFileError as error:
            raise ToolConfigurationError(str(error)) from error

    def _interrupted(self):
        """Members that have a checkpoint."""
        return [m for m, paths in self.paths.items() if paths.checkpoint.exists()]

    def _complete(self):
        """Members in the model file that are fully trained."""
        with contextlib.suppress(ModelFileError):
            return {member for member, complete in self._written().items() if complete}
        return set()

    def _written(self):
        """Members in the model file, and whether they are fully trained."""
        if not self.model.exists():
            return {}
        return {
            (network.telescope.type, member.seed): is_complete(member)
            for network in read_card(self.model).networks
            for member in network.members
        }

    def _check_no_checkpoint_is_left_out(self):
        """A rewritten model must have all members of the interrupted training."""
        asked_for = {paths.checkpoint for paths in self.paths.values()}
        others = set(self.folder.glob("*_seed*.ckpt")) - asked_for
        if others:
            raise ToolConfigurationError(
                f"{min(others)} is from the same interrupted training, but its member "
                "is not in --seeds and --telescope-types: add it, or remove the file"
            )

    def _check_no_member_is_lost(self):
        """A rewritten model must have all members of the file."""
        try:
            lost = [member for member in self._written() if member not in self.paths]
        except ModelFileError as error:
            raise OutputError(
                f"{error}. --resume does not replace it: move it, or choose another "
                "output"
            ) from error
        if lost:
            members = (f"seed {seed} of {telescope}" for telescope, seed in lost)
            raise OutputError(
                f"{self.model} has members that are not trained here: "
                f"{', '.join(members)}. Keep them with --add-members, or move "
                "the file"
            )

    def try_to_write(self, card):
        """Write a model like the final one, and remove it.

        Parameters
        ----------
        card : ModelCard
            The card, with all members to train.

        Raises
        ------
        ToolConfigurationError
            If the model could not be written, or the members could not be added.
        """
        trial = trial_path(real_path(self.model).parent)
        try:
            model = self._with_members_before(_untrained(card))
        except ModelFileError as error:
            raise ToolConfigurationError(
                f"these members cannot be added: {error}"
            ) from error
        try:
            write_model(trial, model)
        except ModelFileError as error:
            raise ToolConfigurationError(
                f"{self.model} could not be written after the training: {error}"
            ) from error
        finally:
            trial.unlink(missing_ok=True)

    def _with_members_before(self, model):
        output = real_path(self.model)
        if self.add_members and output.exists():
            return add_members(output, model, self.resumed)
        return model

    def write(self, model):
        """Write the model file, or add the members to it.

        Parameters
        ----------
        model : Model
            The members that were trained.

        Raises
        ------
        ToolConfigurationError
            If it cannot be written. The checkpoints stay.
        """
        output = real_path(self.model)
        try:
            with locked(output) if self.add_members else contextlib.nullcontext():
                if self.resume and not self.add_members:
                    # Another process may have added members.
                    self._check_no_member_is_lost()
                write_model(
                    output,
                    self._with_members_before(model),
                    overwrite=self.add_members or self.resume or self.overwrite,
                )
        except (ModelFileError, OutputError, OSError) as error:
            raise ToolConfigurationError(
                f"{error}. The trained members are kept in {self.folder}. Solve the "
                "problem, then repeat the command with --resume (without --overwrite) "
                "to write the model"
            ) from error

    def remove_checkpoints(self):
        """Remove the members' checkpoints."""
        for paths in self.paths.values():
            paths.checkpoint.unlink(missing_ok=True)


def _untrained(card):
    """Model of a card with weights of 0."""
    # Not at the top: help and error messages must not wait for the network.
    from ..network import parameter_shapes

    weights = []
    for network in card.networks:
        shapes = parameter_shapes(network.network, network.telescope.camera)
        zeros = {
            name: np.zeros(
                shape, np.int64 if name.endswith("num_batches_tracked") else np.float32
            )
            for name, shape in shapes.items()
        }
        weights.append((zeros,) * len(network.members))
    return Model(card, tuple(weights))
