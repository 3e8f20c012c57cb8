"""Calibrate offsets, errors and gammaness on validation data."""

import numpy as np

from ..model.calibration_card import AxisCard, CalibrationCard, ErrorCurve
from ..tasks import TASKS
from ..tasks.axis import ImageAxes
from ..tasks.ellipse import matrix_from_columns
from ..tasks.metric import CONTAINMENT
from ..tasks.scale import bounded, normal_covariance

__all__ = ["calibrate"]

#: Fewest images for a calibration; fewest for a bin of scales, or an offset; and most
#: bins. The quantile of 300 images is known to about 5 %.
_FEWEST, _PER_BIN, _MOST_BINS = 50, 300, 12
#: Largest logarithm that a card may have.
_LARGEST = 10
#: Enough for an offset to 1 % of its error.
_STEPS = 50


def calibrate(outputs, targets, axes=None):
    """Calibrate a network that predicts the scale of its errors.

    Parameters
    ----------
    outputs : dict of str to numpy.ndarray
        Outputs of the network for validation images, as for `Task.split`; logits for
        ``"class"``.
    targets : dict of str to numpy.ndarray
        ``"class"``: 0 for gammas, shape (n,); the others: shape (n, n_outputs).
    axes : ImageAxes, optional
        The axes of the images, shape (n,).

    Returns
    -------
    CalibrationCard
        The calibration; empty for a network without errors, and without what there are
        too few images for.
    """
    is_gamma = targets["class"] == 0
    errors, offsets = {}, {}
    for name, output in outputs.items():
        values, scale = TASKS[name].split(output[is_gamma].astype(float))
        if scale is not None and len(values) >= _FEWEST:
            deviation = values - targets[name][is_gamma]
            if deviation.shape[1] == 2 and len(deviation) >= _PER_BIN:
                offset = _offset(deviation, scale)
                offsets[name], deviation = tuple(offset.tolist()), deviation - offset
            errors[name] = _error_curve(deviation, scale)
    axis = None
    if axes is not None and "direction" in offsets:
        used = is_gamma & np.isfinite(axes.noise)
        axis = _axis(
            {name: outputs[name][used].astype(float) for name in offsets},
            {name: targets[name][used] for name in offsets},
            ImageAxes(*(values[used] for values in axes)),
            CalibrationCard(errors=errors, offsets=offsets),
        )
    log_odds = None
    if errors and "class" in outputs:
        log_odds = _log_odds(outputs["class"].astype(float), is_gamma)
    return CalibrationCard(errors=errors, offsets=offsets, axis=axis, log_odds=log_odds)


def _offset(deviation, scale):
    """Deviation of all images that is most likely, as the loss has it, shape (2,).

    The demonstration model's directions were off to one side of the camera, however its
    images were turned. How far energies are off depends on their spectrum: they are
    left alone.
    """
    inverse = np.linalg.inv(matrix_from_columns(normal_covariance(scale)))
    offset = np.zeros(2)
    # Weiszfeld's algorithm for the point with the least sum of distances.
    for _ in range(_STEPS):
        residual = deviation - offset
        square = np.einsum("ni,nij,nj->n", residual, inverse, residual)
        weight = inverse / np.sqrt(square + 1e-12)[:, np.newaxis, np.newaxis]
        offset = np.linalg.solve(
            weight.sum(axis=0), np.einsum("nij,nj->i", weight, deviation)
        )
    return offset


def _error_curve(deviation, scale):
    """Distances that hold 68.27 % in bins of the scale, as a monotonic curve."""
    log_scale, _, _ = bounded(scale)
    covariance = matrix_from_columns(normal_covariance(scale))
    return _curve(log_scale, _distance(deviation, covariance))


def _distance(deviation, covariance):
    """Distance in standard deviations, shape (n,)."""
    in_scale = np.linalg.solve(covariance, deviation[..., np.newaxis])[..., 0]
    return np.sqrt(np.sum(deviation * in_scale, axis=1))


def _curve(log_scale, distance):
    """Distances that hold 68.27 % in bins of a scale, in units of it."""
    knots, log_radius = _quantiles(log_scale, distance)
    log_error = _rising(knots, knots + log_radius)
    log_radius = np.clip(log_error - knots, -_LARGEST, _LARGEST)
    return ErrorCurve(log_scale=tuple(knots.tolist()), log_radius=tuple(log_radius))


def _quantiles(log_scale, distance):
    """Medians of bins of a scale, and logarithms of the distances that hold 68.27 %."""
    n_bins = int(np.clip(len(log_scale) // _PER_BIN, 1, _MOST_BINS))
    bins = np.array_split(np.argsort(log_scale, kind="stable"), n_bins)
    knots = np.array([np.median(log_scale[rows]) for rows in bins])
    # A network that is exactly right has no logarithm of its distance.
    radii = [max(np.quantile(distance[rows], CONTAINMENT), 1e-4) for rows in bins]
    knots, first = np.unique(np.clip(knots, -_LARGEST, _LARGEST), return_index=True)
    return knots, np.clip(np.log(radii), -_LARGEST, _LARGEST)[first]


def _rising(knots, log_error):
    """The nearest curve that does not fall: a larger scale has no smaller error."""
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression().fit_transform(knots, log_error)


def _axis(outputs, targets, axes, calibration):
    """Calibration of the axes of gammas, which are known; None if they are too few."""
    if len(axes.noise) < _PER_BIN:
        return None
    centre = np.stack([axes.fov_lon, axes.fov_lat], axis=-1)
    offset = targets["direction"] - centre
    sine = np.sin(np.arctan2(offset[:, 1], offset[:, 0]) - axes.psi)
    noise = np.log(axes.noise)
    knots, log_angle = _quantiles(noise, np.abs(sine))
    log_angle = _rising(knots, log_angle)
    error, radii = np.exp(np.interp(noise, knots, log_angle)), {}
    for name, output in outputs.items():
        if TASKS[name].has_axis:
            finished = TASKS[name].finish(output, calibration.of(name))
            values, covariance = TASKS[name].split(finished)
            values = values - calibration.offsets[name]
            values, ellipse = TASKS[name].on_axes(
                values, matrix_from_columns(covariance), axes, error
            )
            distance = _distance(values - targets[name], ellipse)
            radii[name] = tuple(_quantiles(noise, distance)[1])
    knots, log_angle = tuple(knots.tolist()), tuple(log_angle)
    return AxisCard(log_noise=knots, log_angle=log_angle, log_radius=radii)


def _log_odds(logits, is_gamma):
    """Slope and offset for as many gammas as background; None if there are too few."""
    from sklearn.linear_model import LogisticRegression

    if min(is_gamma.sum(), (~is_gamma).sum()) < _FEWEST:
        return None
    log_odds = logits[:, :1] - np.logaddexp.reduce(logits[:, 1:], axis=1, keepdims=True)
    fit = LogisticRegression(C=np.inf, class_weight="balanced").fit(log_odds, is_gamma)
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    # A network that cannot tell them apart is left as it is.
    return (slope, offset) if 0 < slope <= 100 >= abs(offset) else None
