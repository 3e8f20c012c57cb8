"""The backbone for inference as one compiled kernel.

Whole images pass through it one by one, without the interpreter's lock. What it is made
of is in `kernels`.
"""

import math

import numpy as np
from numba import njit

from .kernels import convolve, kernel, normalize

__all__ = ["backbone"]

#: Compiled as a part of the function that calls them. Each of its own would hold the
#: convolution once more, and take another half second.
_part_of_backbone = njit(nogil=True, inline="always")


@njit(nogil=True)
def _rectify(x, y):
    """Copy features, with zero for negative numbers."""
    # "y[:] = x" takes numba longer to compile.
    zero = x.dtype.type(0)
    values, rectified = x.reshape(x.size), y.reshape(y.size)
    for i in range(len(values)):
        rectified[i] = zero if values[i] < zero else values[i]


@njit(nogil=True)
def _add(x, y):
    """Add features to others of the same shape, in place."""
    # "y += x" takes numba longer to compile, too.
    terms, sums = x.reshape(x.size), y.reshape(y.size)
    for i in range(len(terms)):
        sums[i] += terms[i]


@_part_of_backbone
def _residual_blocks(x, blocks, splitter, factors):
    """Pass images through residual blocks of stride 1, one after the other, in place.

    Parameters
    ----------
    x : numpy.ndarray
        Features, shape (images, pixels, channels). The channels fill whole vectors.
    blocks : tuple of numpy.ndarray
        ``neighbors``, as in `convolve`. ``scales`` and ``shifts`` of the normalisation
        before each block's first convolution, as in `normalize`, shape (blocks,
        channels). ``weights`` and ``biases`` of the two convolutions, as in `convolve`,
        shapes (blocks, 2, taps, channels, channels) and (blocks, 2, channels). The
        second normalisation is part of the first convolution's.
    splitter : float
        0, or `bfloat16_splitter` to round what the convolutions read.
    factors : numpy.ndarray
        Empty, of the type of what the convolutions read: that of ``x``, or uint16 for
        bits of bfloat16. Then weights are as `bfloat16_pairs` lays them out.
    """
    neighbors, scales, shifts, weights, biases = blocks
    active = np.empty((1, x.shape[1], x.shape[2]), factors.dtype)
    hidden = np.empty_like(active)
    change = np.empty((1, x.shape[1], x.shape[2]), x.dtype)
    # A whole image at a time: its features stay in the processor's cache.
    for image in range(len(x)):
        features = x[image : image + 1]
        for block in range(len(weights)):
            normalize(features, scales[block], shifts[block], splitter, active)
            weight, bias = weights[block], biases[block]
            convolve(active, neighbors, weight[0], bias[0], 0.0, splitter, hidden)
            convolve(hidden, neighbors, weight[1], bias[1], -np.inf, 0.0, change)
            _add(change, features)


@_part_of_backbone
def _strided_block(x, block, splitter, factors, y):
    """Pass images through the residual block that leads to the next scale.

    Parameters
    ----------
    x : numpy.ndarray
        Features, shape (images, inputs, channels).
    block : tuple of numpy.ndarray
        ``strided`` and ``neighbors``, as in `convolve`, of the convolutions to the next
        scale and of that on it. ``scales`` and ``shifts`` of the normalisations before
        the first convolution and before the shortcut's, shape (2, channels).
        ``weights`` and ``biases`` of these two, shapes (2, taps, channels, out
        channels) and (2, out channels); the second normalisation is part of the first
        convolution's. ``weight`` and ``bias`` of the second convolution.
    splitter, factors : float, numpy.ndarray
        As in `_residual_blocks`.
    y : numpy.ndarray
        Where to write the output, shape (images, outputs, out channels).
    """
    strided, neighbors, scales, shifts, weights, biases, weight, bias = block
    active = np.empty((1, x.shape[1], x.shape[2]), factors.dtype)
    hidden = np.empty((1, y.shape[1], y.shape[2]), factors.dtype)
    shortcut = np.empty((1, y.shape[1], y.shape[2]), x.dtype)
    for image in range(len(x)):
        features, output = x[image : image + 1], y[image : image + 1]
        normalize(features, scales[0], shifts[0], splitter, active)
        convolve(active, strided, weights[0], biases[0], 0.0, splitter, hidden)
        normalize(features, scales[1], shifts[1], splitter, active)
        convolve(active, strided, weights[1], biases[1], -np.inf, 0.0, shortcut)
        convolve(hidden, neighbors, weight, bias, -np.inf, 0.0, output)
        _add(shortcut, output)


@_part_of_backbone
def _attend(x, attention):
    """Rescale images by dual attention, in place.

    Parameters
    ----------
    x : numpy.ndarray
        Features, shape (images, pixels, channels).
    attention : tuple of numpy.ndarray
        ``itself``: each pixel as its only neighbour, shape (pixels, 1), int64.
        ``squeeze``, ``squeeze_bias``, ``excite`` and ``excite_bias`` of
        squeeze-and-excitation, shapes (bottleneck, channels), (bottleneck,),
        (bottleneck, channels) and (channels,). ``compress`` and ``compress_bias`` of
        spatial attention's first layer, the normalisation included, as in `convolve`:
        shapes (1, channels, hidden) and (hidden,). ``score`` and ``score_bias`` of its
        second layer, shapes (hidden,) and (1,).
    """
    (
        itself, squeeze, squeeze_bias, excite, excite_bias,
        compress, compress_bias, score, score_bias,
    ) = attention  # fmt: skip
    n_images, n_pixels, n_channels = x.shape
    hidden = np.empty((1, n_pixels, len(score)), x.dtype)
    one = x.dtype.type(1)
    for image in range(n_images):
        features = x[image]
        sums = np.zeros(n_channels)
        for pixel in range(n_pixels):
            for channel in range(n_channels):
                sums[channel] += features[pixel, channel]
        factors = excite_bias.copy()
        for row in range(len(squeeze)):
            narrow = squeeze_bias[row]
            for channel in range(n_channels):
                narrow += squeeze[row, channel] * sums[channel] / n_pixels
            for channel in range(n_channels):
                factors[channel] += excite[row, channel] * max(narrow, 0)
        for channel in range(n_channels):
            factors[channel] = one / (one + math.exp(-factors[channel]))
        convolve(
            x[image : image + 1], itself, compress, compress_bias, 0.0, 0.0, hidden
        )
        for pixel in range(n_pixels):
            total = score_bias[0]
            for channel in range(len(score)):
                total += hidden[0, pixel, channel] * score[channel]
            factor = one + one / (one + math.exp(-total))
            for channel in range(n_channels):
                features[pixel, channel] *= factors[channel] * factor


@kernel
def backbone(pixels, stem, stages, splitter, factors, features):
    """Pass images through a whole backbone, without the interpreter's lock.

    Parameters
    ----------
    pixels : numpy.ndarray
        Images, shape (images, pixels, channels).
    stem : tuple of numpy.ndarray
        Neighbours, weights and biases of the first convolution, as in `convolve`.
    stages : tuple of tuple of tuple of numpy.ndarray
        For each stage what `_strided_block`, `_residual_blocks` and `_attend` take.
        Parts that a stage lacks are empty arrays.
    splitter, factors : float, numpy.ndarray
        As in `_residual_blocks`.
    features : numpy.ndarray
        Where to write the features, shape (images, positions, out channels).
    """
    neighbors, weight, bias = stem
    x = np.empty((len(pixels), len(neighbors), len(bias)), bias.dtype)
    convolve(pixels, neighbors, weight, bias, 0.0, 0.0, x)
    for strided, blocks, attention in stages:
        if strided[0].size > 0:
            y = np.empty((len(x), len(strided[0]), strided[-1].size), bias.dtype)
            _strided_block(x, strided, splitter, factors, y)
            x = y
        _residual_blocks(x, blocks, splitter, factors)
        if attention[0].size > 0:
            _attend(x, attention)
    _rectify(x, features)
