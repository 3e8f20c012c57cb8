"""Run the training of one network with Lightning."""

import logging
import warnings

import lightning
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch.utils.data import DataLoader, Dataset

from ..network.gammaphysnet import GammaPhysNet
from .module import TrainingModule

__all__ = ["fit"]


def fit(config, lattice, training, validation, recipe, seed, device, progress):
    """Train a network from one seed.

    The same seed gives the same weights, on the same machine on CPU.

    Parameters
    ----------
    config : NetworkConfig
        The network's hyperparameters.
    lattice : CameraLattice
        Where the camera's pixels lie.
    training, validation : Sample
        The images; the latter may be empty.
    recipe : Recipe
        Epochs, batch size, learning rates, weight decay.
    seed : int
        Seed of the initial weights and of the order of the images.
    device : torch.device
        Where to compute.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    weights : dict of str to numpy.ndarray
        The trained weights.
    history : list of dict of str to float
        The figures of the validation data after each epoch.
    """
    torch.manual_seed(seed)
    module = TrainingModule(GammaPhysNet(config, lattice), recipe)
    loaders = [
        _loader(
            training,
            recipe.batch_size,
            shuffle=True,
            # Batch normalisation cannot normalise a single image.
            drop_last=len(training) % recipe.batch_size == 1,
            generator=torch.Generator().manual_seed(seed),
        )
    ]
    if len(validation) > 0:
        loaders.append(_loader(validation, recipe.batch_size))
    _run_lightning(module, loaders, recipe.epochs, device, progress)
    weights = module.network.cpu().state_dict()
    return {name: w.numpy() for name, w in weights.items()}, module.history


class _LabelledImages(Dataset):
    """Images and targets, taken batch by batch: image by image would be slow."""

    def __init__(self, sample):
        self.inputs = torch.from_numpy(sample.inputs)
        self.targets = {
            "energy": torch.from_numpy(sample.energy),
            "direction": torch.from_numpy(sample.direction),
            "impact": torch.from_numpy(sample.impact),
            "class": torch.from_numpy(sample.label),
        }

    def __len__(self):
        return len(self.inputs)

    def __getitems__(self, indices):
        targets = {name: target[indices] for name, target in self.targets.items()}
        return self.inputs[indices], targets


def _loader(sample, batch_size, **options):
    return DataLoader(
        _LabelledImages(sample), batch_size, collate_fn=lambda batch: batch, **options
    )


def _run_lightning(module, loaders, epochs, device, progress):
    # Lightning announces devices and advertises; the tool has a log of its own.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
    )
    with warnings.catch_warnings():
        # Hints that do not apply: images in memory need no processes that load them,
        # and there may be no validation data.
        warnings.simplefilter("ignore", PossibleUserWarning)
        # Lightning 2.6 with a newer PyTorch; nothing that a user could act on.
        warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
        trainer.fit(module, *loaders)
