"""The backbone for inference on a CPU: the same features, without what training needs.

Normalisations after a convolution are part of its weights, which are laid out once, as
the compiled code reads them. Images go through each stage one by one.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import backbone_kernel, kernels, tiles
from .attention import DualAttention
from .checks import check_array, check_table
from .compiled import share
from .folding import fold, line
from .resnet import ResidualBlock

__all__ = ["InferenceBackbone"]

#: Images that a thread computes at once. Few, so that a thread with less of the
#: processor can take fewer, and all finish at about the same time.
_IMAGES = 8


class InferenceBackbone:
    """A network's `features` in evaluation mode.

    Parameters
    ----------
    network : GammaPhysNet
        On a CPU, with the lattice engine, in single or double precision. Its weights
        are copied: later changes have no effect.
    bfloat16 : bool
        Whether to round the factors in the convolutions of the residual blocks to
        bfloat16: features and weights, the normalisation included. Sums and everything
        else are computed in the precision of the weights.
    """

    def __init__(self, network, bfloat16=False):
        backbone = network.backbone
        self._channels = backbone.out_channels
        with torch.no_grad():
            neighbors = network.stem_neighbors.numpy()
            stem = neighbors, *_convolution(backbone.stem[0], n_filled=1)
            stages = tuple(_stage(stage, bfloat16) for stage in backbone.stages)
        self._n_pixels, self._dtype = len(network.order), stem[-1].dtype
        self._shape = _check_arguments(stem, stages, self._n_pixels)
        self._arguments = stem, stages, *_rounding(self._dtype, bfloat16)

    def __call__(self, images):
        """Compute features, as in `GammaPhysNet.features`.

        Images must be of the weights' dtype: others are a ValueError.
        """
        shape = (None, 2, self._n_pixels)
        check_array("images", images.contiguous().numpy(), shape, self._dtype)
        pixels = np.ascontiguousarray(images.transpose(1, 2).numpy())
        n_images = len(pixels)
        features = np.empty((n_images, *self._shape), self._dtype)
        per_thread = math.ceil(n_images / torch.get_num_threads())
        step = max(1, min(_IMAGES, per_thread))
        starts = iter(range(0, n_images, step))

        def compute(_):
            # Whichever thread is ready takes the next images.
            for start in starts:
                part = slice(start, start + step)
                backbone_kernel.backbone(pixels[part], *self._arguments, features[part])

        share(compute, n_images)
        return torch.from_numpy(features[..., : self._channels]).transpose(1, 2)


def _has_units(dtype, bfloat16):
    """Whether the processor itself multiplies bfloat16, and adds up in this type."""
    return bfloat16 and dtype == np.float32 and tiles.HAS_BFLOAT16


def _rounding(dtype, bfloat16):
    """Splitter, and an empty array of the type of the factors, as the kernel wants."""
    if _has_units(dtype, bfloat16):
        return 0.0, np.empty(0, np.uint16)
    splitter = kernels.bfloat16_splitter(dtype) if bfloat16 else 0.0
    return splitter, np.empty(0, dtype)


def _stage(stage, bfloat16):
    """Strided block, residual blocks and attention as the kernel takes them."""
    blocks = [module for module in stage if isinstance(module, ResidualBlock)]
    _, _, convolution = blocks[0].conv2
    dtype = convolution.weight.detach().numpy().dtype
    of_weights = np.dtype(np.int32) if _has_units(dtype, bfloat16) else dtype
    dtypes = dtype, dtype, of_weights, dtype, of_weights, dtype
    strided = _nothing(2, (2, 2, 4, 2, 3, 1), dtypes)
    if not isinstance(blocks[0].shortcut, nn.Identity):
        strided = _strided_block(blocks.pop(0), bfloat16)
    attention = _nothing(1, (2, 1, 2, 1, 3, 1, 1, 1), [dtype] * 8)
    if isinstance(stage[-1], DualAttention):
        attention = _attention(stage[-1], len(convolution.neighbors))
    return strided, _residual_blocks(blocks, convolution, bfloat16), attention


def _check_arguments(stem, stages, n_pixels):
    """Check all arguments of the kernel but the images; return the features' shape."""
    neighbors, weight, bias = stem
    taps, _, channels = weight.shape
    n_positions = len(neighbors)
    check_table("neighbors", neighbors, (n_positions, taps), n_pixels)
    _check_weights((weight, bias), ((taps, 2, channels), (channels,)), weight.dtype)
    for strided, blocks, attention in stages:
        if strided[0].size > 0:
            n_positions, channels = _check_strided(
                strided, taps, n_positions, channels, weight.dtype
            )
        _check_blocks(blocks, taps, n_positions, channels, weight.dtype)
        if attention[0].size > 0:
            _check_attention(attention, n_positions, channels, weight.dtype)
    return n_positions, channels


def _check_weights(arrays, shapes, dtype):
    for array, shape in zip(arrays, shapes, strict=True):
        if array.dtype == np.int32 and len(shape) > 2:
            # Pairs of bfloat16: a vector has as many of them as of float32.
            halved = *shape[:-2], shape[-2] // 2, shape[-1]
            check_array("weights", array, halved, np.int32)
        else:
            check_array("weights", array, shape, dtype)
        # A convolution writes whole vectors.
        if len(shape) > 2 and shape[-1] * dtype.itemsize % tiles.VECTOR_BYTES > 0:
            raise ValueError(f"{shape[-1]} channels of {dtype} are not whole vectors")


def _check_strided(arguments, taps, n_inputs, channels, dtype):
    strided, neighbors, *weights = arguments
    n_positions, width = len(strided), weights[-1].size
    check_table("strided", strided, (n_positions, taps), n_inputs)
    check_table("neighbors", neighbors, (n_positions, taps), n_positions)
    shapes = (
        (2, channels),
        (2, channels),
        (2, taps, channels, width),
        (2, width),
        (taps, width, width),
        (width,),
    )
    _check_weights(weights, shapes, dtype)
    return n_positions, width


def _check_blocks(arguments, taps, n_positions, channels, dtype):
    neighbors, *weights = arguments
    n = len(weights[0])
    check_table("neighbors", neighbors, (n_positions, taps), n_positions)
    shapes = (
        (n, channels),
        (n, channels),
        (n, 2, taps, channels, channels),
        (n, 2, channels),
    )
    _check_weights(weights, shapes, dtype)


def _check_attention(arguments, n_positions, channels, dtype):
    itself, *weights = arguments
    bottleneck, hidden = len(weights[0]), len(weights[-2])
    check_table("itself", itself, (n_positions, 1), n_positions)
    shapes = (
        (bottleneck, channels),
        (bottleneck,),
        (bottleneck, channels),
        (channels,),
        (1, channels, hidden),
        (hidden,),
        (hidden,),
        (1,),
    )
    _check_weights(weights, shapes, dtype)


def _nothing(n_tables, axes, dtypes):
    """Arguments for a part that a stage lacks: compiled code knows no "None"."""
    tables = [np.empty((0, 0), np.int64)] * n_tables
    arrays = zip(axes, dtypes, strict=True)
    return *tables, *(np.empty((0,) * n, dtype) for n, dtype in arrays)


def _fill(values, dtype, n_axes=1):
    """Pad the last axes with zeros to whole vectors, as an array."""
    values = values.to(dtype)
    lanes = tiles.VECTOR_BYTES // values.element_size()
    missing = [(0, -length % lanes) for length in reversed(values.shape[-n_axes:])]
    return F.pad(values, sum(missing, ())).contiguous().numpy()


def _normalization(norm):
    return [_fill(values, norm.weight.dtype) for values in line(norm)]


def _convolution(convolution, norm=None, bfloat16=False, n_filled=2):
    """Weights and biases, with the normalisation that follows."""
    weight, bias = fold(convolution, norm)
    if bfloat16:
        weight = weight.bfloat16()
    dtype = convolution.weight.dtype
    weight, bias = _fill(weight, dtype, n_filled), _fill(bias, dtype)
    if _has_units(bias.dtype, bfloat16):
        weight = kernels.bfloat16_pairs(weight)
    return weight, bias


def _residual_blocks(blocks, convolution, bfloat16):
    """Arguments of the kernel; the convolution is like those of the blocks."""
    weight, bias = _convolution(convolution, bfloat16=bfloat16)
    n = len(blocks)
    scales = np.ones((n, len(bias)), bias.dtype)
    shifts = np.zeros_like(scales)
    weights = _aligned((n, 2, *weight.shape), weight.dtype)
    biases = _aligned((n, 2, len(bias)), bias.dtype)
    for i, block in enumerate(blocks):
        first = block.conv1
        if isinstance(first, nn.Sequential):
            norm, _, first = first
            scales[i], shifts[i] = _normalization(norm)
        # Otherwise the input is activated: activating it again does not change it.
        norm, _, second = block.conv2
        weights[i, 0], biases[i, 0] = _convolution(first, norm, bfloat16)
        weights[i, 1], biases[i, 1] = _convolution(second, bfloat16=bfloat16)
    return convolution.neighbors.numpy(), scales, shifts, weights, biases


def _strided_block(block, bfloat16):
    norm, _, first = block.conv1
    hidden_norm, _, second = block.conv2
    shortcut_norm, _, shortcut = block.shortcut
    return (
        first.neighbors.numpy(),
        second.neighbors.numpy(),
        *_stacked(_normalization(norm), _normalization(shortcut_norm)),
        *_stacked(
            _convolution(first, hidden_norm, bfloat16),
            _convolution(shortcut, bfloat16=bfloat16),
        ),
        *_convolution(second, bfloat16=bfloat16),
    )


def _stacked(one, other):
    return [
        np.stack(pair, out=_aligned((2, *pair[0].shape), pair[0].dtype))
        for pair in zip(one, other, strict=True)
    ]


def _aligned(shape, dtype):
    """Memory aligned to the processor's cache lines, as PyTorch's is."""
    n_bytes = math.prod(shape) * dtype.itemsize
    return torch.empty(n_bytes, dtype=torch.uint8).numpy().view(dtype).reshape(shape)


def _attention(attention, n_pixels):
    channel, spatial = attention.channel, attention.spatial
    dtype = spatial.compress.weight.dtype
    scale, shift = line(spatial.norm)
    compress = spatial.compress.weight.double().T * scale
    return (
        np.arange(n_pixels)[:, np.newaxis],
        _fill(channel.squeeze.weight, dtype),
        channel.squeeze.bias.numpy().copy(),
        _fill(channel.excite.weight.T, dtype),
        _fill(channel.excite.bias, dtype),
        _fill(compress.unsqueeze(0), dtype, 2),
        _fill(shift, dtype),
        _fill(spatial.score.weight[0], dtype),
        spatial.score.bias.numpy().copy(),
    )
