"""The convolution of the lattice engine as one program for GPUs.

A program takes a block of pixels of one image: it gathers their neighbours in place,
tap by tap, and multiplies them on the matrix units. It adds, normalises and activates
while the sums are in registers. Features of a pixel lie side by side.

Triton, which comes with PyTorch, compiles it for the GPU at hand. Importing this module
needs Triton.
"""

import triton
import triton.language as tl

__all__ = ["convolve"]


@triton.jit
def convolve(
    features,
    neighbors,
    weight,
    bias,
    added,
    scale,
    shift,
    sums,
    activated,
    n_inputs,
    n_outputs,
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    TAPS: tl.constexpr,
    ADD: tl.constexpr,
    KEEP: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Convolve a block of pixels of an image.

    Parameters
    ----------
    features : torch.Tensor
        Shape (n, n_inputs, C_IN), float32 or bfloat16.
    neighbors : torch.Tensor
        Position of each input, shape (TAPS, n_outputs), int32; -1 where there is none.
    weight : torch.Tensor
        Shape (TAPS, C_IN, C_OUT), of the features' type.
    bias : torch.Tensor
        Shape (C_OUT,), float32.
    added : torch.Tensor
        What is added to the sums, shape (n, n_outputs, C_OUT), float32. Not read
        without `ADD`.
    scale, shift : torch.Tensor
        Of the normalisation that comes next, shape (C_OUT,), float32.
    sums : torch.Tensor
        Written with `KEEP`, shape (n, n_outputs, C_OUT), float32.
    activated : torch.Tensor
        Written: sums, normalised, after ReLU, shape (n, n_outputs, C_OUT).
    n_inputs, n_outputs : int
        Number of positions before and after.
    C_IN, C_OUT : int
        Number of channels, powers of two from 16.
    TAPS : int
        Number of positions that are multiplied.
    ADD, KEEP : bool
        Whether to read `added`, to write `sums`.
    BLOCK : int
        Number of pixels of a program, a power of two from 16.
    PRECISION : {"ieee", "tf32", "tf32x3"}
        How float32 is multiplied.
    """
    n_blocks = tl.cdiv(n_outputs, BLOCK)
    # In 64 bits: batches have more numbers than 32 bits can count.
    image = (tl.program_id(0) // n_blocks).to(tl.int64)
    pixels = tl.program_id(0) % n_blocks * BLOCK + tl.arange(0, BLOCK)
    inside = pixels < n_outputs
    c_in = tl.arange(0, C_IN)
    c_out = tl.arange(0, C_OUT)
    features += image * n_inputs * C_IN
    total = tl.zeros((BLOCK, C_OUT), tl.float32)
    for tap in tl.static_range(TAPS):
        neighbor = tl.load(neighbors + tap * n_outputs + pixels, inside, -1)[:, None]
        gathered = tl.load(features + neighbor * C_IN + c_in, neighbor >= 0, 0.0)
        kernel = tl.load(weight + (tap * C_IN + c_in[:, None]) * C_OUT + c_out)
        total = tl.dot(gathered, kernel, total, input_precision=PRECISION)
    total += tl.load(bias + c_out)
    inside = inside[:, None]
    here = (image * n_outputs + pixels[:, None]) * C_OUT + c_out
    if ADD:
        total += tl.load(added + here, inside, 0.0)
    if KEEP:
        tl.store(sums + here, total, inside)
    total = tl.maximum(total * tl.load(scale + c_out) + tl.load(shift + c_out), 0.0)
    tl.store(activated + here, total.to(activated.dtype.element_ty), inside)
