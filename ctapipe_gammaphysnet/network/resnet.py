"""The backbone: a residual network over camera pixels (paper, Section 3.1 and Fig. 2).

It is the convolutional part of a ResNet for CIFAR with full pre-activation (He et al.
2016). Where the paper is silent it follows its authors' implementation: a stem without
batch normalisation, shortcuts of strided convolutions between stages, and no batch
normalisation before the last ReLU.
"""

import torch
from torch import nn

from .attention import DualAttention, SpatialAttention
from .config import NetworkConfig
from .convolution import ENGINES, BatchNorm, convolve_normalized
from .lattice import CameraLattice

__all__ = ["ResidualBlock", "ResNet"]


class _PreActivatedConvolution(nn.Sequential):
    """BN, ReLU, convolution."""

    def __init__(self, in_channels, out_channels, lattice, convolution, stride=1):
        super().__init__(
            BatchNorm(in_channels),
            nn.ReLU(),
            convolution(in_channels, out_channels, lattice, stride),
        )

    def forward(self, x, shortcut=None):
        """As `convolve_normalized`, to the same or the next scale."""
        norm, _, convolution = self
        return convolve_normalized(norm, convolution, x, shortcut)


class ResidualBlock(nn.Module):
    """BN, ReLU, convolution, BN, ReLU, convolution, and a shortcut past them.

    Parameters
    ----------
    in_channels, out_channels, lattice : int, CameraLattice
        As for `IndexedConvolution`.
    convolution : type
        One of the `ENGINES`.
    stride : {1, 2}
        With 2, the block goes to the downsampled lattice.
    activated : bool
        Whether the input is activated already, as that of the network's first block.
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        lattice,
        convolution,
        stride=1,
        activated=False,
    ):
        super().__init__()
        if activated:
            self.conv1 = convolution(in_channels, out_channels, lattice)
        else:
            self.conv1 = _PreActivatedConvolution(
                in_channels, out_channels, lattice, convolution, stride
            )
        self.conv2 = _PreActivatedConvolution(
            out_channels,
            out_channels,
            lattice.downsampled() if stride == 2 else lattice,
            convolution,
        )
        self.shortcut = (
            _PreActivatedConvolution(in_channels, out_channels, lattice, convolution, 2)
            if stride == 2
            else nn.Identity()
        )

    def forward(self, x):
        """Features of shape (batch, channels, pixels) to the same or the next scale."""
        if isinstance(self.conv1, _PreActivatedConvolution):
            hidden, x = self.conv1(x)
        else:
            hidden = self.conv1(x)
        if isinstance(self.shortcut, _PreActivatedConvolution):
            x, _ = self.shortcut(x)
        y, _ = self.conv2(hidden, x)
        return y


class ResNet(nn.Module):
    """Stem, stages of residual blocks with attention after each, ReLU.

    Parameters
    ----------
    config : NetworkConfig
        Number of blocks, channels, attention.
    lattice : CameraLattice
        Where the camera's pixels lie.
    engine : {"lattice", "indexed"}
        How convolutions are computed.

    Attributes
    ----------
    lattice : CameraLattice
        Where the positions of the output lie.
    out_channels : int
        Number of features per position of the output.
    """

    def __init__(
        self, config: NetworkConfig, lattice: CameraLattice, engine: str = "lattice"
    ):
        super().__init__()
        convolution = ENGINES[engine]
        channels = config.channels[0]
        self.stem = nn.Sequential(convolution(2, channels, lattice), nn.ReLU())
        self.stages = nn.ModuleList()
        for number, width in enumerate(config.channels):
            stage = nn.Sequential()
            for block in range(config.blocks):
                starts_stage = number > 0 and block == 0
                stage.append(
                    ResidualBlock(
                        channels,
                        width,
                        lattice,
                        convolution,
                        stride=2 if starts_stage else 1,
                        activated=number == 0 and block == 0,
                    )
                )
                if starts_stage:
                    lattice = lattice.downsampled()
                channels = width
            if config.attention:
                stage.append(DualAttention(channels, config.attention_ratio))
            self.stages.append(stage)
        self.lattice = lattice
        self.out_channels = channels
        self.apply(_initialise)

    def forward(self, x):
        """Features (batch, channels, positions) of images (batch, 2, pixels)."""
        # In the precision of the weights, which costs little: all blocks of a stage add
        # to the stem's output, whose rounding would be most of the error in bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return torch.relu(x)


def _initialise(module):
    """He initialisation of the weights; biases keep PyTorch's defaults."""
    if isinstance(module, (nn.Linear, *ENGINES.values())):
        nn.init.kaiming_uniform_(module.weight, mode="fan_out")
    # On PyTorch's meta device, which only knows shapes, normal_ would do nothing but
    # import for more than a second.
    if isinstance(module, SpatialAttention) and not module.score.weight.is_meta:
        for linear in (module.compress, module.score):
            nn.init.normal_(linear.weight, std=(2 / linear.out_features) ** 0.5)
