"""Progress of a training: a bar on a terminal, otherwise a line now and then."""

import sys
import time

import lightning
from tqdm.auto import tqdm

__all__ = ["show_progress"]

#: Seconds between two lines.
_INTERVAL = 60


def show_progress(say):
    """Make the callback that shows the progress of a training.

    Parameters
    ----------
    say : callable
        Called with a line now and then, if the standard error is not a terminal.

    Returns
    -------
    lightning.Callback
        For the trainer.
    """
    return _Bar() if sys.stderr.isatty() else _Lines(say)


class _Bar(lightning.Callback):
    """Progress bar over all steps of the training, with the time left."""

    def on_train_start(self, trainer, module):
        self._bar = tqdm(
            total=trainer.max_epochs * len(module.training_stream),
            initial=trainer.global_step,
            unit="step",
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        self._bar.set_postfix(
            epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
            loss=f"{float(outputs['loss']):.3f}",
            refresh=False,
        )
        self._bar.update()

    def teardown(self, trainer, module, stage):
        if hasattr(self, "_bar"):
            self._bar.close()


class _Lines(lightning.Callback):
    """Lines of progress: after each epoch, and now and then in long epochs."""

    def __init__(self, say):
        self._say = say

    def on_train_start(self, trainer, module):
        self._first_step = trainer.global_step
        self._start = self._last = time.monotonic()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        n_steps = len(module.training_stream)
        step, now = trainer.global_step, time.monotonic()
        if step % n_steps and now < self._last + _INTERVAL:
            return
        self._last = now
        total = trainer.max_epochs * n_steps
        left = (now - self._start) / (step - self._first_step) * (total - step)
        if trainer.is_global_zero:
            self._say(
                f"epoch={trainer.current_epoch + 1}/{trainer.max_epochs}, "
                f"step={step}/{total}, loss={float(outputs['loss']):.3f}, "
                f"{tqdm.format_interval(left)} left"
            )
