"""What a training leaves on disk: the model, and a folder beside it.

The folder has the checkpoint of each member until the model is written, the figures
after each epoch, and the curves. Nothing that is there already is lost, unless the
training goes on from it, or the user gave it up with ``--overwrite``.
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
from .members import add_members, check_alike_training

__all__ = ["Outputs", "Paths"]


@dataclass(frozen=True)
class Paths:
    """Where the training of a member keeps what it must not lose.

    Attributes
    ----------
    checkpoint : pathlib.Path
        The state of the training.
    history : pathlib.Path
        The figures after each epoch, CSV.
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
        Whether interrupted trainings go on.
    add_members : bool
        Whether the members are added to those in the model file.
    overwrite : bool
        Whether all that is there may be replaced.
    tensorboard : bool
        Whether there is a log for TensorBoard.

    Attributes
    ----------
    folder : pathlib.Path
        The folder beside the model file, whose name ends in ``.training``.
    curves : pathlib.Path
        The curves of all members, PNG.
    paths : dict of tuple to Paths
        Where each member's training keeps its state.
    resumed : set of int
        Seeds that had a checkpoint: their members go on, or were not written yet.
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
        """Tell whether nothing is left to train, as for a job that is run again.

        Returns
        -------
        bool
            True if all members are in the model file, complete.
        """
        return not self._interrupted() and self._complete().issuperset(self.paths)

    @property
    def goes_on(self):
        """Whether the model file is kept: its members are, or are trained on."""
        # An interrupted training has written what it had.
        return self.add_members or (self.resume and bool(self.resumed))

    @contextlib.contextmanager
    def claimed(self, inputs, log):
        """Keep other processes from training the same members.

        The folder is made, and it is tried whether all can be written in the end.

        Parameters
        ----------
        inputs : list of pathlib.Path
            Files that must stay as they are.
        log : logging.Logger
            Is told if there are no locks.

        Yields
        ------
        None
            While no other process may train them.

        Raises
        ------
        ToolConfigurationError
            If the folder or a file in it cannot be written, there are no locks though
            members are to be added, or another process trains one of the members.
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
                f"{self.folder} is no folder, but the checkpoints of {self.model} go "
                "into a folder of this name: move it, or choose another output"
            ) from error
        except OSError as error:
            raise ToolConfigurationError(
                f"{self.folder}, the folder of checkpoints, cannot be made: "
                f"{error.strerror}"
            ) from error

    def _try_lock(self):
        """Find out now whether members can be added at the end."""
        try:
            with locked(real_path(self.model), wait=False):
                pass
        except BlockingIOError:
            # Others add theirs: there are locks.
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
                "wait for it, or choose other seeds. Processes that are to share the "
                "work need --devices and --nodes"
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
        """Go on from the checkpoints that are there, or start anew, as asked for.

        Raises
        ------
        ToolConfigurationError
            If there are checkpoints, and neither was asked for; or if the model would
            lose a member by being written anew.
        """
        interrupted = self._interrupted()
        self.resumed = {seed for _, seed in interrupted}
        if self.overwrite:
            self.remove_checkpoints()
        elif interrupted and not self.resume:
            raise ToolConfigurationError(
                f"{self.paths[interrupted[0]].checkpoint} is of a training that was "
                "interrupted: go on with --resume, or start anew with --overwrite"
            )
        elif interrupted and not self.add_members:
            self._check_no_checkpoint_is_left_out()
            self._check_no_member_is_lost()

    def check_records(self):
        """Check that figures and curves that are there are of trainings that go on.

        Raises
        ------
        ToolConfigurationError
            If one is not, and would be replaced.
        """
        # A member that is in the model already is refused with better words.
        going_on = {*self._interrupted(), *self._complete()}
        records = [p.history for m, p in self.paths.items() if m not in going_on]
        # Whoever adds a member draws its curves anew.
        if not self.goes_on:
            records.append(self.curves)
        for path in records:
            if path.exists():
                raise ToolConfigurationError(
                    f"{path} exists, but is of no training that goes on: move it, or "
                    "replace it with --overwrite"
                )

    def check_same_training(self, networks):
        """Check that the members in the model file are those that would be trained.

        Parameters
        ----------
        networks : list of NetworkCard
            Those that would be trained; all are in the file.

        Raises
        ------
        ToolConfigurationError
            If one differs, with what.
        """
        old = {card.telescope.type: card for card in read_card(self.model).networks}
        try:
            for new in networks:
                check_alike_training(self.model, old[new.telescope.type], new)
        except ModelFileError as error:
            raise ToolConfigurationError(str(error)) from error

    def _interrupted(self):
        """Members that have a checkpoint."""
        return [m for m, paths in self.paths.items() if paths.checkpoint.exists()]

    def _complete(self):
        """Members in the model file that were trained to the end."""
        with contextlib.suppress(ModelFileError):
            return {member for member, complete in self._written().items() if complete}
        return set()

    def _written(self):
        """Members in the model file, and whether they were trained to the end."""
        if not self.model.exists():
            return {}
        return {
            (network.telescope.type, member.seed): is_complete(member)
            for network in read_card(self.model).networks
            for member in network.members
        }

    def _check_no_checkpoint_is_left_out(self):
        """The model is written anew: with all members that were under way."""
        asked_for = {paths.checkpoint for paths in self.paths.values()}
        others = set(self.folder.glob("*_seed*.ckpt")) - asked_for
        if others:
            raise ToolConfigurationError(
                f"{min(others)} is of the same interrupted training, but neither "
                "--seeds nor --telescope-types ask for it: give all, or remove it"
            )

    def _check_no_member_is_lost(self):
        """The model is written anew: whatever is in the file must be trained."""
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
        """Write a model like that at the end, and remove it.

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
                    # Others may have added theirs meanwhile.
                    self._check_no_member_is_lost()
                write_model(
                    output,
                    self._with_members_before(model),
                    overwrite=self.add_members or self.resume or self.overwrite,
                )
        except (ModelFileError, OutputError, OSError) as error:
            raise ToolConfigurationError(
                f"{error}. What was trained is kept in {self.folder}: when this is "
                "mended, the same command with --resume (without --overwrite) writes "
                "the model"
            ) from error

    def remove_checkpoints(self):
        """Remove the members' checkpoints: they are in the model, or given up."""
        for paths in self.paths.values():
            paths.checkpoint.unlink(missing_ok=True)


def _untrained(card):
    """Model of a card whose weights are 0."""
    # Only now: help and complaints must not wait for the network.
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
