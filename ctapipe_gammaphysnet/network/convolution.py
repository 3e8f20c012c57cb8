"""The convolution over camera pixels, in two engines with the same weights.

Both map features of shape (batch, channels, pixels) on one lattice to features on the
same lattice (stride 1) or on its downsampled one (stride 2), with weights of shape
(out, in, 7) on hexagonal and (out, in, 9) on square pixels, the shape and the order of
IndexedConv (Jacquemont et al. 2019). They give the same numbers to rounding. Nothing
else in the network depends on the engine, nor knows that pixels have neighbours.

In the memory of the lattice engine the features of one pixel lie side by side (channels
last), through the whole network.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from indexedconv.engine import IndexedConv
from indexedconv.utils import neighbours_extraction
from torch import nn

from . import compiled
from .checks import check_table

__all__ = [
    "ENGINES",
    "BatchNorm",
    "IndexedConvolution",
    "LatticeConvolution",
    "convolve_normalized",
    "find_neighbors",
]


class IndexedConvolution(IndexedConv):
    """Gather each pixel's neighbours, then multiply: IndexedConv itself.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of features per pixel, before and after.
    lattice : CameraLattice
        Where the pixels of the input lie.
    stride : {1, 2}
        With 2, only every second row and column of the output is computed.
    """

    def __init__(self, in_channels, out_channels, lattice, stride=1):
        kernel = {"hexagonal": "Hex", "square": "Square"}[lattice.kind]
        index_matrix = torch.from_numpy(lattice.index_matrix)[None, None]
        indices = neighbours_extraction(index_matrix, kernel, stride=stride)
        super().__init__(in_channels, out_channels, indices)
        # The indices follow from the camera: they are not saved with the weights.
        self.register_buffer("indices_", self.indices, persistent=False)
        self.register_buffer("mask_", self.mask, persistent=False)


class LatticeConvolution(nn.Module):
    """The same with fewer copies: compiled, or as a dense 3×3 convolution.

    In single or double precision on a CPU, compiled code multiplies each pixel's
    neighbours in place. Otherwise features are put into the rectangle around the
    lattice. In axial coordinates a hexagonal neighbourhood is a 3×3 square without two
    of its corners. Lattice positions without a pixel are zero in the input, as in
    IndexedConv, and are left out of the output.

    Parameters
    ----------
    in_channels, out_channels, lattice, stride : int, CameraLattice
        As for `IndexedConvolution`.
    """

    def __init__(self, in_channels, out_channels, lattice, stride=1):
        super().__init__()
        self.stride = stride
        self.shape = lattice.shape
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, len(lattice.taps))
        )
        self.bias = nn.Parameter(torch.empty(out_channels))
        output = lattice if stride == 1 else lattice.downsampled()
        kernel = torch.tensor([3 * (row + 1) + col + 1 for row, col in lattice.taps])
        self.register_buffer("kernel_positions", kernel, persistent=False)
        for name, grid, columns in (
            ("input_positions", lattice, lattice.shape[1]),
            ("output_positions", output, math.ceil(lattice.shape[1] / stride)),
        ):
            positions = torch.from_numpy(grid.rows * columns + grid.cols)
            self.register_buffer(name, positions, persistent=False)
        for name, indices in zip(
            ("neighbors", "targets"), find_neighbors(lattice, stride), strict=True
        ):
            self.register_buffer(name, torch.from_numpy(indices), persistent=False)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw weights and biases as PyTorch does for its own convolutions."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x):
        """Convolve features of shape (batch, channels, pixels)."""
        pixels = x.transpose(1, 2).contiguous()
        if compiled.can_compute(pixels, self.weight):
            y = compiled.Convolution.apply(
                pixels, self.weight, self.bias, self.neighbors, self.targets
            )
        else:
            y = self._convolve_rectangle(pixels)
        return y.transpose(1, 2)

    def _dense_weight(self):
        out_channels, in_channels, _ = self.weight.shape
        dense = self.weight.new_zeros(out_channels, in_channels, 9)
        dense = dense.index_copy(2, self.kernel_positions, self.weight)
        return dense.view(out_channels, in_channels, 3, 3)

    def _convolve_rectangle(self, x):
        batch, _, channels = x.shape
        rows, cols = self.shape
        canvas = x.new_zeros(batch, rows * cols, channels)
        canvas.index_copy_(1, self.input_positions, x)
        y = F.conv2d(
            canvas.view(batch, rows, cols, channels).permute(0, 3, 1, 2),
            self._dense_weight(),
            self.bias,
            self.stride,
            padding=1,
        )
        y = y.permute(0, 2, 3, 1).flatten(1, 2)
        return y.index_select(1, self.output_positions)


def find_neighbors(lattice, stride):
    """Find the pixels that a convolution connects.

    Parameters
    ----------
    lattice : CameraLattice
        Where the pixels of the input lie.
    stride : {1, 2}
        As for `IndexedConvolution`.

    Returns
    -------
    neighbors : numpy.ndarray
        Input pixel at each tap of each output pixel, shape (outputs, taps), int64; -1
        where there is none.
    targets : numpy.ndarray
        The inverse: the output pixel that has an input pixel at each tap, shape
        (inputs, taps).
    """
    output = lattice if stride == 1 else lattice.downsampled()
    pixels = np.pad(lattice.index_matrix, 1, constant_values=-1)
    neighbors = np.column_stack(
        [
            pixels[stride * output.rows + row + 1, stride * output.cols + col + 1]
            for row, col in lattice.taps
        ]
    )
    targets = np.full((len(lattice), len(lattice.taps)), -1)
    target, tap = (neighbors >= 0).nonzero()
    targets[neighbors[target, tap], tap] = target
    n_inputs, n_outputs, n_taps = len(lattice), len(output), len(lattice.taps)
    check_table("neighbors", neighbors, (n_outputs, n_taps), n_inputs)
    check_table("targets", targets, (n_inputs, n_taps), n_outputs)
    return neighbors, targets


ENGINES = {"lattice": LatticeConvolution, "indexed": IndexedConvolution}


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of features of shape (batch, channels, pixels)."""

    def forward(self, x):
        """Normalise each channel over batch and pixels."""
        # As an image one pixel wide: PyTorch has a fast channels-last path in 2d only.
        return super().forward(x.unsqueeze(-1)).squeeze(-1)

    def rectified(self, x):
        """Normalise, then ReLU: on a CPU, compiled code does both at once.

        Parameters
        ----------
        x : torch.Tensor
            Features, shape (batch, channels, pixels).

        Returns
        -------
        torch.Tensor
            Of the same shape.
        """
        if not self.can_compile(x):
            return torch.relu(self(x))
        pixels = x.transpose(1, 2)
        y = compiled.NormalizationReLU.apply(
            pixels, self.weight, self.bias, *self.statistics(pixels)
        )
        return y.transpose(1, 2)

    def can_compile(self, x):
        """Whether compiled code computes what this normalisation does.

        Parameters
        ----------
        x : torch.Tensor
            Features, shape (batch, channels, pixels).

        Returns
        -------
        bool
            True on a CPU, if the features of a pixel lie side by side.
        """
        pixels = x.transpose(1, 2)
        return pixels.is_contiguous() and compiled.can_compute(pixels, self.weight)

    def statistics(self, pixels):
        """Mean and variance with which to normalise; in training, those of the batch.

        Then the running statistics are updated.

        Parameters
        ----------
        pixels : torch.Tensor
            Features, shape (batch, pixels, channels), contiguous.

        Returns
        -------
        mean, variance : torch.Tensor
            Shape (channels,); the variance with what is added to it.
        count : int or float
            Number of values from which they were computed; infinity if they are not
            from this batch.
        """
        if not self.training:
            return self.running_mean, self.running_var + self.eps, math.inf
        mean, variance = compiled.moments(pixels)
        count = pixels.shape[0] * pixels.shape[1]
        unbiased = variance * (count / (count - 1))
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.type_as(pixels), self.momentum)
        self.running_var.lerp_(unbiased.type_as(pixels), self.momentum)
        return mean, variance + self.eps, count


def convolve_normalized(norm, convolution, x, shortcut=None):
    """Normalise, apply ReLU, convolve, and add a shortcut.

    In training, compiled code does all at once, without a call of the modules.

    Parameters
    ----------
    norm : BatchNorm
        The normalisation.
    convolution : LatticeConvolution or IndexedConvolution
        The convolution.
    x : torch.Tensor
        Features, shape (batch, channels, pixels).
    shortcut : torch.Tensor, optional
        What to add to the result.

    Returns
    -------
    y, x : torch.Tensor
        The result, shape (batch, out channels, pixels), and the features, for a
        shortcut past this convolution.
    """
    # Otherwise explanations look at what each module returns.
    at_once = norm.training and isinstance(convolution, LatticeConvolution)
    if not (at_once and norm.can_compile(x)):
        y = convolution(norm.rectified(x))
        return y if shortcut is None else shortcut + y, x
    pixels = x.transpose(1, 2)
    if shortcut is not None:
        shortcut = shortcut.transpose(1, 2).contiguous()
    results = compiled.NormalizedConvolution.apply(
        pixels,
        norm.weight,
        norm.bias,
        *norm.statistics(pixels),
        convolution.weight,
        convolution.bias,
        convolution.neighbors,
        convolution.targets,
        shortcut,
    )
    y, x = (result.transpose(1, 2) for result in results)
    return y, x
