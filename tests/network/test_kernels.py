"""The compiled code on processors that cannot do what this one can."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from processor import FLAGS, needs_bfloat16

from ctapipe_gammaphysnet.network import kernels, tiles

#: Convolves as processors without AVX, which have no instruction that multiplies and
#: adds. A function of the C library in its place would be some twenty times slower.
PROGRAM = """
import numpy as np
from llvmlite import binding

binding.get_host_cpu_features = dict
from ctapipe_gammaphysnet.network import kernels

rng = np.random.default_rng(0)
x = rng.normal(size=(2, 20, 3))
neighbors = rng.integers(-1, 20, size=(15, 7))
weight = rng.normal(size=(7, 3, 16))
bias = rng.normal(size=16)
y = np.empty((2, 15, 16))
kernels.convolve(x, neighbors, weight, bias, -np.inf, 0, y)

(code,) = kernels.convolve.inspect_asm().values()
assert "mulpd" in code
assert "fma" not in code
pixels = np.where((neighbors >= 0)[..., np.newaxis], x[:, neighbors], 0)
expected = np.einsum("iotc,tcd->iod", pixels, weight) + bias
np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)

kernels.convolve(x, neighbors, weight, bias, 0, 0, y)
np.testing.assert_allclose(y, np.maximum(expected, 0), rtol=0, atol=1e-12)
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="for processors like Intel's"
)
def test_old_processors_multiply_and_add_one_after_the_other(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "+sse4.2",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env=environment)


@pytest.mark.parametrize("floor", [-np.inf, 0])
@pytest.mark.parametrize("n_outputs", [1, 30])
def test_outputs_are_rounded_to_bfloat16(n_outputs, floor):
    rng = np.random.default_rng(0)
    # Products that float32 adds up without rounding.
    x, weight = (
        rng.integers(-99, 99, size=shape).astype(np.float32)
        for shape in ((3, 20, 5), (7, 5, 32))
    )
    bias = weight[0, 0]
    neighbors = rng.integers(-1, 20, size=(n_outputs, 7))
    exact, rounded = np.empty((2, 3, n_outputs, 32), np.float32)
    splitter = kernels.bfloat16_splitter(x.dtype)
    kernels.convolve(x, neighbors, weight, bias, floor, 0, exact)
    kernels.convolve(x, neighbors, weight, bias, floor, splitter, rounded)
    assert_rounded(exact, rounded)


def test_normalized_features_are_rounded_to_bfloat16():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 20, 16)).astype(np.float32)
    line = rng.normal(size=(2, 16)).astype(np.float32)
    exact, rounded = np.empty((2, *x.shape), np.float32)
    kernels.normalize(x, *line, 0, exact)
    kernels.normalize(x, *line, kernels.bfloat16_splitter(x.dtype), rounded)
    assert_rounded(exact, rounded)


def test_bits_of_normalized_features_are_those_of_bfloat16():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 20, 16)).astype(np.float32)
    # A tie to the even number below and above, what becomes infinite, and no number.
    x[0, 0, :4] = 1 + 2**-8, 1 + 3 * 2**-8, np.finfo(np.float32).max, np.nan
    line = np.array([[1] * 16, [0] * 16], np.float32)
    bits = np.empty(x.shape, np.uint16)
    kernels.normalize(x, *line, 0, bits)
    expected = torch.from_numpy(x).relu().bfloat16()
    found = torch.from_numpy(bits).view(torch.bfloat16)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_pairs_have_the_bits_of_both_channels():
    weight = torch.randn(7, 6, 32).bfloat16()
    pairs = kernels.bfloat16_pairs(weight.float().numpy())
    assert pairs.shape == (7, 3, 32)
    assert pairs.dtype == np.int32
    # The first of two channels is in the lower half, as in memory.
    low, high = pairs.astype(np.uint32) & 0xFFFF, pairs.astype(np.uint32) >> 16
    bits = np.stack([low, high], axis=2).reshape(7, 6, 32).astype(np.uint16)
    np.testing.assert_array_equal(bits, weight.view(torch.uint16).numpy())


@pytest.mark.skipif(FLAGS is None, reason="the system does not tell")
def test_units_for_bfloat16_are_found():
    assert tiles.HAS_BFLOAT16 == ("avx512_bf16" in FLAGS)


@needs_bfloat16
@pytest.mark.parametrize("floor", [-np.inf, 0])
@pytest.mark.parametrize("channels", [(16, 16), (32, 64)])
@pytest.mark.parametrize("n_outputs", [1, 30])
def test_units_for_bfloat16_multiply_and_add(n_outputs, channels, floor):
    rng = np.random.default_rng(0)
    # Products that float32 adds up without rounding.
    x, weight = (
        rng.integers(-99, 99, size=shape).astype(np.float32)
        for shape in ((3, 20, channels[0]), (7, *channels))
    )
    bias = weight[0, 0]
    neighbors = rng.integers(-1, 20, size=(n_outputs, 7))
    expected, found = np.empty((2, 3, n_outputs, channels[1]), np.float32)
    kernels.convolve(x, neighbors, weight, bias, floor, 0, expected)
    arguments = (
        (x.view(np.uint32) >> 16).astype(np.uint16),
        neighbors,
        kernels.bfloat16_pairs(weight),
        bias,
        floor,
        0,
    )
    kernels.convolve(*arguments, found)
    np.testing.assert_array_equal(found, expected)
    bits = np.empty(found.shape, np.uint16)
    kernels.convolve(*arguments, bits)
    assert_rounded(expected, (bits.astype(np.uint32) << 16).view(np.float32))


def assert_rounded(exact, rounded):
    expected = torch.from_numpy(exact).bfloat16().float().numpy()
    np.testing.assert_array_equal(rounded, expected)
    assert (rounded != exact).mean() > 0.3
