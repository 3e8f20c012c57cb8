"""Convolution and normalisation over camera pixels, compiled for the processor.

PyTorch convolves rectangles and multiplies matrices. For the pixels of a camera, half
of a rectangle is wasted, and matrices take more time for moving data than for
arithmetic. These functions visit only the camera's pixels. Arrays are contiguous, of
shape (images, pixels, channels), so that the features of one pixel are a vector.
"""

from pathlib import Path

import numpy as np
from numba import njit, types
from numba.extending import overload

from ..numba_cache import keep_compiled, stamp_of
from .tiles import (
    CHANNELS,
    PIXELS,
    VECTOR_BYTES,
    VECTORS,
    convolve_tile,
    weight_gradient_tile,
)

__all__ = [
    "bfloat16_pairs",
    "bfloat16_splitter",
    "convolve",
    "kernel",
    "normalize",
    "normalize_backward",
    "normalized_convolve",
    "normalized_convolve_backward",
    "sum_gradients",
    "sum_moments",
    "weight_gradient",
]

#: Digits of the significand of bfloat16.
_BFLOAT16_DIGITS = 8


def bfloat16_splitter(dtype):
    """Number with which `convolve` and `normalize` round to bfloat16.

    The product of a number with it, less the difference of both, is the number without
    its last binary digits, rounded (Dekker 1971).

    Parameters
    ----------
    dtype : numpy.dtype
        float32 or float64, in which the rounded numbers are kept.

    Returns
    -------
    float
        The number.
    """
    digits = np.finfo(dtype).nmant + 1
    return 2.0 ** (digits - _BFLOAT16_DIGITS) + 1


def bfloat16_pairs(weight):
    """Lay out weights for the processor's units for bfloat16.

    Parameters
    ----------
    weight : numpy.ndarray
        Shape (taps, channels, out channels), float32, rounded to bfloat16 already. The
        number of channels is even.

    Returns
    -------
    numpy.ndarray
        The bits of two channels at a time, shape (taps, channels / 2, out channels),
        int32.
    """
    bits = np.ascontiguousarray(weight).view(np.uint32)
    return ((bits[:, ::2] >> 16) | bits[:, 1::2]).view(np.int32)


_keep = keep_compiled(
    "Compiling the network for this machine: some seconds",
    stamp_of(Path(__file__).parent),
)


def kernel(function):
    """
    Compile a function, to run without the interpreter's lock, and keep the result.

    Parameters
    ----------
    function : callable
        To be compiled when it is first called.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
        The compiled function.
    """
    return _keep(njit(nogil=True)(function))


@kernel
def convolve(x, neighbors, weight, bias, floor, splitter, y):
    """Convolve images.

    Parameters
    ----------
    x : numpy.ndarray
        Features, shape (images, inputs, channels): float32, float64, or the bits of
        bfloat16 in uint16, if the processor multiplies these.
    neighbors : numpy.ndarray
        Input at each tap of each output, shape (outputs, taps), int64; -1 for zero.
    weight : numpy.ndarray
        Shape (taps, channels, out channels); for bfloat16 as `bfloat16_pairs`, shape
        (taps, channels / 2, out channels). The out channels fill whole vectors.
    bias : numpy.ndarray
        Shape (out channels,).
    floor : float
        Smallest output: 0 to activate it, minus infinity not to.
    splitter : float
        0, or `bfloat16_splitter` to round the output.
    y : numpy.ndarray
        Where to write the output, shape (images, outputs, out channels); for bfloat16
        float32, or bits in uint16.
    """
    n_images, n_outputs, n_channels = y.shape
    lanes = VECTOR_BYTES // bias.itemsize
    floor, splitter = bias.dtype.type(floor), bias.dtype.type(splitter)
    zeros = np.zeros(x.shape[2], x.dtype)
    for image in range(n_images):
        channel = 0
        while channel < n_channels:
            wide = channel + VECTORS * lanes <= n_channels
            pixel = 0
            while pixel < n_outputs:
                if n_outputs < PIXELS:
                    convolve_tile(
                        x[image], zeros, neighbors, weight, bias, floor, splitter,
                        y[image], pixel, channel, 1, 1,
                    )  # fmt: skip
                    pixel += 1
                    continue
                # The last tile repeats some pixels of the one before.
                first = min(pixel, n_outputs - PIXELS)
                if wide:
                    convolve_tile(
                        x[image], zeros, neighbors, weight, bias, floor, splitter,
                        y[image], first, channel, PIXELS, VECTORS,
                    )  # fmt: skip
                else:
                    convolve_tile(
                        x[image], zeros, neighbors, weight, bias, floor, splitter,
                        y[image], first, channel, PIXELS, 1,
                    )  # fmt: skip
                pixel += PIXELS
            channel += VECTORS * lanes if wide and n_outputs >= PIXELS else lanes


@kernel
def weight_gradient(x, neighbors, grad, total, bias_total):
    """Add up the gradients of a convolution's weights and biases.

    Parameters
    ----------
    x, neighbors : numpy.ndarray
        As in `convolve`.
    grad : numpy.ndarray
        Gradient at the output, shape (images, outputs, out channels).
    total, bias_total : numpy.ndarray
        What to add the gradients to, shapes (taps, channels, out channels) and
        (out channels,).
    """
    lanes = VECTOR_BYTES // grad.itemsize
    n_taps, n_rows, n_channels = total.shape
    zeros = np.zeros(x.shape[2], x.dtype)
    for image in range(len(x)):
        for tap in range(n_taps):
            row = 0
            while row < n_rows:
                whole = row + CHANNELS <= n_rows
                for channel in range(0, n_channels, lanes):
                    if whole:
                        weight_gradient_tile(
                            x[image], zeros, neighbors, grad[image], total,
                            tap, row, channel, CHANNELS,
                        )  # fmt: skip
                    else:
                        weight_gradient_tile(
                            x[image], zeros, neighbors, grad[image], total,
                            tap, row, channel, 1,
                        )  # fmt: skip
                row += CHANNELS if whole else 1
        # Image by image, so that rounding does not add up.
        part = np.zeros(n_channels, grad.dtype)
        for pixel in range(grad.shape[1]):
            for channel in range(n_channels):
                part[channel] += grad[image, pixel, channel]
        bias_total += part


@kernel
def sum_moments(x, means, squares):
    """Mean and sum of squared deviations of each channel in each image.

    Parameters
    ----------
    x : numpy.ndarray
        Features, shape (images, pixels, channels).
    means, squares : numpy.ndarray
        Where to write them, shape (images, channels).
    """
    n_images, n_pixels, n_channels = x.shape
    for image in range(n_images):
        total = np.zeros(n_channels, x.dtype)
        for pixel in range(n_pixels):
            for channel in range(n_channels):
                total[channel] += x[image, pixel, channel]
        mean = (total / n_pixels).astype(x.dtype)
        total[:] = 0
        for pixel in range(n_pixels):
            for channel in range(n_channels):
                deviation = x[image, pixel, channel] - mean[channel]
                total[channel] += deviation * deviation
        means[image], squares[image] = mean, total


def _as_kept(value, y):
    """A number as an array keeps it: its bits in bfloat16, if these are uint16."""
    # Where nothing is compiled: then there is no uint16.
    return value


@overload(_as_kept, inline="always")
def _(value, y):
    if y.dtype != types.uint16:
        return lambda value, y: value

    def bits_of(value, y):
        bits = np.float32(value).view(np.uint32)
        # Half of the last digit, or a little less, so that ties become even.
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        # The largest bits are those of NaN: rounding could make them others'.
        rounded = rounded if value == value else np.uint32(0x7FC00000)
        return np.uint16(rounded >> np.uint32(16))

    return bits_of


@kernel
def normalize(x, scale, shift, splitter, y):
    """Scale and shift each channel, and set negative numbers to zero.

    Parameters
    ----------
    x : numpy.ndarray
        Features, shape (images, pixels, channels).
    scale, shift : numpy.ndarray
        Shape (channels,).
    splitter : float
        0, or `bfloat16_splitter` to round the result.
    y : numpy.ndarray
        Where to write the result, shape (images, pixels, channels); uint16 for the bits
        of bfloat16.
    """
    n_images, n_pixels, n_channels = x.shape
    zero, splitter = x.dtype.type(0), x.dtype.type(splitter)
    for image in range(n_images):
        for pixel in range(n_pixels):
            for channel in range(n_channels):
                value = x[image, pixel, channel] * scale[channel] + shift[channel]
                product = splitter * value
                value = product - (product - value)
                # NaN stays NaN.
                value = zero if value < zero else value
                y[image, pixel, channel] = _as_kept(value, y)


@kernel
def sum_gradients(x, grad, scale, shift, mean, sums, products):
    """Sum the gradients after `normalize`, alone and times the deviations.

    Parameters
    ----------
    x : numpy.ndarray
        As in `normalize`.
    grad : numpy.ndarray
        Gradient at the result, shape (images, pixels, channels).
    scale, shift : numpy.ndarray
        As in `normalize`.
    mean : numpy.ndarray
        Mean of each channel, shape (channels,).
    sums, products : numpy.ndarray
        Where to write the sums, shape (images, channels).
    """
    n_images, n_pixels, n_channels = x.shape
    zero = x.dtype.type(0)
    for image in range(n_images):
        total, product = np.zeros((2, n_channels), x.dtype)
        for pixel in range(n_pixels):
            for channel in range(n_channels):
                value = x[image, pixel, channel]
                passes = value * scale[channel] + shift[channel] > zero
                passed = grad[image, pixel, channel] if passes else zero
                total[channel] += passed
                product[channel] += passed * (value - mean[channel])
        sums[image], products[image] = total, product


@kernel
def normalize_backward(x, grad, scale, shift, slope, offset, other, grad_x):
    """Gradient of batch normalisation and ReLU.

    Parameters
    ----------
    x, grad, scale, shift : numpy.ndarray
        As in `sum_gradients`.
    slope, offset : numpy.ndarray
        What the statistics of the batch contribute, linear in ``x``, shape (channels,).
    other : numpy.ndarray
        What to add to the gradient, of its shape, with 0 channels for nothing.
    grad_x : numpy.ndarray
        Where to write the gradient, shape (images, pixels, channels).
    """
    n_images, n_pixels, n_channels = x.shape
    zero = x.dtype.type(0)
    for image in range(n_images):
        for pixel in range(n_pixels):
            for channel in range(n_channels):
                value = x[image, pixel, channel]
                passes = value * scale[channel] + shift[channel] > zero
                passed = grad[image, pixel, channel] if passes else zero
                grad_x[image, pixel, channel] = (
                    scale[channel] * passed + slope[channel] * value + offset[channel]
                )
        for pixel in range(other.shape[1]):
            for channel in range(other.shape[2]):
                grad_x[image, pixel, channel] += other[image, pixel, channel]


@kernel
def normalized_convolve(x, scale, shift, neighbors, weight, bias, shortcut, y):
    """Normalise and convolve images, one after the other.

    Parameters
    ----------
    x, scale, shift : numpy.ndarray
        As in `normalize`.
    neighbors, weight, bias : numpy.ndarray
        As in `convolve`.
    shortcut : numpy.ndarray
        What to add to the output, shape (images, outputs, at most out channels), with
        0 channels for nothing.
    y : numpy.ndarray
        As in `convolve`.
    """
    active = np.empty((1, x.shape[1], x.shape[2]), x.dtype)
    # A whole image at a time: its features stay in the processor's cache.
    for image in range(len(x)):
        part = slice(image, image + 1)
        normalize(x[part], scale, shift, 0.0, active)
        convolve(active, neighbors, weight, bias, -np.inf, 0.0, y[part])
        for pixel in range(shortcut.shape[1]):
            for channel in range(shortcut.shape[2]):
                y[image, pixel, channel] += shortcut[image, pixel, channel]


@kernel
def normalized_convolve_backward(
    x, scale, shift, mean, neighbors, targets, weight, grad,
    grad_active, total, bias_total, sums, products,
):  # fmt: skip
    """Gradients of `normalized_convolve`, up to the normalised features.

    Parameters
    ----------
    x, scale, shift : numpy.ndarray
        As in `normalize`.
    mean : numpy.ndarray
        As in `sum_gradients`.
    neighbors, targets : numpy.ndarray
        As in `convolve`, for the convolution and for its gradient.
    weight : numpy.ndarray
        Weights of the convolution that leads back, shape (taps, out channels,
        channels). Its channels fill whole vectors.
    grad : numpy.ndarray
        Gradient at the output, shape (images, outputs, out channels).
    grad_active : numpy.ndarray
        Where to write the gradient at the normalised features, shape (images, inputs,
        channels).
    total, bias_total : numpy.ndarray
        As in `weight_gradient`.
    sums, products : numpy.ndarray
        As in `sum_gradients`.
    """
    active = np.empty((1, x.shape[1], x.shape[2]), x.dtype)
    no_bias = np.zeros(weight.shape[2], x.dtype)
    for image in range(len(x)):
        part = slice(image, image + 1)
        normalize(x[part], scale, shift, 0.0, active)
        weight_gradient(active, neighbors, grad[part], total, bias_total)
        convolve(grad[part], targets, weight, no_bias, -np.inf, 0.0, grad_active[part])
        sum_gradients(
            x[part], grad_active[part], scale, shift, mean, sums[part], products[part]
        )
