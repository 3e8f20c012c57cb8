"""Names, shapes and order of gammalearn's weights, as those of this package."""

import re
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from ..network import NetworkConfig, parameter_shapes
from .errors import ImportedModelError
from .pixels import find_order

__all__ = ["convert_weights", "describe_network"]

_CONVOLUTION = re.compile(
    r"feature\.feature\.block(\d{1,3})_layer(\d{1,3})\.conv_block\.cv1\.weight"
)
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_LINEAR = ("weight", "bias")
_FEATURES = "feature.feature."
#: Our tasks, by the entries that show that a network has them.
_HEADS = {
    "energy": "energy.en_out.weight",
    "direction": "direction.weight",
    "impact": "impact.weight",
    "class": "classifier.weight",
}


class _Kind(NamedTuple):
    """Entries of one layer: its parameters, and how they are reordered."""

    names: tuple[str, ...]
    how: str


_AS_IT_IS = {
    "norm": _Kind(_NORM, "same"),
    "linear": _Kind(_LINEAR, "same"),
    "conv": _Kind(_LINEAR, "taps"),
    "local": _Kind(_LINEAR, "positions"),
    "class": _Kind(_LINEAR, "classes"),
    "pixelwise": _Kind(_LINEAR, "pixelwise"),
    "pixelwise without bias": _Kind(("weight",), "pixelwise"),
}


def describe_network(weights, classes):
    """Find the hyperparameters of a network in its weights.

    Parameters
    ----------
    weights : dict of str to numpy.ndarray
        The checkpoint's entries.
    classes : sequence of str
        The network's classes, in the order of this package.

    Returns
    -------
    NetworkConfig
        The hyperparameters.

    Raises
    ------
    ImportedModelError
        If it is not a γ-PhysNet of indexed convolutions.
    """
    stem = weights.get(f"{_FEATURES}cv0.weight")
    _check_kind(weights, stem)
    blocks = {}
    for name in weights:
        if match := _CONVOLUTION.fullmatch(name):
            stage, block = map(int, match.groups())
            blocks.setdefault(stage, set()).add(block)
    n_blocks = len(blocks.get(0, ()))
    expected = {stage: set(range(1, n_blocks + 1)) for stage in range(len(blocks))}
    if not n_blocks or blocks != expected:
        raise ImportedModelError("its stages do not have the same number of blocks")
    try:
        return NetworkConfig(
            blocks=n_blocks,
            channels=tuple(_channels(weights, stage) for stage in range(len(blocks))),
            tasks=tuple(task for task, name in _HEADS.items() if name in weights),
            classes=tuple(classes),
            **_widths(weights),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ImportedModelError(
            f"its {first['loc'][0] if first['loc'] else 'network'} cannot be used: "
            f"{first['msg']}"
        ) from None


def _check_kind(weights, stem):
    if any(name.startswith(("main_task_model.", "conditional_")) for name in weights):
        raise ImportedModelError(
            "it is a ConditionalGammaPhysNet, whose normalisation depends on the noise"
        )
    if stem is None:
        raise ImportedModelError(
            f"it is not a GammaPhysNet: it has no {_FEATURES}cv0.weight, but "
            f"{min(weights)}"
        )
    if stem.ndim == 4:
        raise ImportedModelError(
            "its images are resampled to square pixels (ordinary convolutions). Only "
            "networks of indexed convolutions can be imported"
        )
    if stem.ndim != 3 or stem.shape[1] != 2:
        raise ImportedModelError(
            f"its first weights have the shape {stem.shape}: their input is not charge "
            "and peak time"
        )


def _rows(weights, name):
    return len(weights[name]) if weights[name].ndim else 0


def _channels(weights, stage):
    return _rows(weights, f"{_FEATURES}block{stage}_layer1.conv_block.cv1.weight")


def _widths(weights):
    """Width of the hidden layers, and whether there is attention and how much."""
    widths = {"attention": False}
    for name in ("energy.en_layer1.weight", "fusion.weight"):
        if name in weights:
            widths["hidden"] = _rows(weights, name)
    squeeze = weights.get(f"{_FEATURES}attention_block0.se_module.reduction.weight")
    if squeeze is not None:
        if squeeze.ndim != 2 or not squeeze.size:
            raise ImportedModelError(f"its attention has the shape {squeeze.shape}")
        widths |= {
            "attention": True,
            "attention_ratio": squeeze.shape[1] // squeeze.shape[0],
        }
    return widths


def convert_weights(weights, config, lattice, camera, class_order):
    """Convert the weights of a network.

    Parameters
    ----------
    weights : dict of str to numpy.ndarray
        The checkpoint's entries.
    config : NetworkConfig
        The network, as `describe_network` returns it.
    lattice : CameraLattice
        The camera of the training, with its order of pixels.
    camera : CameraCard
        The camera of the model, whose pixels lie on the same lattice.
    class_order : sequence of int
        The checkpoint's class for each of ours.

    Returns
    -------
    dict of str to numpy.ndarray
        The weights of this package's network.

    Raises
    ------
    ImportedModelError
        If entries are unknown, missing, or of a wrong shape.
    """
    order = find_order(weights, lattice, len(config.channels))
    reorder = {
        "same": lambda values: values,
        "taps": lambda values: values[:, :, order.taps] if values.ndim == 3 else values,
        "positions": lambda values: _reorder_positions(values, order.positions),
        "classes": lambda values: _reorder_classes(
            _reorder_positions(values, order.positions), class_order
        ),
        "pixelwise": lambda values: values[:, :, 0] if values.ndim == 3 else values,
    }
    converted, used = {}, set()
    shapes = parameter_shapes(config, camera)
    for theirs, ours, kind in _layers(config):
        names, how = _AS_IT_IS[kind]
        used.update(f"{theirs}.{name}" for name in (*names, "indices_", "mask_"))
        for name in names:
            values = _entry(weights, f"{theirs}.{name}")
            values = _reordered(f"{theirs}.{name}", values, reorder[how])
            _check_shape(f"{theirs}.{name}", values, shapes[f"{ours}.{name}"])
            converted[f"{ours}.{name}"] = np.array(values, order="C")
    if unknown := sorted(weights.keys() - used):
        raise ImportedModelError(f"its entry {unknown[0]!r} is unknown")
    return converted


def _entry(weights, name):
    if name not in weights:
        raise ImportedModelError(f"it has no {name!r}")
    return weights[name]


def _reordered(name, values, reorder):
    try:
        return reorder(values)
    except ImportedModelError:
        raise
    except (IndexError, TypeError, ValueError):
        raise ImportedModelError(
            f"its {name!r} has the wrong shape {values.shape}"
        ) from None


def _check_shape(name, values, shape):
    if values.shape != shape:
        raise ImportedModelError(
            f"its {name!r} has the shape {values.shape} where {shape} is needed"
        )


def _reorder_positions(values, positions):
    """Take the local features of a linear layer to our order of positions."""
    if values.ndim == 1:
        return values
    by_channel = values.reshape(len(values), -1, len(positions))
    return by_channel[:, :, positions].reshape(len(values), -1)


def _reorder_classes(values, class_order):
    if len(values) != len(class_order):
        raise ImportedModelError(
            f"it has {len(values)} classes, but its settings name {len(class_order)}"
        )
    return values[list(class_order)]


def _layers(config):
    """All layers: their name, ours, and a key of `_AS_IT_IS`."""
    yield f"{_FEATURES}cv0", "backbone.stem.0", "conv"
    for stage in range(len(config.channels)):
        for block in range(config.blocks):
            yield from _block(stage, block)
        if config.attention:
            yield from _attention(stage, config.blocks)
    yield from _heads(config.tasks)


def _block(stage, block):
    theirs = f"{_FEATURES}block{stage}_layer{block + 1}."
    ours = f"backbone.stages.{stage}.{block}."
    if stage == block == 0:
        yield f"{theirs}conv_block.cv1", f"{ours}conv1", "conv"
    else:
        yield f"{theirs}conv_block.BatchNorm1d1", f"{ours}conv1.0", "norm"
        yield f"{theirs}conv_block.cv1", f"{ours}conv1.2", "conv"
    yield f"{theirs}conv_block.BatchNorm1d2", f"{ours}conv2.0", "norm"
    yield f"{theirs}conv_block.cv2", f"{ours}conv2.2", "conv"
    if stage > 0 and block == 0:
        yield f"{theirs}shortcut.BatchNorm1d_shortcut", f"{ours}shortcut.0", "norm"
        yield f"{theirs}shortcut.cv_shortcut", f"{ours}shortcut.2", "conv"


def _attention(stage, position):
    theirs = f"{_FEATURES}attention_block{stage}."
    ours = f"backbone.stages.{stage}.{position}."
    yield f"{theirs}se_module.reduction", f"{ours}channel.squeeze", "linear"
    yield f"{theirs}se_module.expand", f"{ours}channel.excite", "linear"
    compress = f"{theirs}spa_module.down", f"{ours}spatial.compress"
    yield *compress, "pixelwise without bias"
    yield f"{theirs}spa_module.bn", f"{ours}spatial.norm", "norm"
    yield f"{theirs}spa_module.phi", f"{ours}spatial.score", "pixelwise"


def _heads(tasks):
    if "energy" in tasks:
        yield "energy.en_layer1", "heads.energy.0", "linear"
        yield "energy.en_out", "heads.energy.2", "linear"
    if {"direction", "impact"} & set(tasks):
        yield "fusion", "geometry.0", "local"
    for task in ("direction", "impact"):
        if task in tasks:
            yield task, f"heads.{task}", "linear"
    if "class" in tasks:
        yield "classifier", "heads.class", "class"
