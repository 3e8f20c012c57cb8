"""The backbone for inference on a GPU: the same features, in few passes over memory.

As on a CPU, normalisations after a convolution are part of its weights, and bfloat16
rounds only the factors in the convolutions of residual blocks. A convolution writes its
sums and the activated input of the next one. Starting a program takes as long as
computing some images, so the sequence of programs is recorded for a number of images,
and then started as a whole (a CUDA graph).
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from ..announce import warn_once
from . import folding
from .attention import DualAttention
from .checks import check_table
from .resnet import ResidualBlock

__all__ = ["GPUBackbone", "gpu_backbone"]

#: Pixels of a program, and groups of 32 threads that split them.
_BLOCK, _WARPS = 64, 4
#: Smallest number of channels for the matrix units.
_FEWEST_CHANNELS = 16
#: How they multiply single precision: three products of TensorFloat-32, whose sum is as
#: exact.
_PRECISION = "tf32x3"
#: More images than this keep the GPU busy even if programs are started one by one.
_MOST_RECORDED = 512


def gpu_backbone(network, bfloat16):
    """Make the backbone for inference on a GPU, if that is possible.

    Parameters
    ----------
    network : GammaPhysNet
        On a GPU, with the lattice engine, in single precision.
    bfloat16 : bool
        See `GPUBackbone`.

    Returns
    -------
    GPUBackbone or None
        None if the GPU is too old for it, or programs for it cannot be compiled here; a
        warning says why, and that prediction is slower.
    """
    device = network.order.device
    try:
        _check_generation(device)
        backbone = GPUBackbone(network, bfloat16)
        backbone(torch.zeros(1, 2, len(network.order), device=device))
    # Whatever keeps Triton from compiling: no C compiler, no folder for the result, a
    # driver that does not fit.
    except Exception as error:
        warn_once(
            "The network cannot be compiled for the GPU, and PyTorch computes it, "
            f"several times slower: {error}"
        )
        return None
    return backbone


def _check_generation(device):
    """Check that Triton knows the GPU."""
    if torch.version.cuda is None or torch.cuda.get_device_capability(device) < (8, 0):
        raise RuntimeError("it needs compute capability 8.0 or more")


class GPUBackbone:
    """A network's `features` in evaluation mode.

    Not for several threads at once.

    Parameters
    ----------
    network : GammaPhysNet
        With the lattice engine, in single precision. Its weights are copied: later
        changes have no effect.
    bfloat16 : bool
        Whether to round the factors in the convolutions of the residual blocks to
        bfloat16: features and weights, the normalisation included. Sums and everything
        else are computed in single precision.
    """

    def __init__(self, network, bfloat16=False):
        self._n_pixels, self._device = len(network.order), network.order.device
        self._dtype = torch.bfloat16 if bfloat16 else torch.float32
        backbone = network.backbone
        self._channels = backbone.out_channels
        with torch.no_grad():
            self._stem = _Convolution(
                backbone.stem[0], torch.float32, neighbors=network.stem_neighbors
            )
            self._stages = [_Stage(stage, self._dtype) for stage in backbone.stages]
        self._recorded, self._pool = {}, None

    @torch.inference_mode()
    def __call__(self, images):
        """Compute features in float32, as in `GammaPhysNet.features`.

        Images must be float32: others are a ValueError.
        """
        n_pixels = self._n_pixels
        if images.shape[1:] != (2, n_pixels) or images.dtype != torch.float32:
            raise ValueError(
                f"images must have the shape (any, 2, {n_pixels}) in float32, got "
                f"{tuple(images.shape)} in {images.dtype}"
            )
        if self._device.type == "cpu":  # of Triton's interpreter
            return self._compute(images)
        with torch.cuda.device(self._device):
            return self._run(images)

    def _run(self, images):
        """Compute features, if possible with a recorded graph."""
        n_images = len(images)
        if n_images > _MOST_RECORDED:
            return self._compute(images)
        # The next power of two, so that there are few recordings.
        size = _power_of_two(n_images)
        if size not in self._recorded:
            self._recorded[size] = self._record(size)
        replay, recorded_images, features = self._recorded[size]
        recorded_images[:n_images] = images
        replay()
        return features[:n_images].clone()

    def _record(self, size):
        """Record a graph for a number of images; return it, its input and output."""
        images = torch.zeros(size, 2, self._n_pixels, device=self._device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._compute(images)  # compiles, which cannot be recorded
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # All graphs use the same memory: only one runs at a time.
        with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
            features = self._compute(images)
        self._pool = graph.pool()
        return graph.replay, images, features

    def _compute(self, images):
        x = self._stem(_fill(images.transpose(1, 2)))
        for stage in self._stages:
            x = stage(x)
        return torch.relu(x[..., : self._channels]).transpose(1, 2)


class _Stage:
    """Strided block, residual blocks and attention: from sums to sums."""

    def __init__(self, stage, dtype):
        self._dtype = dtype
        blocks = [module for module in stage if isinstance(module, ResidualBlock)]
        self._strided = None
        if not isinstance(blocks[0].shortcut, nn.Identity):
            self._strided = _StridedBlock(blocks.pop(0), dtype)
        self._lines, self._blocks = [], []
        for block in blocks:
            norm, first = None, block.conv1
            if isinstance(first, nn.Sequential):
                norm, _, first = first
            # Otherwise the input is activated: activating it again does not change it.
            hidden_norm, _, second = block.conv2
            first = _Convolution(first, dtype, hidden_norm)
            self._lines.append(first.unchanged if norm is None else _line(norm))
            self._blocks.append((first, _Convolution(second, dtype)))
        self._attention = None
        if isinstance(stage[-1], DualAttention):
            self._attention = _Attention(stage[-1])

    def __call__(self, x):
        if self._strided is not None:
            x = self._strided(x)
        if self._blocks:
            activated = _activate(x, self._lines[0], self._dtype)
        for i, (first, second) in enumerate(self._blocks, start=1):
            following = self._lines[i] if i < len(self._lines) else None
            x, activated = second.add(first(activated), x, following)
        return x if self._attention is None else self._attention(x)


class _StridedBlock:
    """The block that goes to the downsampled lattice: from sums to sums."""

    def __init__(self, block, dtype):
        self._dtype = dtype
        norm, _, first = block.conv1
        hidden_norm, _, second = block.conv2
        shortcut_norm, _, shortcut = block.shortcut
        self._first = _Convolution(first, dtype, hidden_norm)
        self._second = _Convolution(second, dtype)
        self._shortcut = _Convolution(shortcut, dtype)
        self._lines = _line(norm), _line(shortcut_norm)

    def __call__(self, x):
        activated, for_shortcut = (
            _activate(x, line, self._dtype) for line in self._lines
        )
        shortcut, _ = self._shortcut.add(for_shortcut)
        x, _ = self._second.add(self._first(activated), shortcut)
        return x


class _Convolution:
    """A convolution whose weights are laid out as the compiled program reads them.

    Parameters
    ----------
    convolution : LatticeConvolution
        The convolution.
    dtype : torch.dtype
        Type of the factors.
    norm : BatchNorm, optional
        Normalisation that follows.
    neighbors : torch.Tensor, optional
        Instead of the convolution's own, for inputs in another order.
    """

    def __init__(self, convolution, dtype, norm=None, neighbors=None):
        weight, bias = folding.fold(convolution, norm)
        weight = _fill(_fill(weight).transpose(1, 2)).transpose(1, 2)
        self._weight = weight.to(dtype).contiguous()
        self._bias = _fill(bias).float()
        self._taps, self._in_channels, self._out_channels = weight.shape
        neighbors = convolution.neighbors if neighbors is None else neighbors
        self._n_inputs, self._n_outputs = len(convolution.targets), len(neighbors)
        shape = self._n_outputs, self._taps
        check_table("neighbors", neighbors.cpu().numpy(), shape, self._n_inputs)
        self._neighbors = neighbors.T.to(torch.int32).contiguous()
        self.unchanged = torch.ones_like(self._bias), torch.zeros_like(self._bias)

    def __call__(self, features):
        """Convolve, then normalise and activate: the input of the next one."""
        return self._convolve(features, None, None, keep=False)[1]

    def add(self, features, added=None, following=None):
        """Convolve and add; return the sums, and the input of the next one.

        Parameters
        ----------
        features : torch.Tensor
            Shape (n, inputs, in channels).
        added : torch.Tensor, optional
            Shape (n, outputs, out channels), float32.
        following : tuple of torch.Tensor, optional
            Scale and shift of the normalisation that comes next.

        Returns
        -------
        sums : torch.Tensor
            Shape (n, outputs, out channels), float32.
        activated : torch.Tensor
            The same, normalised and activated, of the features' type.
        """
        return self._convolve(features, added, following, keep=True)

    def _convolve(self, features, added, following, keep):
        # Imported here: where there is no GPU there may be no Triton.
        from .triton_kernels import convolve

        n = len(features)
        if features.shape != (n, self._n_inputs, self._in_channels):
            raise ValueError(f"features have the shape {tuple(features.shape)}")
        features = features.contiguous()
        shape = n, self._n_outputs, self._out_channels
        activated = features.new_empty(shape)
        sums = features.new_empty(shape, dtype=torch.float32) if keep else activated
        scale, shift = following or self.unchanged
        convolve[(math.ceil(self._n_outputs / _BLOCK) * n,)](
            features,
            self._neighbors,
            self._weight,
            self._bias,
            sums if added is None else added.contiguous(),
            scale,
            shift,
            sums,
            activated,
            self._n_inputs,
            self._n_outputs,
            C_IN=self._in_channels,
            C_OUT=self._out_channels,
            TAPS=self._taps,
            ADD=added is not None,
            KEEP=keep,
            BLOCK=_BLOCK,
            PRECISION=_PRECISION,
            num_warps=_WARPS,
        )
        return sums, activated


class _Attention:
    """Dual attention: from sums to sums."""

    def __init__(self, attention):
        spatial = attention.spatial
        self._n_channels = attention.channel.squeeze.in_features
        scale, shift = folding.line(spatial.norm)
        compress = spatial.compress.weight.double().T * scale
        self._compress, self._shift = compress.float(), shift.float()
        self._score = copy.deepcopy(spatial.score)
        self._channel = copy.deepcopy(attention.channel)

    def __call__(self, x):
        n_filled = x.shape[2]
        x = x[..., : self._n_channels]
        channel = self._channel(x.transpose(1, 2)).transpose(1, 2)
        hidden = torch.relu(x @ self._compress + self._shift)
        spatial = torch.sigmoid(self._score(hidden)) + 1
        return F.pad(x * channel * spatial, (0, n_filled - self._n_channels))


def _line(norm):
    """Scale and shift of each channel by a normalisation, padded for programs."""
    return tuple(_fill(values).float() for values in folding.line(norm))


def _activate(x, line, dtype):
    scale, shift = line
    return torch.relu(torch.addcmul(shift, x, scale)).to(dtype)


def _fill(values):
    """Pad channels, the last axis, with zeros to as many as matrix units multiply."""
    n = values.shape[-1]
    return F.pad(values, (0, max(_FEWEST_CHANNELS, _power_of_two(n)) - n))


def _power_of_two(n):
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()
