"""The Lightning module: a training step, a validation step, the optimiser."""

import json
import math

import lightning
import numpy as np
import torch
from torch.optim import lr_scheduler

from ..model.calibration_card import CalibrationCard
from ..tasks import TASKS
from ..tasks.axis import ImageAxes
from .calibration import calibrate
from .losses import FixedWeights, UncertaintyWeighting, task_losses
from .metrics import validation_metrics
from .processes import gather, sum_over_processes

__all__ = ["NotFiniteError", "TrainingModule"]


class NotFiniteError(FloatingPointError):
    """A loss or a weight is not a finite number.

    Parameters
    ----------
    message : str
        The step, and the losses.
    rows : sequence of int
        The images of the step, as rows of the index; empty if not from one step.
    """

    def __init__(self, message, rows=()):
        super().__init__(message)
        self.rows = rows


class TrainingModule(lightning.LightningModule):
    """A γ-PhysNet in training.

    Parameters
    ----------
    network : GammaPhysNet
        The network.
    recipe : Recipe
        Learning rates, their decay, weight decay, weights of the tasks, frozen parts.
    make_streams : callable
        Function of the number of a process and the number of processes, that returns
        its `TrainingStream` and `ValidationStream`, or None instead of the latter.

    Attributes
    ----------
    history : list of dict of str to float
        For each epoch the losses and weights of the tasks, and the validation metrics,
        unweighted.
    calibration : CalibrationCard
        Of the network after the last epoch, from the validation data.
    """

    def __init__(self, network, recipe, make_streams):
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.balance = (
            FixedWeights(recipe.task_weights)
            if recipe.task_weights
            else UncertaintyWeighting(
                [t for t in network.heads if t not in network.scales]
            )
        )
        self.history = []
        self.calibration = CalibrationCard()
        self._make_streams = make_streams
        self._validation = []
        self._metrics = {}
        # Sums over the steps of an epoch.
        self._loss_sums = {}
        self._frozen = [getattr(network, part) for part in recipe.frozen]
        for part in self._frozen:
            part.requires_grad_(False)
        self.train()

    def train(self, mode=True):
        """Switch between training and evaluation, in which frozen parts stay.

        Their batch normalisations then keep their statistics, and use them.

        Parameters
        ----------
        mode : bool
            Whether to train.

        Returns
        -------
        TrainingModule
            This module.
        """
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def setup(self, stage):
        """Open the data of this process."""
        trainer = self.trainer
        self.training_stream, self.validation_stream = self._make_streams(
            trainer.global_rank, trainer.world_size
        )

    def teardown(self, stage):
        """Stop reading."""
        self.training_stream.close()

    def train_dataloader(self):
        """Training batches, in a resumed training from the last step on."""
        self.training_stream.step = self.trainer.global_step
        return self.training_stream

    def val_dataloader(self):
        """Validation batches."""
        return self.validation_stream

    def configure_optimizers(self):
        """Adam, without weight decay for the balance; learning rates by the recipe."""
        recipe = self.recipe
        groups = [
            {
                "params": [p for p in self.network.parameters() if p.requires_grad],
                "lr": recipe.learning_rate,
                "weight_decay": recipe.weight_decay,
            }
        ]
        if list(self.balance.parameters()):
            groups.append(
                {
                    "params": self.balance.parameters(),
                    "lr": recipe.balance_learning_rate,
                    "weight_decay": 0.0,
                }
            )
        optimizer = torch.optim.Adam(groups)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": self._schedule(optimizer),
                "interval": "step",
            },
        }

    def _schedule(self, optimizer):
        recipe, epoch = self.recipe, len(self.training_stream)
        total = recipe.epochs * epoch
        if recipe.schedule == "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, total)
        if recipe.schedule == "one-cycle":
            rates = [group["lr"] for group in optimizer.param_groups]
            # Only the learning rate changes, not Adam's momentum.
            return lr_scheduler.OneCycleLR(
                optimizer, rates, total, cycle_momentum=False
            )
        return lr_scheduler.StepLR(optimizer, recipe.decay_every * epoch, gamma=0.1)

    def training_step(self, batch, batch_index):
        """Total loss of a batch."""
        outputs = self.network(batch["inputs"], batch["conditions"])
        losses = task_losses(outputs, batch)
        total = self.balance(losses)
        if not torch.isfinite(total):
            raise NotFiniteError(
                f"the loss became {total.item()} in epoch {self.current_epoch}, step "
                f"{self.global_step}: "
                + ", ".join(f"{task} {loss:.3g}" for task, loss in losses.items()),
                batch["row"].tolist(),
            )
        for task, loss in losses.items():
            self._loss_sums[task] = self._loss_sums.get(task, 0) + loss.detach()
        return total

    def validation_step(self, batch, batch_index):
        """Collect outputs and targets of a batch."""
        outputs = self.network(batch["inputs"], batch["conditions"])
        self._validation.append(
            (
                {task: output.float().cpu() for task, output in outputs.items()},
                {name: batch[name].cpu() for name in {*outputs, "class", "row"}},
            )
        )

    def on_validation_epoch_end(self):
        """Compute the validation metrics from all batches together."""
        parts = [part for parts in gather(self._validation) for part in parts]
        self._validation = []
        outputs, targets = (
            {name: torch.cat([part[name] for part in side]) for name in side[0]}
            for side in zip(*parts, strict=True)
        )
        self._metrics = {
            f"validation loss {task}": loss.item()
            for task, loss in _unweighted_losses(outputs, targets).items()
        }
        arrays = [
            {task: values.numpy() for task, values in side.items()}
            for side in (outputs, targets)
        ]
        self._metrics |= validation_metrics(*arrays)
        if all(np.isfinite(output).all() for output in arrays[0].values()):
            rows = arrays[1]["row"]
            axes = ImageAxes(*self.validation_stream.index.axes[rows].T.astype(float))
            self.calibration = calibrate(*arrays, axes)

    def on_train_epoch_end(self):
        """Add the epoch to the history."""
        n_steps = len(self.training_stream)
        self.history.append(
            {
                "epoch": self.current_epoch + 1,
                "step": self.global_step,
                "learning rate": self.optimizers().param_groups[0]["lr"],
                **{
                    f"training loss {task}": total / n_steps
                    for task, total in self._mean_loss_sums().items()
                },
                **{f"weight {k}": v for k, v in self.balance.weights().items()},
                **self._metrics,
            }
        )
        self._loss_sums, self._metrics = {}, {}
        self._stop_if_no_progress()

    def _stop_if_no_progress(self):
        patience = self.recipe.patience
        if not patience or not self.history:
            return
        if not math.isfinite(_validation_loss(self.history[-1])):
            raise NotFiniteError(
                f"the validation loss became {_validation_loss(self.history[-1])} in "
                f"epoch {self.current_epoch}, and Recipe.patience needs it"
            )
        if _epochs_without_progress(self.history) >= patience:
            self.trainer.should_stop = True

    def check_finite(self):
        """Check the weights.

        Raises
        ------
        NotFiniteError
            If one is NaN or infinite.
        """
        for name, weight in self.network.state_dict().items():
            if not torch.isfinite(weight).all():
                raise NotFiniteError(
                    f"the weights {name} are not finite in epoch {self.current_epoch}, "
                    f"after step {self.global_step}"
                )

    def _mean_loss_sums(self):
        """Sums of the losses over the epoch so far, averaged over the processes."""
        means = {}
        for task, total in self._loss_sums.items():
            total, n = sum_over_processes(torch.as_tensor(total, device=self.device))
            means[task] = total.item() / n
        return means

    def on_save_checkpoint(self, checkpoint):
        """Add history, losses and calibration to Lightning's checkpoint."""
        checkpoint["history"] = self.history
        checkpoint["calibration"] = self.calibration.model_dump(mode="json")
        checkpoint["loss_sums"] = self._mean_loss_sums()

    def on_load_checkpoint(self, checkpoint):
        """Restore history, losses and calibration from the checkpoint."""
        self.history = checkpoint["history"]
        calibration = json.dumps(checkpoint["calibration"])
        self.calibration = CalibrationCard.model_validate_json(calibration)
        self._loss_sums = checkpoint["loss_sums"]
        # Lightning does not store that early stopping had ended the training.
        self._stop_if_no_progress()


def _unweighted_losses(outputs, targets):
    losses = {}
    is_gamma = targets["class"] == 0
    for name, output in outputs.items():
        task = TASKS[name]
        rows = is_gamma if task.of_gammas else torch.ones_like(is_gamma)
        if rows.any():
            losses[name] = task.loss(output[rows], targets[name][rows]).mean()
    return losses


def _validation_loss(row):
    """Sum of the validation losses after an epoch."""
    losses = [v for name, v in row.items() if name.startswith("validation loss")]
    # Without losses: NaN, since a sum of 0 would be the lowest.
    return math.fsum(losses) if losses else math.nan


def _epochs_without_progress(history):
    """Number of epochs since the sum of the validation losses was lowest."""
    sums = [_validation_loss(row) for row in history]
    return len(sums) - 1 - sums.index(min(sums))
