"""The type of the particle: gamma or background."""

import numpy as np

from .metric import Metric
from .task import Movement, Output, Task

__all__ = ["CLASS"]


def _auc_of_logits(logits, label):
    from scipy.special import softmax
    from sklearn.metrics import roc_auc_score

    gammaness = softmax(logits, axis=1)[:, 0]
    if not np.isfinite(gammaness).all():
        return np.nan
    return float(roc_auc_score(label == 0, gammaness))


def _auc(gammaness, energy, is_gamma, weights, cut):
    from sklearn.metrics import roc_auc_score

    if not (weights[is_gamma].sum() > 0 and weights[~is_gamma].sum() > 0):
        return np.nan
    return float(roc_auc_score(is_gamma, gammaness, sample_weight=weights))


def _precision(gammaness, energy, is_gamma, weights, cut):
    return _share(is_gamma, gammaness >= cut, weights)


def _recall(gammaness, energy, is_gamma, weights, cut):
    return _share(gammaness >= cut, is_gamma, weights)


def _share(chosen, events, weights):
    total = weights[events].sum()
    return float(weights[events & chosen].sum() / total) if total > 0 else np.nan


class _Class(Task):
    """The class of the particle, as probabilities; the gammaness is that of gammas."""

    name = "class"
    path = "local"
    of_gammas = False
    meaning = "logits of the classes"
    colour = "#882255"
    validation_metrics = {"AUC": _auc_of_logits}
    needed = True
    compared = "gammaness"
    error = "class"
    metrics = {
        "auc": Metric(
            "gammaness",
            "",
            "AUC",
            "area under the ROC curve of the gammaness",
            _auc,
            compares_classes=True,
        ),
        "precision": Metric(
            "gammaness",
            "",
            "Precision",
            "share of gammas among the events classified as gammas",
            _precision,
            compares_classes=True,
        ),
        "recall": Metric(
            "gammaness",
            "",
            "Recall",
            "share of the gammas that are classified as gammas",
            _recall,
        ),
    }
    outputs = {"class": Output("class", 0, "Class (gamma)", "logit")}
    movement = Movement(
        "gammaness",
        "Change of gammaness",
        lambda old, new: new[..., 0] - old[..., 0],
    )

    @property
    def columns(self):
        """The gammaness; the name of its kind depends on the version of ctapipe."""
        from ..compat import PARTICLE_TYPE

        return {"gammaness": (PARTICLE_TYPE, "prediction", "")}

    def n_outputs(self, classes):
        """Count the classes."""
        return len(classes)

    def loss(self, output, target):
        """Compute the cross-entropy of each image; the target is its class."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(output, target, reduction="none")

    n_scales = 0

    def split(self, output):
        """Return the output, which has no scale: probabilities are their own error."""
        return output, None

    def finish(self, output, calibration=None):
        """Convert logits to probabilities.

        Parameters
        ----------
        output : numpy.ndarray
            Logits, shape (n, n_classes), float64.
        calibration : tuple of float, optional
            Slope and offset of the calibrated logarithm of the odds of gammas.

        Returns
        -------
        numpy.ndarray
            Probabilities, which add up to 1, of the same shape. With a calibration, the
            odds of the other classes to each other stay.
        """
        if calibration is not None:
            slope, offset = calibration
            with np.errstate(invalid="ignore"):  # NaN without a condition
                rest = np.logaddexp.reduce(output[:, 1:], axis=1)
            log_odds = slope * (output[:, 0] - rest) + offset
            output = np.column_stack([log_odds + rest, output[:, 1:]])
        # The largest logit is subtracted, so that nothing overflows.
        odds = np.exp(output - output.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def dl2(self, images):
        """Compute the mean gammaness of the members."""
        ((kind, field, _),) = self.columns.values()
        return {kind: {field: images.mean("class")[:, 0]}}

    def compare(self, predictions, events):
        """Keep gammaness between 0 and 1."""
        gammaness = predictions["gammaness"]
        return np.where((gammaness >= 0) & (gammaness <= 1), gammaness, np.nan)

    def error_of(self, compared, events):
        """Compute the distance from 1 for gammas and from 0 for others."""
        label = np.asarray(events["label"])
        return np.abs(compared - np.where(label < 0, np.nan, label == 0))

    def fact(self, output, error):
        """Describe the gammaness."""
        return f"gammaness {output[:, 0].mean():.2f}"


CLASS = _Class()
