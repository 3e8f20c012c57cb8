"""The recipe of a training, as configuration."""

from ctapipe.core import Component
from ctapipe.core.traits import Float, Int

__all__ = ["Recipe"]


class Recipe(Component):
    """How a γ-PhysNet is trained. The defaults are the paper's (Section 3.2)."""

    epochs = Int(25, min=1, help="How many times each image is shown.").tag(config=True)

    batch_size = Int(
        128, min=2, help="Images per step. The paper does not give it."
    ).tag(config=True)

    learning_rate = Float(1e-3, min=0, help="Learning rate of Adam.").tag(config=True)

    decay_every = Int(
        10, min=1, help="The learning rate is divided by 10 every so many epochs."
    ).tag(config=True)

    weight_decay = Float(
        1e-4, min=0, help="Weight decay; not applied to the balance between tasks."
    ).tag(config=True)

    balance_learning_rate = Float(
        0.025,
        min=0,
        help=(
            "Learning rate of the balance between tasks (Kendall et al. 2018). The"
            " paper does not give it; this is its authors'."
        ),
    ).tag(config=True)
