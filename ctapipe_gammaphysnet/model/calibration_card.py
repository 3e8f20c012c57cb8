"""The part of a model card about calibration: how scales become errors."""

from typing import Annotated

from pydantic import FailFast, Field, field_validator, model_validator

from ..tasks import TASKS
from .card_fields import Card

__all__ = ["AxisCard", "CalibrationCard", "ErrorCurve"]

# Beyond this, a factor of 20,000, nothing was calibrated.
_Logarithm = Annotated[float, Field(ge=-10, le=10)]
_Curve = Annotated[tuple[_Logarithm, ...], Field(max_length=100), FailFast()]
# In deg or km: more is no calibration.
_Component = Annotated[float, Field(ge=-10, le=10)]


class ErrorCurve(Card):
    """How far off the truth is, in units of the scale that a member predicts."""

    log_scale: _Curve = Field(
        description="Natural logarithms of mean scales (`tasks.scale`), ascending."
    )
    log_radius: _Curve = Field(
        description="For each the natural logarithm of the distance from the "
        "prediction, in units of the scale, that holds 68.27 % of the validation "
        "gammas; interpolated between, constant beyond."
    )

    @model_validator(mode="after")
    def _is_curve(self):
        _check_curve("log_scale", self.log_scale, "log_radius", self.log_radius)
        return self


def _check_curve(x_name, x, y_name, y):
    """Check the two columns of a curve."""
    if len(x) != len(y) or not x:
        raise ValueError(f"{x_name} and {y_name} must have the same length")
    if list(x) != sorted(set(x)):
        raise ValueError(f"{x_name} must be ascending")


class AxisCard(Card):
    """What the axes of images say of direction and impact point (`tasks.axis`)."""

    log_noise: _Curve = Field(
        description="Natural logarithms of the errors of the axes' angles that the "
        "light's fluctuations make, in rad and up to a factor, ascending."
    )
    log_angle: _Curve = Field(
        description="For each the natural logarithm of the angle in rad between axis "
        "and true direction, seen from the image, that holds 68.27 % of the validation "
        "gammas; interpolated between, constant beyond."
    )
    log_radius: dict[str, _Curve] = Field(
        description="For each, and for each task, the natural logarithm of the "
        "distance from what network and axis say together, in standard deviations, "
        "that holds 68.27 %."
    )

    @model_validator(mode="after")
    def _are_curves(self):
        curves = {"log_angle": self.log_angle}
        for task, curve in self.log_radius.items():
            if task not in TASKS or not TASKS[task].has_axis:
                raise ValueError(f"the axis of the image says nothing of {task}")
            curves[f"log_radius.{task}"] = curve
        for name, curve in curves.items():
            _check_curve("log_noise", self.log_noise, name, curve)
        return self


class CalibrationCard(Card):
    """Calibration of a member, from the validation showers of its training."""

    errors: dict[str, ErrorCurve] = Field(
        default_factory=dict,
        description="Of the errors of each task; without, they are those of a Laplace "
        "distribution of the predicted scale.",
    )
    offsets: dict[str, tuple[_Component, _Component]] = Field(
        default_factory=dict,
        description="Of each task with two components, in the units of its target: the "
        "most likely deviation that all predictions share. It is subtracted from them.",
    )
    axis: AxisCard | None = Field(
        None,
        description="Of the axes of the images; null if they are not used.",
    )
    log_odds: tuple[float, float] | None = Field(
        None,
        description="Of the gammaness: slope and offset of the natural logarithm of "
        "its odds, such that gammaness is the share of gammas among as many gammas as "
        "background; null if it is not calibrated.",
    )

    @field_validator("errors", "offsets")
    @classmethod
    def _known(cls, of_tasks):
        if unknown := of_tasks.keys() - TASKS.keys():
            raise ValueError(f"this version does not know the task {min(unknown)}")
        return of_tasks

    @field_validator("offsets")
    @classmethod
    def _have_two_components(cls, offsets):
        for task in offsets:
            if len(TASKS[task].outputs) != 2:
                raise ValueError(f"the task {task} does not have two components")
        return offsets

    @field_validator("log_odds")
    @classmethod
    def _rises(cls, log_odds):
        if log_odds is not None and not 0 < log_odds[0] <= 100 >= abs(log_odds[1]):
            raise ValueError("the slope must be from 0 to 100, the offset within ±100")
        return log_odds

    def of(self, task):
        """Return the calibration of a task.

        Parameters
        ----------
        task : str
            The task.

        Returns
        -------
        tuple or None
            What `Task.finish` takes.
        """
        if task == "class":
            return self.log_odds
        curve = self.errors.get(task)
        return curve and (curve.log_scale, curve.log_radius)

    def of_axis(self, task):
        """Return the calibration of a task's product with the axis of the image.

        Parameters
        ----------
        task : str
            The task.

        Returns
        -------
        tuple or None
            What `tasks.axis.with_axes` takes.
        """
        if self.axis is None or task not in self.axis.log_radius:
            return None
        return self.axis.log_noise, self.axis.log_angle, self.axis.log_radius[task]
