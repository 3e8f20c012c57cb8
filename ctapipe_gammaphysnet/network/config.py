"""The hyperparameters of a γ-PhysNet."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    model_validator,
)

from ..tasks import TASKS, default_tasks
from ..tasks.conditions import CONDITIONS, that_need

__all__ = ["NetworkConfig", "Task"]


def _known(name):
    if name not in TASKS:
        raise ValueError(
            f"was made with a task that this version does not know: {name}"
        )
    return name


def _known_condition(name):
    if name not in CONDITIONS:
        raise ValueError(
            f"was made with a condition that this version does not know: {name}"
        )
    return name


#: What a γ-PhysNet can predict: one of the `TASKS`.
Task = Annotated[str, AfterValidator(_known)]
#: What its heads can know beside the image: one of the `CONDITIONS`.
_Condition = Annotated[str, AfterValidator(_known_condition)]

# The upper limits keep a hand-made file from asking for a network of any size, and
# FailFast from taking memory for a complaint about each of many wrong values.
_Channels = Annotated[int, Field(ge=1, le=1024)]


class NetworkConfig(BaseModel):
    """Hyperparameters of a γ-PhysNet.

    The defaults are those of the paper: γ-PhysNet DA on a ResNet-56. The paper gives
    no width for the fully connected layers; 256 is that of its authors' examples.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    blocks: int = Field(
        9, ge=1, le=64, description="residual blocks per stage; 9 make a ResNet-56"
    )
    channels: Annotated[tuple[_Channels, ...], FailFast()] = Field(
        (16, 32, 64),
        min_length=1,
        max_length=6,
        description="feature channels of each stage",
    )
    hidden: int = Field(
        256, ge=1, le=4096, description="width of the fully connected layers"
    )
    attention: bool = Field(
        True, description="dual attention after each stage (γ-PhysNet DA)"
    )
    attention_ratio: int = Field(
        16,
        ge=1,
        le=1024,
        description="ratio of the bottleneck of squeeze-and-excitation",
    )
    tasks: Annotated[tuple[Task, ...], FailFast()] = Field(
        default_factory=default_tasks,
        min_length=1,
        description="what the network predicts",
    )
    errors: bool = Field(
        False,
        description="whether each regression comes with the scale of its error",
    )
    classes: Annotated[tuple[str, ...], FailFast()] = Field(
        ("gamma", "proton"),
        min_length=2,
        max_length=16,
        description="particle classes in the order of the outputs, gamma first",
    )
    conditions: Annotated[tuple[_Condition, ...], FailFast()] = Field(
        (), description="what the heads know beside the image, in the order of inputs"
    )

    @model_validator(mode="after")
    def _check_names(self):
        for name in ("tasks", "classes", "conditions"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must differ from each other, got {values}")
        if self.classes[0] != "gamma":
            raise ValueError(f"the first class must be gamma, got {self.classes}")
        return self

    @property
    def needs_pointing(self):
        """Whether nothing, or not all, can be predicted without the pointing."""
        return bool(that_need(self.conditions, "pointing")) or any(
            TASKS[task].needs_pointing for task in self.tasks
        )

    @property
    def needs_field(self):
        """Whether the geomagnetic field must be known."""
        return bool(that_need(self.conditions, "field"))

    @property
    def needs_noise(self):
        """Whether the noise of each image must be measured."""
        return bool(that_need(self.conditions, "noise"))

    @property
    def n_tensors(self):
        """Number of tensors of such a network, counted without building it."""
        stages = len(self.channels)
        # Weights and biases of a convolution or a linear layer; these, mean, variance
        # and number of batches of a normalisation.
        layer, norm = 2, 5
        # Stem, two convolutions in each block, shortcuts between stages.
        n_convolutions = 1 + 2 * stages * self.blocks + stages - 1
        # The first two have no normalisation before them.
        backbone = n_convolutions * layer + (n_convolutions - 2) * norm
        # Of four linear layers, the one before a normalisation has no biases.
        attention = self.attention * stages * (4 * layer - 1 + norm)
        tasks = [TASKS[task] for task in self.tasks]
        heads = tasks + [task for task in tasks if self.errors and task.n_scales]
        n_hidden = sum(task.path == "global" for task in heads)
        n_hidden += any(task.path == "geometry" for task in tasks)
        return backbone + attention + (n_hidden + len(heads)) * layer
