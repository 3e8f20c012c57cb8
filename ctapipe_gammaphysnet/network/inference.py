"""The backbone for inference on a CPU: the same features, without what training needs.

Normalisations behind a convolution are part of its weights, which are laid out once, as
the compiled code reads them. Images go through each stage one by one.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import kernels
from .attention import DualAttention
from .compiled import share
from .resnet import ResidualBlock

__all__ = ["InferenceBackbone"]


class InferenceBackbone:
    """What a network's `features` are in evaluation mode.

    Parameters
    ----------
    network : GammaPhysNet
        On a CPU, with the lattice engine, in single or double precision. Its weights
        are copied: what happens to them later has no effect.
    """

    def __init__(self, network):
        backbone = network.backbone
        self._channels = backbone.out_channels
        with torch.no_grad():
            stem = backbone.stem[0]
            # The stem finds its pixels in the camera's order.
            neighbors = stem.neighbors
            neighbors = network.order[neighbors].where(neighbors >= 0, -1)
            self._stem = neighbors.numpy(), *_convolution(stem, n_filled=1)
            self._stages = [_Stage(stage) for stage in backbone.stages]

    def __call__(self, images):
        """Compute features.

        Parameters
        ----------
        images : torch.Tensor
            Charge and peak time, shape (batch, 2, n_pixels), pixels in the camera's
            order, of the weights' dtype.

        Returns
        -------
        torch.Tensor
            Shape (batch, channels, positions).
        """
        pixels = images.transpose(1, 2).numpy()
        features = self._stages[-1].empty(len(pixels))
        share(lambda part: self._compute(pixels[part], features[part]), len(pixels))
        return torch.from_numpy(features[..., : self._channels]).transpose(1, 2)

    def _compute(self, pixels, features):
        x = self._stages[0].empty(len(pixels))
        kernels.convolve(np.ascontiguousarray(pixels), *self._stem, x)
        kernels.rectify(x)
        for stage in self._stages:
            x = stage(x)
        kernels.rectify(x)
        features[:] = x


class _Stage:
    """Residual blocks and attention; their weights as the kernels take them."""

    def __init__(self, stage):
        blocks = [module for module in stage if isinstance(module, ResidualBlock)]
        _, _, convolution = blocks[0].conv2
        neighbors = convolution.neighbors.numpy()
        _, bias = _convolution(convolution)
        self._shape, self._dtype = (len(neighbors), len(bias)), bias.dtype
        self._strided = self._attention = None
        if not isinstance(blocks[0].shortcut, nn.Identity):
            self._strided = _strided_block(blocks.pop(0))
        self._blocks = neighbors, *_residual_blocks(blocks, convolution)
        if isinstance(stage[-1], DualAttention):
            self._attention = _attention(stage[-1], len(neighbors))

    def empty(self, n_images):
        """Memory for the features of some images."""
        return np.empty((n_images, *self._shape), self._dtype)

    def __call__(self, x):
        """Features behind the stage; those before it may be overwritten."""
        if self._strided is not None:
            before, x = x, self.empty(len(x))
            kernels.strided_block(before, *self._strided, x)
        kernels.residual_blocks(x, *self._blocks)
        if self._attention is not None:
            kernels.attend(x, *self._attention)
        return x


def _fill(values, dtype, n_axes=1):
    """Last axes filled with zeros to whole vectors, as an array."""
    values = values.to(dtype)
    lanes = kernels.VECTOR_BYTES // values.element_size()
    missing = [(0, -length % lanes) for length in reversed(values.shape[-n_axes:])]
    return F.pad(values, sum(missing, ())).contiguous().numpy()


def _line(norm):
    """Scale and shift of each channel by a batch normalisation, in double precision."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - scale * norm.running_mean.double()


def _normalization(norm):
    return [_fill(values, norm.weight.dtype) for values in _line(norm)]


def _convolution(convolution, norm=None, n_filled=2):
    """Weights and biases, with the normalisation that follows."""
    scale, shift = (1, 0) if norm is None else _line(norm)
    weight = convolution.weight.double().permute(2, 1, 0) * scale
    bias = convolution.bias.double() * scale + shift
    dtype = convolution.weight.dtype
    return _fill(weight, dtype, n_filled), _fill(bias, dtype)


def _residual_blocks(blocks, convolution):
    """Arguments of the kernel; the convolution is one like those of the blocks."""
    weight, bias = _convolution(convolution)
    n = len(blocks)
    scales = np.ones((n, len(bias)), bias.dtype)
    shifts = np.zeros_like(scales)
    weights = np.empty((n, 2, *weight.shape), bias.dtype)
    biases = np.empty((n, 2, len(bias)), bias.dtype)
    for i, block in enumerate(blocks):
        first = block.conv1
        if isinstance(first, nn.Sequential):
            norm, _, first = first
            scales[i], shifts[i] = _normalization(norm)
        # Else the input is activated already, which activating again does not change.
        norm, _, second = block.conv2
        weights[i, 0], biases[i, 0] = _convolution(first, norm)
        weights[i, 1], biases[i, 1] = _convolution(second)
    return scales, shifts, weights, biases


def _strided_block(block):
    norm, _, first = block.conv1
    hidden_norm, _, second = block.conv2
    shortcut_norm, _, shortcut = block.shortcut
    return (
        first.neighbors.numpy(),
        second.neighbors.numpy(),
        *_stacked(_normalization(norm), _normalization(shortcut_norm)),
        *_stacked(_convolution(first, hidden_norm), _convolution(shortcut)),
        *_convolution(second),
    )


def _stacked(one, other):
    return [np.stack(pair) for pair in zip(one, other, strict=True)]


def _attention(attention, n_pixels):
    channel, spatial = attention.channel, attention.spatial
    dtype = spatial.compress.weight.dtype
    scale, shift = _line(spatial.norm)
    compress = spatial.compress.weight.double().T * scale
    return (
        _fill(channel.squeeze.weight, dtype),
        channel.squeeze.bias.numpy().copy(),
        _fill(channel.excite.weight.T, dtype),
        _fill(channel.excite.bias, dtype),
        np.arange(n_pixels)[:, np.newaxis],
        _fill(compress.unsqueeze(0), dtype, 2),
        _fill(shift, dtype),
        _fill(spatial.score.weight[0], dtype),
        spatial.score.bias.numpy().copy(),
    )
