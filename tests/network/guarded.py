"""Run the compiled code on arrays beside memory that cannot be touched.

A program: who reads or writes beside an array ends with a segmentation fault.
"""

import ctypes
import mmap
import sys

import numpy as np
import torch
import toy_sample

from ctapipe_gammaphysnet.network import (
    CameraLattice,
    GammaPhysNet,
    NetworkConfig,
    backbone_kernel,
    kernels,
    tiles,
)
from ctapipe_gammaphysnet.network.convolution import LatticeConvolution
from ctapipe_gammaphysnet.network.inference import InferenceBackbone

_LIBRARY = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0


def guarded(array, at_end):
    """Copy an array to the end, or the beginning, of memory between two guard pages."""
    n_pages = -(-max(array.nbytes, 1) // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (n_pages + 2) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    end = start + (n_pages + 1) * mmap.PAGESIZE
    for page in (start, end):
        if _LIBRARY.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, _PROT_NONE) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = mmap.PAGESIZE
    if at_end:
        offset += n_pages * mmap.PAGESIZE - array.nbytes
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def guard_all(values, at_end):
    """The same values, each array of them guarded."""
    if isinstance(values, tuple | list):
        return type(values)(guard_all(value, at_end) for value in values)
    return guarded(values, at_end) if isinstance(values, np.ndarray) else values


def compare(kernel, *arguments):
    """Check that a kernel gives the same as ever, and touches nothing else."""
    expected = [np.array(a) if isinstance(a, np.ndarray) else a for a in arguments]
    kernel(*expected)
    for at_end in (True, False):
        found = guard_all(arguments, at_end)
        kernel(*found)
        for value, array in zip(found, expected, strict=True):
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, array)


def convolution(lattice, stride):
    """Tables of a convolution, and how many pixels come out."""
    layer = LatticeConvolution(1, 1, lattice, stride)
    return layer.neighbors.numpy(), layer.targets.numpy()


def training(lattice, dtype):
    """What a step of training calls, for both strides."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(dtype)

    lanes = tiles.VECTOR_BYTES // np.dtype(dtype).itemsize
    for stride, channels, width in ((1, 3, lanes), (2, 17, 3 * lanes)):
        tables = convolution(lattice, stride)
        for table, other in (tables, tables[::-1]):
            (n_outputs, taps), n_inputs = table.shape, len(other)
            x, y = draw(3, n_inputs, channels), draw(3, n_outputs, width)
            weight, bias = draw(taps, channels, width), draw(width)
            compare(kernels.convolve, x, table, weight, bias, -np.inf, 0.0, y)
            compare(kernels.weight_gradient, x, table, y, weight, bias)
            lines, sums = draw(3, channels), draw(2, 3, channels)
            for shortcut in (y[..., :0], y[..., 1:]):
                arrays = x, *lines[:2], table, weight, bias, shortcut.copy()
                compare(kernels.normalized_convolve, *arrays, y)
            wide = -(-channels // lanes) * lanes
            back, at_normalized = draw(taps, width, wide), draw(3, n_inputs, wide)
            compare(
                kernels.normalized_convolve_backward,
                x, *lines, table, other, back, y, at_normalized, weight, bias, *sums,
            )  # fmt: skip
    for channels in (1, 17):
        x, y, z = draw(3, 3, len(lattice), channels)
        lines = draw(4, channels)
        sums = draw(2, 3, channels)
        compare(kernels.normalize, x, *lines[:2], 0.0, y)
        compare(kernels.sum_moments, x, *sums)
        compare(kernels.sum_gradients, x, y, *lines[:3], *sums)
        for other in (x, x[..., :0]):
            compare(kernels.normalize_backward, x, y, *lines, other, z)


def inference(lattice, dtype):
    """A whole backbone, as it lays out its weights."""
    for attention in (True, False):
        config = NetworkConfig(
            blocks=2, channels=(4, 18), hidden=2, attention=attention, attention_ratio=2
        )
        network = GammaPhysNet(config, lattice).to(dtype).eval()
        pixels = torch.randn(3, len(lattice), 2, dtype=dtype).numpy()
        for bfloat16 in (False, True):
            backbone = InferenceBackbone(network, bfloat16)
            features = np.empty((3, *backbone._shape), pixels.dtype)
            compare(backbone_kernel.backbone, pixels, *backbone._arguments, features)


def outside(lattice, position):
    """What must fail: a convolution whose table points beside its input."""
    neighbors, _ = convolution(lattice, 1)
    neighbors[-1, -1] = position
    x = guarded(np.ones((1, len(lattice), 16), np.float32), position > 0)
    y = np.empty_like(x)
    weight = np.ones((neighbors.shape[1], 16, 16), np.float32)
    kernels.convolve(x, neighbors, weight, weight[0, 0], -np.inf, 0.0, y)


def main(what):
    """Run one of the programs."""
    # One camera with fewer pixels than are computed together, at the last scale.
    for rings in (2, 4):
        lattice = CameraLattice.from_geometry(toy_sample.hexagonal_camera(rings))
        if what == "outside":
            outside(lattice, len(lattice))
        for dtype in (torch.float32, torch.float64):
            if what == "inference":
                inference(lattice, dtype)
            else:
                training(lattice, torch.empty(0, dtype=dtype).numpy().dtype)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1])
