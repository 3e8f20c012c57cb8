"""Convolution and normalisation over camera pixels, compiled for the processor.

PyTorch convolves rectangles and multiplies matrices. For the pixels of a camera, half
of a rectangle is wasted, and matrices take more time for moving data than for
arithmetic. These functions visit only the camera's pixels. Arrays are contiguous, of
shape (images, pixels, channels), so that the features of one pixel are a vector.

A convolution is fast if its sums stay in the processor's registers until they are
complete. Python code cannot ask numba for that, so the innermost loops are written
with LLVM's vectors.
"""

import itertools
import math

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic, overload

from ..numba_cache import keep_compiled

__all__ = [
    "HAS_BFLOAT16",
    "VECTOR_BYTES",
    "backbone",
    "bfloat16_pairs",
    "bfloat16_splitter",
    "convolve",
    "normalize",
    "normalize_backward",
    "normalized_convolve",
    "normalized_convolve_backward",
    "sum_gradients",
    "sum_moments",
    "weight_gradient",
]

#: Size of a vector. Processors with shorter ones use several.
VECTOR_BYTES = 64

_FEATURES = binding.get_host_cpu_features()
# How many sums are kept: AVX-512 has 32 registers of one vector, others have fewer.
_HAS_AVX512 = _FEATURES.get("avx512f", False)
#: Whether the processor multiplies bfloat16 (and numba compiles for this processor).
HAS_BFLOAT16 = _FEATURES.get("avx512bf16", False) and config.CPU_NAME is None
if HAS_BFLOAT16:
    # LLVM must read the instructions for bfloat16.
    binding.initialize_native_asmparser()
#: Pixels whose output is computed together, and vectors of each.
_PIXELS, _VECTORS = (12, 2) if _HAS_AVX512 else (6, 1)
#: Input channels whose weights' gradients are computed together.
_CHANNELS = 16 if _HAS_AVX512 else 8

_COMPILING = "Compiling the network for this machine: some seconds"

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


class _Memory:
    """Numbers and vectors at a position of an array, in LLVM."""

    def __init__(self, context, builder, array_type, array):
        number = context.get_value_type(array_type.dtype)
        self.builder = builder
        self.start = context.make_array(array_type)(context, builder, array).data
        lanes = VECTOR_BYTES * 8 // array_type.dtype.bitwidth
        self.vector = ir.VectorType(number, lanes)
        # Every lane of the mask takes the first number.
        self.mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        self.lanes = lanes

    def at(self, position, start=None):
        """Address of a number."""
        return self.builder.gep(self.start if start is None else start, [position])

    def vector_at(self, position):
        """Address of the vector that begins with a number."""
        return self.builder.bitcast(self.at(position), self.vector.as_pointer())

    def load(self, position):
        """Vector that begins at a number."""
        # Rows of an array need not begin where vectors in memory do.
        return self.builder.load(self.vector_at(position), align=4)

    def store(self, vector, position):
        """Write a vector."""
        self.builder.store(vector, self.vector_at(position), align=4)

    def repeat(self, address):
        """Vector filled with the number at an address."""
        return self.fill(self.builder.load(address))

    def fill(self, number):
        """Vector filled with one number."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(
            undefined, number, ir.Constant(ir.IntType(32), 0)
        )
        return self.builder.shuffle_vector(first, undefined, self.mask)

    def multiply_add(self, a, b, total):
        """Add to a vector of sums, at its address, the product of two vectors."""
        # Unlike "fma", it is two instructions on processors without a single one.
        name = f"llvm.fmuladd.v{self.lanes}{self.vector.element.intrinsic_name}"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.vector, [self.vector] * 3), name
        )
        total_value = self.builder.load(total)
        self.builder.store(self.builder.call(function, [a, b, total_value]), total)

    def multiply_add_pairs(self, a, b, total):
        """The same for two vectors of pairs of bfloat16: the sum of both products."""
        pairs = ir.VectorType(ir.IntType(32), self.lanes)
        function = ir.FunctionType(self.vector, [self.vector, pairs, pairs])
        # LLVM's name for this instruction, and its types, depend on the version.
        code = "vdpbf16ps $3, $2, $0"
        value = self.builder.load(total)
        value = self.builder.asm(function, code, "=v,0,v,v", [value, a, b], False)
        self.builder.store(value, total)

    def store_bfloat16(self, vector, address):
        """Round a vector of float32 to bfloat16, and write it."""
        half = ir.VectorType(ir.IntType(16), self.lanes)
        function = ir.FunctionType(half, [self.vector])
        code = "vcvtneps2bf16 $1, $0"
        rounded = self.builder.asm(function, code, "=v,v", [vector], False)
        address = self.builder.bitcast(address, half.as_pointer())
        self.builder.store(rounded, address, align=2)


def _number(value):
    return ir.Constant(ir.IntType(64), value)


@intrinsic(prefer_literal=True)
def _convolve_tile(
    typing, x, zeros, neighbors, weight, bias, floor, splitter, y,
    first, channel, pixels, vectors,
):  # fmt: skip
    """Convolve one image: some pixels from the first, some vectors from a channel.

    ``x`` (inputs, channels), ``zeros`` (channels,), ``neighbors`` (outputs, taps),
    ``weight`` (taps, channels, out channels), ``bias`` (out channels,), ``floor`` and
    ``splitter`` as in `convolve`, ``y`` (outputs, out channels); ``pixels`` and
    ``vectors`` are literals.
    """
    arguments = (
        x, zeros, neighbors, weight, bias, floor, splitter, y,
        first, channel, pixels, vectors,
    )  # fmt: skip
    n_pixels, n_vectors = pixels.literal_value, vectors.literal_value

    def generate(context, builder, signature, values):
        def shape(argument, axis):
            array = context.make_array(arguments[argument])(
                context, builder, values[argument]
            )
            return builder.extract_value(array.shape, axis)

        x, zeros, weight, bias, y = (
            _Memory(context, builder, arguments[i], values[i]) for i in (0, 1, 3, 4, 7)
        )
        in_pairs = arguments[0].dtype == types.uint16
        multiply_add = bias.multiply_add_pairs if in_pairs else bias.multiply_add
        indices = context.make_array(arguments[2])(context, builder, values[2]).data
        floor, splitter = (bias.fill(value) for value in values[5:7])
        first, channel = values[8:10]
        taps, steps, out_channels = (shape(3, axis) for axis in range(3))
        in_channels = shape(0, 1)
        columns = [
            builder.add(channel, _number(v * bias.lanes)) for v in range(n_vectors)
        ]
        rows = [builder.add(first, _number(p)) for p in range(n_pixels)]
        # LLVM keeps what is allocated here in registers.
        sums = [
            [cgutils.alloca_once(builder, bias.vector) for _ in columns] for _ in rows
        ]
        for v, column in enumerate(columns):
            start = bias.load(column)
            for p in range(n_pixels):
                builder.store(start, sums[p][v])
        with cgutils.for_range(builder, taps) as tap:
            sources = []
            for row in rows:
                position = builder.add(builder.mul(row, taps), tap.index)
                index = builder.load(builder.gep(indices, [position]))
                is_missing = builder.icmp_signed("<", index, _number(0))
                pixel = x.at(builder.mul(index, in_channels))
                source = builder.select(is_missing, zeros.start, pixel)
                if in_pairs:
                    source = builder.bitcast(source, weight.start.type)
                sources.append(source)
            with cgutils.for_range(builder, steps) as inner:
                row = builder.add(builder.mul(tap.index, steps), inner.index)
                row = builder.mul(row, out_channels)
                factors = [weight.load(builder.add(row, column)) for column in columns]
                for p, source in enumerate(sources):
                    value = weight.repeat(weight.at(inner.index, source))
                    for v, factor in enumerate(factors):
                        multiply_add(value, factor, sums[p][v])
        zero = ir.Constant(bias.vector.element, 0)
        with builder.if_then(builder.fcmp_ordered("!=", values[6], zero)):
            for total in itertools.chain(*sums):
                value = builder.load(total)
                product = builder.fmul(splitter, value)
                rest = builder.fsub(product, value)
                builder.store(builder.fsub(product, rest), total)
        for p, row in enumerate(rows):
            for v, column in enumerate(columns):
                position = builder.add(builder.mul(row, out_channels), column)
                total = builder.load(sums[p][v])
                # NaN stays NaN.
                is_low = builder.fcmp_ordered("<", total, floor)
                total = builder.select(is_low, floor, total)
                if arguments[7].dtype == types.uint16:
                    bias.store_bfloat16(total, y.at(position))
                else:
                    y.store(total, position)
        return context.get_dummy_value()

    return types.void(*arguments), generate


@intrinsic(prefer_literal=True)
def _weight_gradient_tile(
    typing, x, zeros, neighbors, grad, total, tap, row, channel, channels
):
    """Add one image to the gradient of weights: one tap, some channels, one vector.

    ``x`` (inputs, channels), ``zeros`` (channels,), ``neighbors`` (outputs, taps),
    ``grad`` (outputs, out channels), ``total`` (taps, channels, out channels);
    ``row`` and ``channel`` are the first of the channels in and out; ``channels`` is a
    literal.
    """
    arguments = (x, zeros, neighbors, grad, total, tap, row, channel, channels)
    n_channels = channels.literal_value

    def generate(context, builder, signature, values):
        def shape(argument, axis):
            array = context.make_array(arguments[argument])(
                context, builder, values[argument]
            )
            return builder.extract_value(array.shape, axis)

        x, zeros, grad, total = (
            _Memory(context, builder, arguments[i], values[i]) for i in (0, 1, 3, 4)
        )
        indices = context.make_array(arguments[2])(context, builder, values[2]).data
        tap, first, channel = values[5:8]
        taps, in_channels, out_channels = (shape(4, axis) for axis in range(3))
        rows = [builder.add(first, _number(c)) for c in range(n_channels)]
        positions = []
        for row in rows:
            position = builder.add(builder.mul(tap, in_channels), row)
            position = builder.add(builder.mul(position, out_channels), channel)
            positions.append(position)
        sums = [cgutils.alloca_once(builder, total.vector) for _ in rows]
        for one, position in zip(sums, positions, strict=True):
            builder.store(total.load(position), one)
        with cgutils.for_range(builder, shape(3, 0)) as pixel:
            position = builder.add(builder.mul(pixel.index, taps), tap)
            index = builder.load(builder.gep(indices, [position]))
            is_missing = builder.icmp_signed("<", index, _number(0))
            source = builder.select(
                is_missing, zeros.start, x.at(builder.mul(index, in_channels))
            )
            position = builder.mul(pixel.index, out_channels)
            factor = grad.load(builder.add(position, channel))
            for one, row in zip(sums, rows, strict=True):
                total.multiply_add(x.repeat(x.at(row, source)), factor, one)
        for one, position in zip(sums, positions, strict=True):
            total.store(builder.load(one), position)
        return context.get_dummy_value()

    return types.void(*arguments), generate


@keep_compiled(_COMPILING)
@njit(nogil=True)
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
            wide = channel + _VECTORS * lanes <= n_channels
            pixel = 0
            while pixel < n_outputs:
                if n_outputs < _PIXELS:
                    _convolve_tile(
                        x[image], zeros, neighbors, weight, bias, floor, splitter,
                        y[image], pixel, channel, 1, 1,
                    )  # fmt: skip
                    pixel += 1
                    continue
                # The last tile repeats some pixels of the one before.
                first = min(pixel, n_outputs - _PIXELS)
                if wide:
                    _convolve_tile(
                        x[image], zeros, neighbors, weight, bias, floor, splitter,
                        y[image], first, channel, _PIXELS, _VECTORS,
                    )  # fmt: skip
                else:
                    _convolve_tile(
                        x[image], zeros, neighbors, weight, bias, floor, splitter,
                        y[image], first, channel, _PIXELS, 1,
                    )  # fmt: skip
                pixel += _PIXELS
            channel += _VECTORS * lanes if wide and n_outputs >= _PIXELS else lanes


@keep_compiled(_COMPILING)
@njit(nogil=True)
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
                whole = row + _CHANNELS <= n_rows
                for channel in range(0, n_channels, lanes):
                    if whole:
                        _weight_gradient_tile(
                            x[image], zeros, neighbors, grad[image], total,
                            tap, row, channel, _CHANNELS,
                        )  # fmt: skip
                    else:
                        _weight_gradient_tile(
                            x[image], zeros, neighbors, grad[image], total,
                            tap, row, channel, 1,
                        )  # fmt: skip
                row += _CHANNELS if whole else 1
        # Image by image, so that rounding does not add up.
        part = np.zeros(n_channels, grad.dtype)
        for pixel in range(grad.shape[1]):
            for channel in range(n_channels):
                part[channel] += grad[image, pixel, channel]
        bias_total += part


@keep_compiled(_COMPILING)
@njit(nogil=True)
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


@keep_compiled(_COMPILING)
@njit(nogil=True)
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


@keep_compiled(_COMPILING)
@njit(nogil=True)
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


@keep_compiled(_COMPILING)
@njit(nogil=True)
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


@keep_compiled(_COMPILING)
@njit(nogil=True)
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


@keep_compiled(_COMPILING)
@njit(nogil=True)
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


@keep_compiled(_COMPILING)
@njit(nogil=True)
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
