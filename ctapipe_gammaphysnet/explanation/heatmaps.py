"""Heatmaps of what raises each output of a network: Grad-CAM (Selvaraju et al. 2017).

The feature maps of the last convolution are added up, each weighted by how much the
output grows with it, on average over the camera; the ReLU keeps what raises the
output. Features and gradients exist at camera pixels only: nothing is averaged over
other positions.

For a regressed quantity the ReLU keeps what raises it, such as more energy or a
direction further along its axis, and drops what lowers it. This is the paper's
definition, and has the same meaning for each member.
"""

import torch
from captum.attr import LayerGradCam
from torch import nn

from ..network.resnet import ResidualBlock
from ..tasks import class_first

__all__ = ["EMPTY", "all_outputs", "grad_cam", "last_block", "outputs_of"]


#: Note on a heatmap that is 0 everywhere.
EMPTY = "empty: no pixel raises this output"


def all_outputs():
    """List all outputs that can have heatmaps.

    Returns
    -------
    dict of str to Output
        The outputs of all tasks, by the names of their heatmaps.
    """
    return {
        name: output
        for task in class_first().values()
        for name, output in task.outputs.items()
    }


def outputs_of(tasks):
    """Find the outputs of a network with some tasks.

    Parameters
    ----------
    tasks : collection of str
        Names of the tasks.

    Returns
    -------
    list of str
        Names of the outputs, as in `all_outputs`.
    """
    return [name for name, output in all_outputs().items() if output.task in tasks]


def last_block(network):
    """Find the residual block that has the last convolution.

    Parameters
    ----------
    network : GammaPhysNet
        The network.

    Returns
    -------
    ResidualBlock
        The network's last one.
    """
    return [m for m in network.backbone.stages[-1] if isinstance(m, ResidualBlock)][-1]


class _End(nn.Module):
    """A network from its last residual block on: all that the gradients need."""

    def __init__(self, network, names, conditions):
        super().__init__()
        self.block = last_block(network)
        stage = list(network.backbone.stages[-1])
        self.attention = nn.Sequential(*stage[stage.index(self.block) + 1 :])
        self._predict = network.predict
        self._conditions = conditions
        self._outputs = [all_outputs()[name] for name in names]

    @property
    def last_convolution(self):
        return self.block.conv2[-1]

    def forward(self, x):
        """Outputs, shape (batch, n_outputs), of features before the last block."""
        features = torch.relu(self.attention(self.block(x)))
        outputs = self._predict(features, self._conditions)
        return torch.stack([outputs[o.task][:, o.column] for o in self._outputs], dim=1)


def grad_cam(network, features, names, conditions=None):
    """Make heatmaps of a network's outputs.

    Parameters
    ----------
    network : GammaPhysNet
        The network, in evaluation mode.
    features : torch.Tensor
        Input of its `last_block`, shape (batch, channels, positions).
    names : list of str
        Names of the outputs, as in `all_outputs`.
    conditions : numpy.ndarray, optional
        The network's conditions, as for the predictor, shape (batch, n_conditions).

    Returns
    -------
    torch.Tensor
        Heatmaps at the positions of the last convolution, not negative, in the units
        of the outputs, shape (n_outputs, batch, positions).
    """
    if conditions is not None:
        conditions = torch.from_numpy(conditions).to(features.device)
    end = _End(network, names, conditions)
    engine = LayerGradCam(end, end.last_convolution)
    with torch.enable_grad():
        maps = [
            engine.attribute(features, target=number, relu_attributions=True)
            for number in range(len(names))
        ]
    return torch.cat(maps, dim=1).transpose(0, 1).detach()
