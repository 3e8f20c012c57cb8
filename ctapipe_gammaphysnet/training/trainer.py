"""The recipe of a training, as configuration."""

from ctapipe.core import Component
from ctapipe.core.traits import Float, Int

__all__ = ["Trainer"]


class Trainer(Component):
    """Trains a γ-PhysNet. The defaults are the paper's (Section 3.2)."""

    epochs = Int(25, min=1, help="How many times each image is shown.").tag(config=True)

    batch_size = Int(
        128, min=2, help="Images per step. The paper does not give it."
    ).tag(config=True)

    learning_rate = Float(1e-3, help="Learning rate of Adam.").tag(config=True)

    decay_every = Int(
        10, min=1, help="The learning rate is divided by 10 every so many epochs."
    ).tag(config=True)

    weight_decay = Float(
        1e-4, help="Weight decay; not applied to the balance between tasks."
    ).tag(config=True)

    balance_learning_rate = Float(
        0.025,
        help=(
            "Learning rate of the balance between tasks (Kendall et al. 2018). The"
            " paper does not give it; this is its authors'."
        ),
    ).tag(config=True)

    def train(self, config, lattice, training, validation, seed, device, progress):
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
        # Only now: the configuration alone needs neither torch nor lightning.
        from .fit import fit

        return fit(config, lattice, training, validation, self, seed, device, progress)
