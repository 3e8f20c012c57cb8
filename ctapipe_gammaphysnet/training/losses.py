"""What γ-PhysNet minimises (paper, Section 3.2)."""

import math

import torch
from torch import nn

from ..tasks import TASKS
from .processes import sum_over_processes

__all__ = ["FixedWeights", "UncertaintyWeighting", "task_losses"]


def task_losses(outputs, targets):
    """Loss of each task over a batch.

    Cross-entropy for the class; for each regression L1, or with the scale of its error
    the negative logarithm of the likelihood. Regressions are learnt from gammas alone,
    as in the paper (masked loss).

    Parameters
    ----------
    outputs : dict of str to torch.Tensor
        Outputs of the network, shape (batch, n_outputs).
    targets : dict of str to torch.Tensor
        ``"class"``: index of the class, 0 for gammas, shape (batch,), int64.
        ``"weight"``: weight of each image, shape (batch,). The others: as the outputs,
        without the scales of errors.

    Returns
    -------
    dict of str to torch.Tensor
        The loss of each task in ``outputs``, shape (): the weighted mean over the
        images. A regression's loss is 0 if there is no gamma in the batch. If processes
        split a batch, the mean of their losses is the loss of the batch.
    """
    weight = targets["weight"]
    gamma_weight = weight * (targets["class"] == 0)
    return {
        name: _weighted_mean(
            TASKS[name].loss(output, targets[name]),
            gamma_weight if TASKS[name].of_gammas else weight,
        )
        for name, output in outputs.items()
    }


def _weighted_mean(values, weight):
    total, n_processes = sum_over_processes(weight.sum())
    # Only a weight of exactly 0 must not divide; small ones may.
    total = torch.where(total > 0, total, 1)
    return n_processes * (values * weight).sum() / total


class UncertaintyWeighting(nn.Module):
    """Balance tasks by their learnt uncertainties (Kendall et al. 2018).

    The total loss is the sum over tasks of exp(-s) L + s. If a task's loss L is large,
    a larger s lowers its weight exp(-s), at the price of s itself. A loss with scales
    of errors is balanced already, by one scale for each image: it has the weight 1.

    Parameters
    ----------
    tasks : sequence of str
        Names of the tasks that have no scale of their own.
    """

    def __init__(self, tasks):
        super().__init__()
        # 1 as in the authors' implementation; the paper gives no value.
        self.log_scales = nn.ParameterDict(
            {task: nn.Parameter(torch.ones(())) for task in tasks}
        )

    def weights(self):
        """Weight of each task's loss, a dict of str to float."""
        return {task: math.exp(-s.item()) for task, s in self.log_scales.items()}

    def forward(self, losses):
        """Total loss, shape (), of a dict with the loss of each task."""
        return sum(
            torch.exp(-self.log_scales[task]) * loss + self.log_scales[task]
            if task in self.log_scales
            else loss
            for task, loss in losses.items()
        )


class FixedWeights(nn.Module):
    """Balance tasks by fixed weights.

    Parameters
    ----------
    weights : dict of str to float
        Weight of each task's loss.
    """

    def __init__(self, weights):
        super().__init__()
        self._weights = dict(weights)

    def weights(self):
        """Weight of each task's loss, a dict of str to float."""
        return dict(self._weights)

    def forward(self, losses):
        """Total loss, shape (), of a dict with the loss of each task."""
        return sum(self._weights[task] * loss for task, loss in losses.items())
