"""Checkpoints, from which an interrupted training continues."""

import contextlib
import json
import signal
import threading

import torch
from lightning.pytorch.callbacks import Checkpoint

from ..files.output import OutputError, whole_file
from .describe import list_differences
from .index import TrainingDataError
from .processes import any_process
from .records import write_history

__all__ = [
    "Interrupted",
    "Keeper",
    "TrainingError",
    "check_resumable",
    "restored_signals",
]

#: Ctrl-C, and the signal that batch systems send before they kill a process.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingError(TrainingDataError):
    """The training cannot continue; the message says why, and what is left."""


class Interrupted(BaseException):
    """Ctrl-C was pressed, or the process was asked to end.

    Parameters
    ----------
    number : int
        Number of the signal.
    """

    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Keeper(Checkpoint):
    """Writes the checkpoint after each epoch, now and then, and if interrupted.

    Lightning calls a Checkpoint after all other callbacks, when the epoch's history is
    complete.

    Parameters
    ----------
    paths : Paths
        Paths of checkpoint and history.
    settings : dict
        Settings that must not change when the training is resumed, as JSON values.
    report : callable
        Called with the metrics after each epoch, in the first process.
    """

    def __init__(self, paths, settings, report):
        self._paths = paths
        self._settings = settings
        self._report = report
        # Number of the signal that interrupted the training.
        self._signal = None

    def on_train_start(self, trainer, module):
        # Not earlier: Lightning sets its own handlers before.
        if _in_main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._interrupt)

    def _interrupt(self, number, frame):
        if self._signal is not None:
            # After a second signal, do not wait for the step. Lightning would turn a
            # KeyboardInterrupt into its own exit status.
            raise SystemExit(128 + number)
        self._signal = number

    def _is_interrupted(self, module):
        """Check whether any of the processes was interrupted."""
        return any_process(self._signal is not None, module.device)

    def _end(self):
        # Another process may have received the signal, and not this one.
        raise Interrupted(self._signal or signal.SIGTERM)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        if trainer.global_step % len(module.training_stream) == 0:
            # Lightning cannot resume between the last step and the validation.
            return
        interrupted = self._is_interrupted(module)
        every = module.recipe.checkpoint_every
        if interrupted or (every and trainer.global_step % every == 0):
            self._save(trainer, module)
        if interrupted:
            self._end()

    def on_train_epoch_end(self, trainer, module):
        self._save(trainer, module)
        if trainer.is_global_zero:
            write_history(module.history, self._paths.history)
            self._report(module.history[-1])
            if trainer.logger is not None:
                row = dict(module.history[-1])
                trainer.logger.log_metrics(row, step=row.pop("step"))
        if self._is_interrupted(module):
            self._end()

    def on_save_checkpoint(self, trainer, module, checkpoint):
        checkpoint["settings"] = json.dumps(self._settings)

    def _save(self, trainer, module):
        # Weights that are not finite must not replace the last good ones.
        module.check_finite()
        path = self._paths.checkpoint
        if not trainer.is_global_zero:
            # All processes take part, and the first one writes.
            trainer.save_checkpoint(path)
            return
        try:
            with whole_file(path, replace=True) as unfinished:
                trainer.save_checkpoint(unfinished)
        except (OSError, OutputError) as error:
            reason = error.__cause__ or error
            last = f"the last good one is {path}" if path.exists() else "there is none"
            raise TrainingError(
                f"the checkpoint {path} cannot be written: {reason}; {last}. Free "
                "some space, and continue with --resume"
            ) from error


def check_resumable(checkpoint, settings):
    """Check that a checkpoint is from a training with the same settings.

    Parameters
    ----------
    checkpoint : pathlib.Path
        The checkpoint.
    settings : dict
        Settings that must be the same, as JSON values.

    Raises
    ------
    TrainingError
        If it is damaged, or settings differ; the message names them.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        before = json.loads(content["settings"])
    except Exception as error:
        raise TrainingError(
            f"{checkpoint} is not a checkpoint of a training ({error}): remove it, or "
            "start again with --overwrite"
        ) from error
    changes = "; ".join(list_differences(before, json.loads(json.dumps(settings))))
    if changes:
        raise TrainingError(
            f"{checkpoint} is from a training with other settings: {changes}. Use the "
            "same settings, or start again with --overwrite"
        )


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def restored_signals():
    """Restore the handlers of signals at the end.

    Yields
    ------
    None
        Nothing.
    """
    if not _in_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
