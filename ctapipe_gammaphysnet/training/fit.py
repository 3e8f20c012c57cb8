"""Train one network with Lightning."""

import signal
from dataclasses import dataclass, field
from functools import partial

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..events.preparation import InputPreparation, present_pixels
from ..model.card import NetworkCard
from ..network.gammaphysnet import GammaPhysNet
from ..network.lattice import CameraLattice
from ..tasks.conditions import as_columns, conditions_of, that_need
from .augmentation import Augmentation
from .checkpoint import (
    Interrupted,
    Keeper,
    TrainingError,
    check_resumable,
    restored_signals,
)
from .hardware import quiet_lightning
from .index import EventIndex, TrainingDataError
from .module import NotFiniteError, TrainingModule
from .processes import share_batch_norms
from .progress import show_progress
from .records import write_history
from .stream import TrainingStream, ValidationStream

__all__ = ["TrainingSet", "fit"]

_LIGHTNING_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The training data of the networks for a telescope type.

    Attributes
    ----------
    paths : list of pathlib.Path
        The files, in the order of their numbers in the indices.
    training, validation : EventIndex
        The images; the latter may be empty.
    card : NetworkCard
        Telescope, architecture and input.
    lattice : CameraLattice
        The camera.
    augmentation : Augmentation
        Changes to the training images.
    initial : dict of int to dict of str to numpy.ndarray
        By the seed of the member, weights of another network to begin with. All others
        begin with random ones.
    """

    paths: list
    training: EventIndex
    validation: EventIndex
    card: NetworkCard
    lattice: CameraLattice
    augmentation: Augmentation
    initial: dict = field(default_factory=dict)


def fit(data, recipe, seed, hardware, paths, settings, report, progress):
    """Train a network from one seed.

    On the CPU of the same machine, the same seed gives the same weights, even if the
    training is interrupted and resumed.

    Parameters
    ----------
    data : TrainingSet
        The images, and the network.
    recipe : Recipe
        Epochs, batch size, learning rates, weight decay.
    seed : int
        Seed of the initial weights and of the order of the images.
    hardware : Hardware
        Where to compute.
    paths : Paths
        Paths of checkpoint and history. If the checkpoint exists, it is resumed.
    settings : dict
        Settings that must not change when a training is resumed, as JSON values.
    report : callable
        Called with the metrics after each epoch, in the first process.
    progress : callable or None
        Without a terminal for a progress bar, called with a line of text about the
        progress now and then. None: no bar and no lines.

    Returns
    -------
    weights : dict of str to numpy.ndarray
        The trained weights.
    history : list of dict of str to float
        The metrics after each epoch.
    calibration : CalibrationCard
        From the validation data, after the last epoch.
    interrupted : int or None
        Number of the signal that interrupted the training, SIGINT (Ctrl-C) or SIGTERM;
        None if it is complete.

    Raises
    ------
    TrainingError
        If the loss or a weight is not finite, or a checkpoint cannot be written or is
        from another training.
    TrainingDataError
        If all pixels of an image are missing.
    """
    torch.manual_seed(seed)
    module = TrainingModule(
        _initial_network(data, seed),
        recipe,
        lambda rank, n: _make_streams(data, recipe, seed, rank, n),
    )
    keeper = Keeper(paths, settings, report)
    if paths.checkpoint.exists():
        check_resumable(paths.checkpoint, settings)
    validates = len(data.validation) > 0
    trainer = _make_trainer(recipe, hardware, paths, validates, keeper, progress)
    if trainer.world_size > 1:
        share_batch_norms(module.network)
    interrupted = None
    # By default, GPUs round float32 to TensorFloat-32 in convolutions, and sum
    # gradients in any order: one seed would not always give the same weights.
    exact = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    )
    with quiet_lightning(), restored_signals(), exact:
        try:
            trainer.fit(
                module,
                ckpt_path=paths.checkpoint if paths.checkpoint.exists() else None,
                weights_only=True,
            )
        except Interrupted as error:
            interrupted = error.number
        except SIGTERMException:
            # Before the first step, this is Lightning's reaction to SIGTERM.
            raise SystemExit(128 + signal.SIGTERM) from None
        except SystemExit as error:
            if error.code != 1:
                raise
            # Before the first step, this is Lightning's reaction to Ctrl-C.
            raise KeyboardInterrupt from None
        except NotFiniteError as error:
            raise TrainingError(_explain_not_finite(error, data, paths)) from error
    if trainer.is_global_zero and module.history:
        # A killed process may have left a history that its checkpoint does not have.
        write_history(module.history, paths.history)
    weights = {k: w.cpu().numpy() for k, w in module.network.state_dict().items()}
    return weights, module.history, module.calibration, interrupted


def _initial_network(data, seed):
    network = GammaPhysNet(data.card.network, data.lattice)
    initial = data.initial.get(seed, {})
    weights = {name: torch.from_numpy(weight) for name, weight in initial.items()}
    network.load_state_dict(network.state_dict() | weights)
    return network


def _make_streams(data, recipe, seed, rank, n_processes):
    prepare = InputPreparation(data.card.input, data.lattice)

    def training_batch(images, step):
        # Before the augmentation, which removes pixels.
        _check_pixels(data.paths, data.training, images)
        # Each process has its own random numbers.
        rng = np.random.default_rng([seed, step, rank])
        targets = _targets(data.card, data.training, images.row)
        *arrays, targets = data.augmentation(*images[1:], targets, rng)
        inputs, measured = measure(arrays)
        weight = _energy_weights(
            data.training, images.row, recipe.energy_weight_slope, means
        )
        return to_tensors(inputs, targets | measured, weight, images.row)

    def validation_batch(images):
        _check_pixels(data.paths, data.validation, images)
        targets = _targets(data.card, data.validation, images.row)
        weight = np.ones(len(images.row), np.float32)
        inputs, measured = measure(images[1:])
        return to_tensors(inputs, targets | measured, weight, images.row)

    measure = partial(_measure, data.card.network.conditions, prepare)
    to_tensors = partial(_to_tensors, data.card.network.conditions)
    means = _mean_weights(data.training, recipe.energy_weight_slope)
    training = TrainingStream(
        data.paths,
        data.training,
        training_batch,
        recipe.batch_size,
        recipe.signal_fraction,
        recipe.shuffle_images,
        seed,
        rank,
        n_processes,
    )
    if len(data.validation) == 0:
        return training, None
    validation = ValidationStream(
        data.paths,
        data.validation,
        validation_batch,
        recipe.batch_size,
        rank,
        n_processes,
    )
    return training, validation


def _check_pixels(paths, index, images):
    """Refuse images whose pixels are all missing: their input would be all zeros."""
    missing = ~present_pixels(images.image, images.peak_time).any(axis=1)
    if missing.any():
        row = images.row[np.argmax(missing)]
        raise TrainingDataError(
            f"{paths[index.file[row]]}: the image of telescope {index.tel_id[row]} in "
            f"event {index.event_id[row]} of observation {index.obs_id[row]} has no "
            "pixel with a finite charge and a finite peak time: leave the file out, or "
            "make it again"
        )


def _targets(card, index, rows):
    """What the network learns, and what it knows of the pointing, by their names."""
    targets = {task: values[rows] for task, values in index.targets.items()}
    alt, az = np.deg2rad(index.pointing[rows].T.astype(float))
    names = that_need(card.network.conditions, "pointing")
    conditions = conditions_of(names, alt, az, card.geomagnetic_field_ut)
    return targets | {"class": index.label[rows]} | conditions


def _measure(conditions, prepare, images):
    """Input of the network, and the conditions that images show, by their names."""
    names = that_need(conditions, "noise")
    if not names:
        return prepare(*images)[0], {}
    inputs, _, background = prepare.with_background(*images)
    found = conditions_of(names, noise_pe=background.noise_pe)
    # Images that their shower covers must not stop the training.
    return inputs, {name: np.nan_to_num(values) for name, values in found.items()}


def _mean_weights(index, slope):
    """Mean of E^slope, by label."""
    power = 10 ** (slope * index.energy[:, 0].astype(float))
    return {label: power[index.label == label].mean() for label in set(index.label)}


def _energy_weights(index, rows, slope, means):
    mean = np.array([means[label] for label in index.label[rows]])
    power = 10 ** (slope * index.energy[rows, 0].astype(float))
    return (power / mean).astype(np.float32)


def _to_tensors(names, inputs, targets, weight, rows):
    """Batch of tensors; the targets with these names are joined to the conditions."""
    conditions = as_columns({name: targets[name] for name in names}, len(rows))
    arrays = {"inputs": inputs, "weight": weight, "row": rows, "conditions": conditions}
    arrays |= {name: values for name, values in targets.items() if name not in names}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _explain_not_finite(error, data, paths):
    files = {str(data.paths[n]) for n in data.training.file[list(error.rows)]}
    images = f" Its images are from {', '.join(sorted(files))}." if files else ""
    checkpoint = (
        f"the last good checkpoint is {paths.checkpoint}"
        if paths.checkpoint.exists()
        else "there is no checkpoint yet"
    )
    return (
        f"{error}; {checkpoint}.{images} Lower Recipe.learning_rate, set "
        "Recipe.gradient_clip, or look for extreme values in the images"
    )


def _make_trainer(recipe, hardware, paths, validates, keeper, progress):
    shared = hardware.n_processes > 1
    with quiet_lightning():
        return lightning.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            # The shared batch normalisation keeps the buffers equal. In validation,
            # processes have different numbers of batches, and must not wait.
            strategy=DDPStrategy(broadcast_buffers=False) if shared else "auto",
            precision=_LIGHTNING_PRECISION[hardware.precision],
            max_epochs=recipe.epochs,
            gradient_clip_val=recipe.gradient_clip,
            # A single process ignores its numbers from Slurm or torchrun.
            plugins=None if shared else LightningEnvironment(),
            callbacks=[keeper, *([show_progress(progress)] if progress else [])],
            logger=_make_logger(paths),
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if validates else 0,
        )


def _make_logger(paths):
    if paths.tensorboard is None:
        return False
    return TensorBoardLogger(paths.tensorboard, name="", version=paths.history.stem)
