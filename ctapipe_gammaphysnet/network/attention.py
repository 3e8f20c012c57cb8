"""Dual attention: which channels, and which pixels, matter (paper, Section 3.1)."""

import torch
from torch import nn

from .convolution import BatchNorm

__all__ = ["DualAttention", "SpatialAttention", "SqueezeExcitation"]


class SqueezeExcitation(nn.Module):
    """Weight of each channel, from the means of all (Hu et al. 2018).

    Parameters
    ----------
    channels : int
        Number of features per pixel.
    ratio : int
        Number of channels over the width of the bottleneck.
    """

    def __init__(self, channels, ratio):
        super().__init__()
        bottleneck = max(channels // ratio, 1)
        self.squeeze = nn.Linear(channels, bottleneck)
        self.excite = nn.Linear(bottleneck, channels)

    def forward(self, x):
        """Weights in [0, 1], (batch, channels, 1), of (batch, channels, pixels)."""
        means = x.mean(dim=2)
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))
        return weights.unsqueeze(2)


class SpatialAttention(nn.Module):
    """Weight of each pixel, from its own features (Sun et al. 2020).

    Parameters
    ----------
    channels : int
        Number of features per pixel.
    """

    def __init__(self, channels):
        super().__init__()
        hidden = max(channels // 2, 1)
        # Convolutions of one pixel are linear maps of its features.
        self.compress = nn.Linear(channels, hidden, bias=False)
        self.norm = BatchNorm(hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x):
        """Map in [1, 2], (batch, 1, pixels), of features (batch, channels, pixels).

        The map can only raise a pixel, never dim it.
        """
        hidden = self.compress(x.transpose(1, 2)).transpose(1, 2)
        hidden = self.norm.rectified(hidden)
        score = self.score(hidden.transpose(1, 2)).transpose(1, 2)
        return torch.sigmoid(score) + 1


class DualAttention(nn.Module):
    """Squeeze-and-excitation times spatial attention.

    Parameters
    ----------
    channels : int
        Number of features per pixel.
    ratio : int
        Ratio of the bottleneck of squeeze-and-excitation.
    """

    def __init__(self, channels, ratio=16):
        super().__init__()
        self.channel = SqueezeExcitation(channels, ratio)
        self.spatial = SpatialAttention(channels)

    def forward(self, x):
        """Rescale features of shape (batch, channels, pixels).

        Always in the precision of the weights: a factor that is rounded changes all
        features of a pixel or channel at once. Factors in bfloat16 make predictions
        three times less exact.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.spatial.score.weight.dtype)
            return x * self.channel(x) * self.spatial(x)
