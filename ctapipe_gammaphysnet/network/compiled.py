"""PyTorch's view of the compiled kernels: gradients, threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from . import kernels
from .checks import check_array
from .tiles import VECTOR_BYTES

__all__ = [
    "Convolution",
    "NormalizationReLU",
    "NormalizedConvolution",
    "can_compute",
    "moments",
    "share",
]

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def can_compute(x, weight):
    """Whether the kernels can compute with these features and weights.

    Parameters
    ----------
    x, weight : torch.Tensor
        Features and weights.

    Returns
    -------
    bool
        True in single or double precision on a CPU, without autocast.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in _DTYPES
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def _threads(n, process):
    """The thread pool of all callers; a forked process needs its own."""
    return ThreadPoolExecutor(n)


def share(work, n_images):
    """Split the work on images between as many threads as PyTorch has.

    Simultaneous calls use the same threads.

    Parameters
    ----------
    work : callable
        Function of a slice of the images that releases the interpreter's lock.
    n_images : int
        Number of images.

    Returns
    -------
    list
        Its result for each part.
    """
    n_threads = torch.get_num_threads()
    n_parts = max(1, min(n_threads, n_images))
    bounds = [n_images * part // n_parts for part in range(n_parts + 1)]
    parts = [slice(*b) for b in zip(bounds, bounds[1:], strict=False)]
    if len(parts) == 1:
        return [work(parts[0])]
    return list(_threads(n_threads, os.getpid()).map(work, parts))


def _pad(values):
    """Pad the last axis with zeros to whole vectors."""
    missing = -values.shape[-1] % (VECTOR_BYTES // values.element_size())
    # Padding by nothing would copy.
    return (F.pad(values, (0, missing)) if missing else values).contiguous()


def _check(name, values, shape, dtype):
    """Check an array that compiled code will read."""
    check_array(name, values.detach().numpy(), shape, _DTYPES[dtype])


def _convolve(x, neighbors, weight, bias, n_inputs):
    """Convolve features (batch, inputs, channels).

    Weights are (taps, channels, out channels). That neighbours are below the number of
    inputs was checked when they were found.
    """
    taps, channels, out_channels = weight.shape
    _check("features", x, (None, n_inputs, channels), weight.dtype)
    _check("biases", bias, (out_channels,), weight.dtype)
    check_array("neighbors", neighbors.numpy(), (None, taps), np.int64)
    weight, bias = _pad(weight), _pad(bias)
    y = x.new_empty(len(x), len(neighbors), len(bias))
    inputs = [value.numpy() for value in (neighbors, weight, bias)]
    x, output = x.numpy(), y.numpy()
    share(
        lambda part: kernels.convolve(x[part], *inputs, -np.inf, 0.0, output[part]),
        len(x),
    )
    return y[..., :out_channels].contiguous()


def _sum_weight_gradients(x, neighbors, grad, part):
    """Gradients of weights (taps, channels, out channels) and biases by some images."""
    out_channels = grad.shape[2]
    weight = np.zeros((neighbors.shape[1], x.shape[2], out_channels), x.dtype)
    bias = np.zeros(out_channels, x.dtype)
    kernels.weight_gradient(x[part], neighbors, grad[part], weight, bias)
    return weight, bias


def _normalized_gradients(arrays, constants, part):
    """The same after a normalisation, up to which the gradient at features is written.

    ``arrays`` have a row for each image, ``constants`` have not.
    """
    x, grad, at_normalized, sums, products = (array[part] for array in arrays)
    neighbors = constants[3]
    weight = np.zeros((neighbors.shape[1], x.shape[2], grad.shape[2]), x.dtype)
    bias = np.zeros(grad.shape[2], x.dtype)
    kernels.normalized_convolve_backward(
        x, *constants, grad, at_normalized, weight, bias, sums, products
    )
    return weight, bias


class Convolution(torch.autograd.Function):
    """The convolution of features of shape (batch, pixels, channels)."""

    @staticmethod
    def forward(ctx, x, weight, bias, neighbors, targets):
        """Convolve.

        Parameters
        ----------
        ctx : torch.autograd.function.FunctionCtx
            What `backward` needs.
        x : torch.Tensor
            Features, shape (batch, inputs, channels), contiguous.
        weight : torch.Tensor
            Shape (out channels, channels, taps).
        bias : torch.Tensor
            Shape (out channels,).
        neighbors : torch.Tensor
            Input at each tap of each output, shape (outputs, taps); -1 for none.
        targets : torch.Tensor
            Output that has each input at each tap, shape (inputs, taps); -1 for none.

        Returns
        -------
        torch.Tensor
            Shape (batch, outputs, out channels).

        Raises
        ------
        ValueError
            If shapes or types do not fit each other.
        """
        ctx.save_for_backward(x, weight, neighbors, targets)
        x, weight, bias = x.detach(), weight.detach(), bias.detach()
        return _convolve(x, neighbors, weight.permute(2, 1, 0), bias, len(targets))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Gradients at features, weight and bias, from that at the result."""
        x, weight, neighbors, targets = (value.detach() for value in ctx.saved_tensors)
        out_channels, in_channels, _ = weight.shape
        grad, grad_x = grad.contiguous(), None
        shape = (len(x), len(neighbors), out_channels)
        _check("gradient", grad, shape, weight.dtype)
        if ctx.needs_input_grad[0]:
            no_bias = weight.new_zeros(in_channels)
            grad_x = _convolve(
                grad, targets, weight.permute(2, 0, 1), no_bias, len(neighbors)
            )
        grad = _pad(grad)
        arrays = x.numpy(), neighbors.numpy(), grad.numpy()
        totals, biases = zip(
            *share(lambda part: _sum_weight_gradients(*arrays, part), len(x)),
            strict=True,
        )
        grad_weight = torch.from_numpy(sum(totals))[..., :out_channels].permute(2, 1, 0)
        grad_bias = torch.from_numpy(sum(biases))[:out_channels]
        return grad_x, grad_weight, grad_bias, None, None


def moments(x):
    """Mean and variance of each channel.

    Parameters
    ----------
    x : torch.Tensor
        Features, shape (batch, pixels, channels), contiguous.

    Returns
    -------
    mean, variance : torch.Tensor
        Shape (channels,), float64; the variance with N in the denominator.
    """
    n_images, n_pixels, n_channels = x.shape
    _check("features", x, x.shape, x.dtype)
    values = x.detach().numpy()
    means, squares = np.empty((2, n_images, n_channels), values.dtype)
    share(lambda p: kernels.sum_moments(values[p], means[p], squares[p]), n_images)
    mean = means.mean(axis=0, dtype=np.float64)
    # Of a training that diverges the loss tells.
    with np.errstate(invalid="ignore"):
        variance = ((means - mean) ** 2).mean(axis=0)
    variance += squares.sum(axis=0, dtype=np.float64) / (n_images * n_pixels)
    return torch.from_numpy(mean), torch.from_numpy(variance)


def _nothing(x):
    """What to add to features or gradients if there is nothing."""
    return np.empty((len(x), 0, 0), _DTYPES[x.dtype])


class _Line:
    """A batch normalisation as a line for each channel, and its gradients.

    The arguments are those of `NormalizationReLU`.
    """

    def __init__(self, x, weight, bias, mean, variance, count):
        for values in (weight, bias, mean, variance):
            _check("normalisation", values, x.shape[2:], values.dtype)
        self._inverse, self._count = variance.double().rsqrt(), count
        self._scale = weight.detach().double() * self._inverse
        shift = bias.detach().double() - self._scale * mean
        self._mean = mean.double()
        #: Scale, shift and mean, as the kernels take them.
        self.arrays = [v.type_as(x).numpy() for v in (self._scale, shift, mean)]

    def backward(self, x, grad, sums, products, other=None):
        """Gradients at features, weight and bias.

        ``grad`` is that at the result, and may have more channels than the features;
        ``other`` one that is added to that at the features. ``sums`` and ``products``
        are those of `kernels.sum_gradients`.
        """
        sums, products = (
            torch.from_numpy(part.sum(axis=0, dtype=np.float64))
            for part in (sums, products)
        )
        slope = -self._scale * self._inverse**2 * products / self._count
        offset = -self._scale * sums / self._count - slope * self._mean
        grad_x = torch.empty_like(x)
        lines = *self.arrays[:2], *(v.type_as(x).numpy() for v in (slope, offset))
        values, output = x.numpy(), grad_x.numpy()
        other = _nothing(x) if other is None else other.numpy()
        share(
            lambda p: kernels.normalize_backward(
                values[p], grad[p], *lines, other[p], output[p]
            ),
            len(x),
        )
        return grad_x, (products * self._inverse).type_as(x), sums.type_as(x)


class NormalizationReLU(torch.autograd.Function):
    """Batch normalisation and ReLU of features of shape (batch, pixels, channels)."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, count):
        """Normalise, and set negative values to zero.

        Parameters
        ----------
        ctx : torch.autograd.function.FunctionCtx
            What `backward` needs.
        x : torch.Tensor
            Features, shape (batch, pixels, channels), contiguous.
        weight, bias, mean, variance : torch.Tensor
            Shape (channels,). The variance is not zero.
        count : int or float
            Number of values from which mean and variance were computed; infinity if
            they are not from this batch.

        Returns
        -------
        torch.Tensor
            Shape (batch, pixels, channels).

        Raises
        ------
        ValueError
            If shapes or types do not fit each other.
        """
        _check("features", x, x.shape, x.dtype)
        line = _Line(x, weight, bias, mean, variance, count)
        y = torch.empty_like(x)
        values, output, lines = x.detach().numpy(), y.numpy(), line.arrays[:2]
        share(lambda p: kernels.normalize(values[p], *lines, 0.0, output[p]), len(x))
        ctx.save_for_backward(x)
        ctx.line = line
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Gradients at features, weight and bias, from that at the result."""
        x, grad, lines = ctx.saved_tensors[0].detach(), grad.contiguous(), ctx.line
        _check("gradient", grad, x.shape, x.dtype)
        values, gradient = x.numpy(), grad.numpy()
        sums, products = np.empty((2, len(x), x.shape[2]), values.dtype)
        share(
            lambda p: kernels.sum_gradients(
                values[p], gradient[p], *lines.arrays, sums[p], products[p]
            ),
            len(x),
        )
        return *lines.backward(x, gradient, sums, products), None, None, None


class NormalizedConvolution(torch.autograd.Function):
    """`NormalizationReLU`, `Convolution`, and sums with shortcuts.

    An image passes through all of them while it is in the processor's cache. What lies
    between them is not kept for the gradients, but computed again, which takes less
    time than to fetch it from memory.
    """

    @staticmethod
    def forward(
        ctx, x, norm_weight, norm_bias, mean, variance, count,
        weight, bias, neighbors, targets, shortcut,
    ):  # fmt: skip
        """Normalise, set negative values to zero, and convolve.

        Parameters
        ----------
        ctx : torch.autograd.function.FunctionCtx
            What `backward` needs.
        x, norm_weight, norm_bias, mean, variance, count
            As for `NormalizationReLU`.
        weight, bias, neighbors, targets : torch.Tensor
            As for `Convolution`.
        shortcut : torch.Tensor or None
            What to add, of the result's shape, contiguous.

        Returns
        -------
        y, x : torch.Tensor
            The result, shape (batch, outputs, out channels), and the features as they
            were: if they are used as a shortcut from here on, both their gradients are
            summed at once.

        Raises
        ------
        ValueError
            If shapes or types do not fit each other.
        """
        line = _Line(x, norm_weight, norm_bias, mean, variance, count)
        out_channels, in_channels, taps = weight.shape
        shape = (len(x), len(neighbors), out_channels)
        _check("features", x, (None, len(targets), in_channels), weight.dtype)
        _check("biases", bias, (out_channels,), weight.dtype)
        check_array("neighbors", neighbors.numpy(), (None, taps), np.int64)
        added = _nothing(x)
        if shortcut is not None:
            _check("shortcut", shortcut, shape, weight.dtype)
            added = shortcut.detach().numpy()
        ctx.save_for_backward(x, weight, neighbors, targets)
        ctx.line, ctx.has_shortcut = line, shortcut is not None
        ctx.set_materialize_grads(False)
        padded = _pad(weight.detach().permute(2, 1, 0)), _pad(bias.detach())
        y = x.new_empty(*shape[:2], len(padded[1]))
        arrays = [value.numpy() for value in (neighbors, *padded)]
        values, output = x.detach().numpy(), y.numpy()
        share(
            lambda p: kernels.normalized_convolve(
                values[p], *line.arrays[:2], *arrays, added[p], output[p]
            ),
            len(x),
        )
        return y[..., :out_channels].contiguous(), x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_passed):
        """Gradients at features, weights and shortcut, from those at the results."""
        x, weight, neighbors, targets = (value.detach() for value in ctx.saved_tensors)
        out_channels, in_channels, taps = weight.shape
        shape = (len(x), len(neighbors), out_channels)
        grad = x.new_zeros(shape) if grad is None else grad.contiguous()
        _check("gradient", grad, shape, weight.dtype)
        if grad_passed is not None:
            grad_passed = grad_passed.contiguous()
            _check("gradient", grad_passed, x.shape, weight.dtype)
        gradient, back = _pad(grad), _pad(weight.permute(2, 0, 1))
        back = F.pad(back, (0, 0, 0, gradient.shape[2] - out_channels))
        tables = [table.numpy() for table in (neighbors, targets)]
        values, gradient, back = (v.numpy() for v in (x, gradient, back))
        at_normalized = np.empty((*x.shape[:2], back.shape[2]), values.dtype)
        sums, products = np.empty((2, len(x), in_channels), values.dtype)
        arrays = values, gradient, at_normalized, sums, products
        constants = *ctx.line.arrays, *tables, back
        parts = share(lambda p: _normalized_gradients(arrays, constants, p), len(x))
        totals, biases = zip(*parts, strict=True)
        of_norm = ctx.line.backward(x, at_normalized, sums, products, grad_passed)
        grad_weight = torch.from_numpy(sum(totals))[..., :out_channels].permute(2, 1, 0)
        grad_bias = torch.from_numpy(sum(biases))[:out_channels]
        of_shortcut = grad if ctx.has_shortcut else None
        return (
            *of_norm, None, None, None, grad_weight, grad_bias, None, None, of_shortcut
        )  # fmt: skip
