"""The height of the shower maximum of a gamma, above the telescope."""

import numpy as np

from .ellipse import known_width
from .metric import Metric, containment, resolution, weighted_quantile
from .task import Movement, Output, Task

__all__ = ["H_MAX"]


def _resolution(deviation, energy, is_gamma, weights, cut):
    median = weighted_quantile(deviation, 0.5, weights)
    return containment(np.abs(deviation - median), weights)


def _bias(deviation, energy, is_gamma, weights, cut):
    return weighted_quantile(deviation, 0.5, weights)


def _deviation(predicted, true):
    return 1000 * (predicted - true)


class _HMax(Task):
    """The height at which the shower has most particles.

    The network learns the height above the telescope, because images depend on that. In
    DL2 it is above sea level, as in ctapipe.
    """

    name = "h_max"
    optional = True
    meaning = "height of the shower maximum above the telescope / km"
    truth = {
        "true_h_max": ("m", "true height of the shower maximum above sea level"),
    }
    advice = (
        "it needs true_x_max and an atmosphere, which ctapipe-merge leaves out. Give a "
        "file with an atmosphere as --atmosphere, or leave out the task h_max"
    )
    colour = "#AA4499"
    validation_metrics = {
        "h_max resolution / m": lambda predicted, true: resolution(
            np.abs(_deviation(predicted, true) - np.median(_deviation(predicted, true)))
        ),
        "h_max bias / m": lambda *of: float(np.median(_deviation(*of))),
    }
    columns = {"h_max": ("geometry", "h_max", "m")}
    uncertainties = {"h_max_uncert": ("geometry", "h_max_uncert", "m")}
    compared = error = "h_max"
    metrics = {
        "h_max_resolution": Metric(
            "h_max",
            "m",
            "Resolution of the height of the maximum",
            "68 % containment of the deviation from the true height of the shower "
            "maximum about its median",
            _resolution,
        ),
        "h_max_bias": Metric(
            "h_max",
            "m",
            "Bias of the height of the maximum",
            "median deviation from the true height of the shower maximum",
            _bias,
        ),
    }
    outputs = {"h_max": Output("h_max", 0, "Height of the maximum", "km")}
    movement = Movement(
        "h_max",
        "Move of the maximum / m",
        lambda old, new: 1000 * (new - old)[..., 0],
    )

    def to_target(self, events):
        """Compute heights above the telescope, 0 for background without a height."""
        height = events["true_h_max"] - events["altitude"]
        height = height.to_value("km")
        is_unused = ~np.isfinite(height) & (np.asarray(events["label"]) != 0)
        return np.where(is_unused, 0, height)[:, np.newaxis]

    def dl2(self, images):
        """Compute heights above sea level, and the half widths of their errors."""
        if "direction" not in images.outputs or images.altitude is None:
            return {}
        if not np.isfinite(images.altitude).all():
            # Without a known site: NaN heights would make the directions invalid.
            return {}
        height = 1000 * images.mean("h_max")[:, 0]
        columns = {"h_max": images.altitude + height}
        covariance = images.covariance("h_max")
        if covariance is not None:
            columns["h_max_uncert"] = 1000 * np.sqrt(covariance[:, 0, 0])
        return {"geometry": columns}

    def compare(self, predictions, events):
        """Compute the deviation from the true height in m, with its sign."""
        deviation = predictions["h_max"] - np.asarray(events["true_h_max"])
        return np.where(np.isfinite(deviation), deviation, np.nan)

    def uncertainty(self, predictions):
        """Return the half width of the heights."""
        return known_width(predictions["h_max_uncert"])

    def pull(self, predictions, events):
        """Compare heights."""
        return self.compare(predictions, events) / self.uncertainty(predictions)

    def error_of(self, compared, events):
        """Compute the absolute deviation of the height."""
        return np.abs(compared)

    def fact(self, output, error):
        """Describe the height above the telescope."""
        return f"maximum {output[:, 0].mean():.1f} km above the telescope"


H_MAX = _HMax()
