"""Pixels and taps of gammalearn's convolutions, in the order of this package.

A checkpoint holds, for each convolution, the input position at each tap of each output
position. In the first one, input positions are the camera's pixels.
"""

import re

import numpy as np

from ..network.convolution import find_neighbors
from .errors import ImportedModelError

__all__ = ["Order", "find_order"]

_STRIDED = re.compile(r"block[1-9]\d*_layer1\.(conv_block\.cv1|shortcut\.cv_shortcut)$")
_FIRST = "feature.feature.cv0"


class Order:
    """How positions and taps of a checkpoint correspond to those of this package.

    Parameters
    ----------
    taps : numpy.ndarray
        The checkpoint's tap for each of ours, shape (n_taps,).
    positions : numpy.ndarray
        The checkpoint's position in the last feature maps for each of ours, shape (n,).
    """

    def __init__(self, taps, positions):
        self.taps, self.positions = taps, positions


def find_order(weights, lattice, n_stages):
    """Compare the convolutions of a checkpoint with those on a camera.

    Parameters
    ----------
    weights : dict of str to numpy.ndarray
        The checkpoint's entries.
    lattice : CameraLattice
        The camera with the order of pixels that the checkpoint was trained with.
    n_stages : int
        Number of stages.

    Returns
    -------
    Order
        The order of taps and positions.

    Raises
    ------
    ImportedModelError
        If a convolution connects other pixels than ours.
    """
    ours, _ = find_neighbors(lattice, 1)
    theirs = _neighbors(weights, _FIRST, len(lattice), ours.shape)
    # The tap in the middle is the pixel itself.
    pixel = theirs[:, ours.shape[1] // 2]
    if not np.array_equal(np.sort(pixel), np.arange(len(lattice))):
        raise ImportedModelError("its first convolution does not have each pixel once")
    where = np.argsort(pixel)[lattice.order]
    taps = _match_taps(_lookup(lattice.order, ours), theirs[where])
    for stage in range(n_stages):
        if stage > 0:
            lattice, where = _downsample(weights, stage, lattice, where, taps)
        _check_stage(weights, stage, lattice, where, taps)
    return Order(taps, where)


def _lookup(values, index):
    """Values at an index, -1 where the index is -1."""
    return np.where(index >= 0, np.asarray(values)[index], -1)


def _neighbors(weights, layer, n_inputs, shape):
    """Input at each tap of each output, -1 for none, shape (outputs, taps)."""
    try:
        indices, mask = (weights[f"{layer}.{name}"] for name in ("indices_", "mask_"))
    except KeyError as error:
        raise ImportedModelError(f"it has no {error}") from None
    if indices.shape != shape[::-1] or mask.shape != shape[::-1]:
        raise ImportedModelError(
            f"{layer} has {indices.shape[-1] if indices.ndim else 0} positions and "
            f"{len(indices) if indices.ndim else 0} taps; on this camera it must have "
            f"{shape[0]} and {shape[1]}: it was trained for another camera"
        )
    if not (
        indices.dtype.kind == "i"
        and (0 <= indices).all()
        and (indices < n_inputs).all()
        and np.isin(mask, (0, 1)).all()
    ):
        raise ImportedModelError(f"{layer} has indices of positions that do not exist")
    return np.where(mask > 0, indices, -1).T


def _match_taps(ours, theirs):
    """Find the tap that has the same pixels as each of ours."""
    same = (ours[:, :, np.newaxis] == theirs[:, np.newaxis]).all(axis=0)
    if not (same.sum(axis=0) == 1).all() or not (same.sum(axis=1) == 1).all():
        raise ImportedModelError(
            "its first convolution connects other pixels than neighbours of the "
            "camera: the camera of its training lists them in another order. Give "
            "that camera with --camera, as gammalearn's environment writes it"
        )
    return same.argmax(axis=1)


def _downsample(weights, stage, lattice, where, taps):
    """The next lattice, and the checkpoint's position at each of its positions."""
    layer = f"feature.feature.block{stage}_layer1.conv_block.cv1"
    ours, _ = find_neighbors(lattice, 2)
    theirs = _neighbors(weights, layer, len(lattice), ours.shape)
    middle = ours.shape[1] // 2
    coarse = np.full(len(lattice), -1)
    coarse[theirs[:, middle]] = np.arange(len(theirs))
    below = coarse[where[ours[:, middle]]]
    if (below < 0).any() or len(np.unique(below)) < len(below):
        raise ImportedModelError(f"its stage {stage} keeps other pixels than here")
    if not np.array_equal(theirs[below][:, taps], _lookup(where, ours)):
        raise ImportedModelError(f"{layer} connects other pixels than here")
    return lattice.downsampled(), below


def _check_stage(weights, stage, lattice, where, taps):
    """Check all convolutions of a stage."""
    prefix = f"feature.feature.block{stage}_"
    layers = [
        name.removesuffix(".indices_")
        for name in weights
        if name.startswith(prefix) and name.endswith(".indices_")
    ]
    ours, _ = find_neighbors(lattice, 1)
    expected = _lookup(where, ours)
    for layer in layers:
        if _STRIDED.search(layer):
            # The first of them was compared with ours.
            same = all(
                np.array_equal(
                    weights.get(f"{layer}.{name}"),
                    weights[f"{prefix}layer1.conv_block.cv1.{name}"],
                )
                for name in ("indices_", "mask_")
            )
        else:
            theirs = _neighbors(weights, layer, len(lattice), ours.shape)
            same = np.array_equal(theirs[where][:, taps], expected)
        if not same:
            raise ImportedModelError(f"{layer} connects other pixels than here")
