"""The part of a model card about calibration: how scales become errors."""

from typing import Annotated

from pydantic import FailFast, Field, field_validator, model_validator

from ..tasks import TASKS
from .card_fields import Card

__all__ = ["CalibrationCard", "ErrorCurve"]

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
        if len(self.log_scale) != len(self.log_radius) or not self.log_scale:
            raise ValueError("log_scale and log_radius must have the same length")
        if list(self.log_scale) != sorted(set(self.log_scale)):
            raise ValueError("log_scale must be ascending")
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
