"""What γ-PhysNet minimises (paper, Section 3.2)."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["UncertaintyWeighting", "task_losses"]


def task_losses(outputs, targets):
    """Loss of each task over a batch.

    Cross-entropy for the class; L1 for each regression, over gammas alone: what a
    proton's energy would be as a gamma is not to be learnt (the paper's masked loss).

    Parameters
    ----------
    outputs : dict of str to torch.Tensor
        Of the network, shape (batch, n_outputs).
    targets : dict of str to torch.Tensor
        ``"class"``: index of the class, 0 for gammas, shape (batch,), int64. The
        others: as the outputs.

    Returns
    -------
    dict of str to torch.Tensor
        The loss of each task in ``outputs``, shape (). A regression's loss is 0 if
        there is no gamma in the batch.
    """
    is_gamma = targets["class"] == 0
    losses = {}
    for task, output in outputs.items():
        if task == "class":
            losses[task] = F.cross_entropy(output, targets[task])
        else:
            deviation = (output - targets[task]).abs().mean(dim=1)
            losses[task] = (deviation * is_gamma).sum() / is_gamma.sum().clamp(min=1)
    return losses


class UncertaintyWeighting(nn.Module):
    """Balance tasks by a learnt uncertainty of each (Kendall et al. 2018).

    The total loss is the sum over tasks of exp(-s) L + s. Where a task's loss L is
    large, a larger s lowers its weight exp(-s), at the price of s itself.

    Parameters
    ----------
    tasks : sequence of str
        Names of the tasks.
    """

    def __init__(self, tasks):
        super().__init__()
        # Starts at 1 as in the authors' implementation; the paper gives no value.
        self.log_scales = nn.ParameterDict(
            {task: nn.Parameter(torch.ones(())) for task in tasks}
        )

    def forward(self, losses):
        """Total loss, shape (), of a dict with the loss of each task."""
        return sum(
            torch.exp(-self.log_scales[task]) * loss + self.log_scales[task]
            for task, loss in losses.items()
        )
