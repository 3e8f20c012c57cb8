"""The Lightning module: a training step, a validation step, the optimiser."""

import lightning
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.optim.lr_scheduler import StepLR

from .losses import UncertaintyWeighting, task_losses

__all__ = ["TrainingModule"]


class TrainingModule(lightning.LightningModule):
    """A γ-PhysNet in training.

    Parameters
    ----------
    network : GammaPhysNet
        The network.
    recipe : Recipe
        Learning rates, their decay, weight decay.

    Attributes
    ----------
    history : list of dict of str to float
        For each epoch the figures of the validation data: the loss of each task,
        unweighted, and the AUC of the gammaness.
    """

    def __init__(self, network, recipe):
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.balance = UncertaintyWeighting(list(network.heads))
        self.history = []
        self._validation = []

    def configure_optimizers(self):
        """Adam, without weight decay on the balance; learning rates fall in steps."""
        optimizer = torch.optim.Adam(
            [
                {
                    "params": self.network.parameters(),
                    "lr": self.recipe.learning_rate,
                    "weight_decay": self.recipe.weight_decay,
                },
                {
                    "params": self.balance.parameters(),
                    "lr": self.recipe.balance_learning_rate,
                    "weight_decay": 0.0,
                },
            ]
        )
        return [optimizer], [StepLR(optimizer, self.recipe.decay_every, gamma=0.1)]

    def training_step(self, batch, batch_index):
        """Total loss of a batch: images, targets."""
        images, targets = batch
        losses = task_losses(self.network(images), targets)
        total = self.balance(losses)
        if not torch.isfinite(total):
            raise FloatingPointError(
                f"the loss became {total.item()} in epoch {self.current_epoch}, step "
                f"{self.global_step}: "
                + ", ".join(f"{task} {loss:.3g}" for task, loss in losses.items())
                + ". Lower the learning rate, or look for extreme values in the images."
            )
        return total

    def validation_step(self, batch, batch_index):
        """Collect outputs and targets of a batch."""
        images, targets = batch
        self._validation.append((self.network(images), targets))

    def on_validation_epoch_end(self):
        """Compute the figures of the validation data, all of it at once."""
        outputs, targets = (
            {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
            for parts in zip(*self._validation, strict=True)
        )
        self._validation.clear()
        losses = task_losses(outputs, targets)
        figures = {f"loss {task}": loss.item() for task, loss in losses.items()}
        if "class" in outputs and len(np.unique(targets["class"])) > 1:
            gammaness = torch.softmax(outputs["class"], dim=1)[:, 0]
            figures["AUC"] = float(roc_auc_score(targets["class"] == 0, gammaness))
        self.history.append(figures)
