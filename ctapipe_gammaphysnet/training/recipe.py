"""Configuration of a training, and of the network's input."""

from ctapipe.core import Component, ToolConfigurationError
from ctapipe.core.traits import CaselessStrEnum, Dict, Int, List, Unicode

from ..configuration.traits import FiniteFloat
from ..model.card import InputCard

__all__ = ["InputTransformation", "Recipe"]


class Recipe(Component):
    """How a γ-PhysNet is trained. The defaults are the paper's (Section 3.2)."""

    epochs = Int(25, min=1, help="Number of passes over the images.").tag(config=True)

    batch_size = Int(
        128,
        min=2,
        help="Images per step, of all processes together. Not given in the paper.",
    ).tag(config=True)

    learning_rate = FiniteFloat(1e-3, positive=True, help="Learning rate of Adam.").tag(
        config=True
    )

    schedule = CaselessStrEnum(
        ["step", "cosine", "one-cycle"],
        default_value="step",
        help=(
            "How the learning rate changes: divided by 10 every ``decay_every`` epochs"
            " (``step``, the paper's); falling to 0 as a cosine; or rising to"
            " ``learning_rate`` over the first 30 % of the steps and falling after"
            " (``one-cycle``)."
        ),
    ).tag(config=True)

    decay_every = Int(
        10,
        min=1,
        help=(
            "With ``step``, the number of epochs after which the learning rate is"
            " divided by 10."
        ),
    ).tag(config=True)

    weight_decay = FiniteFloat(
        1e-4, min=0, help="Weight decay; not applied to the balance between tasks."
    ).tag(config=True)

    balance_learning_rate = FiniteFloat(
        0.025,
        min=0,
        help=(
            "Learning rate of the balance between tasks (Kendall et al. 2018). Not"
            " given in the paper; this is the value in its authors' code."
        ),
    ).tag(config=True)

    task_weights = Dict(
        value_trait=FiniteFloat(positive=True),
        key_trait=Unicode(),
        help=(
            "Weight of each task's loss, such as ``{energy: 1, direction: 2, impact: 1,"
            " class: 1}``. If it is empty, the balance is learnt, as in the paper."
        ),
    ).tag(config=True)

    gradient_clip = FiniteFloat(
        None,
        positive=True,
        allow_none=True,
        help="Largest norm of the gradients, which are scaled down to it.",
    ).tag(config=True)

    signal_fraction = FiniteFloat(
        None,
        min=0,
        max=1,
        allow_none=True,
        help=(
            "Share of signal in each batch. Default: the share in all images. With"
            " another share, images of one class are used more often than those of the"
            " other."
        ),
    ).tag(config=True)

    energy_weight_slope = FiniteFloat(
        0.0,
        min=-5,
        max=5,
        help=(
            "Weight images in the losses by the true energy to this power; the mean"
            " weight of each class is 1. With -0.6, a sample with the spectral index -2"
            " is weighted to an index of -2.6."
        ),
    ).tag(config=True)

    patience = Int(
        None,
        min=1,
        allow_none=True,
        help=(
            "Stop when the sum of the validation losses has not fallen for this many"
            " epochs. By default all epochs are trained. This needs validation images,"
            " also of background if the class is learnt."
        ),
    ).tag(config=True)

    shuffle_images = Int(
        20_000,
        min=2,
        help=(
            "Number of images that are shuffled together; memory holds twice as many."
            " Raise it if the showers of a file are not in random order."
        ),
    ).tag(config=True)

    checkpoint_every = Int(
        None,
        min=1,
        allow_none=True,
        help="Write a checkpoint not only after each epoch, but every so many steps.",
    ).tag(config=True)

    frozen = List(
        CaselessStrEnum(["backbone"]),
        help=(
            "Parts of the network that stay as they are in the model of"
            " ``--init-from``, with the statistics of their batch normalisations: the"
            " ``backbone``, so that only the heads are trained, or none. Each step is"
            " then faster."
        ),
    ).tag(config=True)

    def check(self, tasks, validation_fraction, n_processes, has_parent=False):
        """Check that settings do not contradict each other.

        Parameters
        ----------
        tasks : collection of str
            What the network predicts.
        validation_fraction : float
            Share of the showers kept for validation.
        n_processes : int
            Number of processes that split each batch.
        has_parent : bool
            Whether the training begins with the weights of a model.

        Raises
        ------
        ToolConfigurationError
            If they do.
        """
        if self.frozen and not has_parent:
            raise ToolConfigurationError(
                f"Recipe.frozen={self.frozen[0]} would leave random weights as they "
                "are: give the model that has them (--init-from FILE), or leave it out"
            )
        if self.batch_size < n_processes:
            raise ToolConfigurationError(
                f"a batch of {self.batch_size} images cannot be split between "
                f"{n_processes} processes: raise Recipe.batch_size"
            )
        for task in self.task_weights.keys() ^ set(tasks):
            if self.task_weights:
                raise ToolConfigurationError(
                    f"Recipe.task_weights must have one weight for each task: {task} "
                    "is missing, or is not trained"
                )
        if self.signal_fraction is not None and "class" not in tasks:
            raise ToolConfigurationError(
                "Recipe.signal_fraction does nothing without background: leave it out, "
                "or add 'class' to TrainGammaPhysNet.tasks"
            )
        if self.patience is not None:
            self._check_patience(validation_fraction)

    def _check_patience(self, validation_fraction):
        if validation_fraction == 0:
            raise ToolConfigurationError(
                "Recipe.patience needs validation images: raise "
                "TrainGammaPhysNet.validation_fraction, or leave out the patience"
            )
        if self.patience >= self.epochs:
            self.log.warning(
                "Recipe.patience=%d has no effect on a training of %d epochs",
                self.patience,
                self.epochs,
            )
        elif self.schedule != "step":
            self.log.warning(
                "Recipe.patience may end the training before the learning rate has "
                "fallen according to Recipe.schedule=%s",
                self.schedule,
            )


class InputTransformation(Component):
    """Input of the network. The defaults are the paper's: unchanged images.

    The settings are stored in the model file, and applied whenever it is used.
    """

    image = CaselessStrEnum(
        ["raw", "cleaned"],
        default_value="raw",
        help=(
            "Which pixels the network sees: all, or those that survived the image"
            " cleaning."
        ),
    ).tag(config=True)

    charge_reference = CaselessStrEnum(
        ["none", "background"],
        default_value="none",
        help=(
            "What is subtracted from the charges of pixels outside the image"
            " cleaning's mask: nothing, or the charge of the pixels without light of"
            " the shower, about their median, in each image (``background``)."
            " Predictions then do not depend on it. It differs most between image"
            " extractors: those that search for a peak find the highest noise of a"
            " pixel without light, but the same charge in bright ones."
        ),
    ).tag(config=True)

    charge_unit = CaselessStrEnum(
        ["p.e.", "noise"],
        default_value="p.e.",
        help=(
            "Unit of the charges: p.e., or the noise of the pixels without light of the"
            " shower, in each image (``noise``): half of the range that holds their"
            " central 68 %. Predictions then do not depend on the gain. The night sky"
            " becomes the unit of the light: a brighter one lowers the energies."
        ),
    ).tag(config=True)

    background_rings = Int(
        2,
        min=0,
        max=10,
        help=(
            "Pixels without light of the shower are those outside the image cleaning's"
            " mask and this number of rings of neighbours around it."
        ),
    ).tag(config=True)

    charge = CaselessStrEnum(
        ["linear", "arcsinh"],
        default_value="linear",
        help=(
            "Charge divided by ``charge_scale``, or the inverse hyperbolic sine of"
            " the quotient: linear for small and logarithmic for large charges."
        ),
    ).tag(config=True)

    charge_scale = FiniteFloat(
        1.0, min=1e-6, help="Divisor of the charge, in ``charge_unit``."
    ).tag(config=True)

    peak_time_reference = CaselessStrEnum(
        ["none", "image"],
        default_value="none",
        help=(
            "Zero of the peak times: the start of the readout, or the mean of the"
            " cleaned pixels, weighted by their charge (``image``)."
        ),
    ).tag(config=True)

    peak_time_scale = FiniteFloat(
        1.0, min=1e-6, help="Divisor of these peak times, in ns."
    ).tag(config=True)

    peak_time_pixels = CaselessStrEnum(
        ["all", "cleaned"],
        default_value="all",
        help=(
            "Which pixels' peak times the network sees: all, or those that survived the"
            " image cleaning and ``peak_time_rings`` around them; the others are 0."
        ),
    ).tag(config=True)

    peak_time_rings = Int(
        0,
        min=0,
        max=10,
        help="Number of rings of neighbouring pixels to add to ``cleaned`` ones.",
    ).tag(config=True)

    def card(self):
        """Describe the input for the model card.

        Returns
        -------
        InputCard
            The same settings.
        """
        names = self.trait_names(config=True)
        return InputCard(**{name: getattr(self, name) for name in names})
