"""The innermost loops of the compiled kernels, in LLVM's vectors.

A convolution is fast if its sums stay in the processor's registers until they are
complete. Python code cannot ask numba for that, so the innermost loops are written
with LLVM's vectors.
"""

import itertools

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

__all__ = [
    "CHANNELS",
    "HAS_BFLOAT16",
    "PIXELS",
    "VECTORS",
    "VECTOR_BYTES",
    "convolve_tile",
    "weight_gradient_tile",
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
PIXELS, VECTORS = (12, 2) if _HAS_AVX512 else (6, 1)
#: Input channels whose weights' gradients are computed together.
CHANNELS = 16 if _HAS_AVX512 else 8


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
def convolve_tile(
    typing, x, zeros, neighbors, weight, bias, floor, splitter, y,
    first, channel, pixels, vectors,
):  # fmt: skip
    """Convolve one image: some pixels from the first, some vectors from a channel.

    Parameters
    ----------
    typing : numba.core.typing.Context
        Not used.
    x : numpy.ndarray
        Features, shape (inputs, channels).
    zeros : numpy.ndarray
        Features of a missing pixel, shape (channels,).
    neighbors, weight, bias : numpy.ndarray
        As in `kernels.convolve`.
    floor, splitter : float
        As in `kernels.convolve`.
    y : numpy.ndarray
        Where to write the output, shape (outputs, out channels).
    first, channel : int
        The first pixel, and the first channel.
    pixels, vectors : int
        How many; literals.

    Returns
    -------
    signature, generator
        What `numba.extending.intrinsic` wants.
    """
    arguments = (
        x, zeros, neighbors, weight, bias, floor, splitter, y,
        first, channel, pixels, vectors,
    )  # fmt: skip
    n_pixels, n_vectors = pixels.literal_value, vectors.literal_value

    def _generate(context, builder, signature, values):
        def _shape(argument, axis):
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
        taps, steps, out_channels = (_shape(3, axis) for axis in range(3))
        in_channels = _shape(0, 1)
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

    return types.void(*arguments), _generate


@intrinsic(prefer_literal=True)
def weight_gradient_tile(
    typing, x, zeros, neighbors, grad, total, tap, row, channel, channels
):
    """Add one image to the gradient of weights: one tap, some channels, one vector.

    Parameters
    ----------
    typing : numba.core.typing.Context
        Not used.
    x, zeros, neighbors : numpy.ndarray
        As in `convolve_tile`.
    grad : numpy.ndarray
        Gradient at the output, shape (outputs, out channels).
    total : numpy.ndarray
        What to add to, shape (taps, channels, out channels).
    tap, row, channel : int
        The tap, and the first of the channels in and out.
    channels : int
        How many channels in; a literal.

    Returns
    -------
    signature, generator
        What `numba.extending.intrinsic` wants.
    """
    arguments = (x, zeros, neighbors, grad, total, tap, row, channel, channels)
    n_channels = channels.literal_value

    def _generate(context, builder, signature, values):
        def _shape(argument, axis):
            array = context.make_array(arguments[argument])(
                context, builder, values[argument]
            )
            return builder.extract_value(array.shape, axis)

        x, zeros, grad, total = (
            _Memory(context, builder, arguments[i], values[i]) for i in (0, 1, 3, 4)
        )
        indices = context.make_array(arguments[2])(context, builder, values[2]).data
        tap, first, channel = values[5:8]
        taps, in_channels, out_channels = (_shape(4, axis) for axis in range(3))
        rows = [builder.add(first, _number(c)) for c in range(n_channels)]
        positions = []
        for row in rows:
            position = builder.add(builder.mul(tap, in_channels), row)
            position = builder.add(builder.mul(position, out_channels), channel)
            positions.append(position)
        sums = [cgutils.alloca_once(builder, total.vector) for _ in rows]
        for one, position in zip(sums, positions, strict=True):
            builder.store(total.load(position), one)
        with cgutils.for_range(builder, _shape(3, 0)) as pixel:
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

    return types.void(*arguments), _generate
