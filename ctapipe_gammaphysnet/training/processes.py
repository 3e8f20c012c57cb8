"""Communication between processes that split each batch."""

import torch
from torch import distributed
from torch.distributed.nn.functional import all_reduce

from ..network.convolution import BatchNorm

__all__ = [
    "SharedBatchNorm",
    "any_process",
    "gather",
    "n_processes",
    "share_batch_norms",
    "sum_over_processes",
]


def n_processes():
    """Count the processes that train together.

    Returns
    -------
    int
        Their number; 1 without distributed training.
    """
    return distributed.get_world_size() if distributed.is_initialized() else 1


def sum_over_processes(value):
    """Sum a number over the processes, without gradients.

    Parameters
    ----------
    value : torch.Tensor
        The value of this process.

    Returns
    -------
    total : torch.Tensor
        The sum, of the same shape.
    n : int
        Number of processes.
    """
    total, n = value.detach().clone(), n_processes()
    if n > 1:
        distributed.all_reduce(total)
    return total, n


def any_process(condition, device):
    """Check whether a condition is true in any process.

    Parameters
    ----------
    condition : bool
        Whether it is true in this process.
    device : torch.device
        Device for the communication.

    Returns
    -------
    bool
        Whether it is true in any process.
    """
    count, _ = sum_over_processes(torch.tensor(float(condition), device=device))
    return bool(count > 0)


def gather(value):
    """Collect a value from each process.

    Parameters
    ----------
    value : object
        The value of this process.

    Returns
    -------
    list of object
        The values of all processes.
    """
    values = [value] * n_processes()
    if len(values) > 1:
        distributed.all_gather_object(values, value)
    return values


class SharedBatchNorm(BatchNorm):
    """Batch normalisation over a batch that is split between processes.

    PyTorch's own needs GPUs.
    """

    def forward(self, x):
        """Normalise each channel over all processes' batch and pixels."""
        if not self.training:
            return super().forward(x)
        # Not in bfloat16: sums of many small numbers.
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        count, _ = sum_over_processes(x.new_tensor(float(x.shape[0] * x.shape[2])))
        mean = all_reduce(x.sum(dim=(0, 2))) / count
        # The difference of mean square and squared mean could lose all precision.
        deviation = x - mean[:, None]
        variance = all_reduce((deviation * deviation).sum(dim=(0, 2))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return deviation * scale[:, None] + self.bias[:, None]

    def can_compile(self, x):
        """Whether compiled code can compute, as in `BatchNorm`: not in training.

        Parameters
        ----------
        x : torch.Tensor
            Features, shape (batch, channels, pixels).

        Returns
        -------
        bool
            False in training.
        """
        # Compiled code normalises over the batch of this process alone.
        return not self.training and super().can_compile(x)


def share_batch_norms(network):
    """Make all batch normalisations of a network `SharedBatchNorm`.

    Parameters
    ----------
    network : torch.nn.Module
        The network, changed in place.
    """
    for module in network.modules():
        if type(module) is BatchNorm:
            module.__class__ = SharedBatchNorm
