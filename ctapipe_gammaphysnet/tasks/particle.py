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


def _share(of_which, events, weights):
    total = weights[events].sum()
    return float(weights[events & of_which].sum() / total) if total > 0 else np.nan


class _Class(Task):
    """The class of the particle, as probabilities; that of gammas is the gammaness."""

    name = "class"
    path = "local"
    of_gammas = False
    meaning = "logits of the classes"
    colour = "#882255"
    figures = {"AUC": _auc_of_logits}
    needed = True
    compared = "gammaness"
    error = "class"
    metrics = {
        "auc": Metric(
            "gammaness",
            "",
            "AUC",
            "area under the ROC curve of the gammaness",
            True,
            _auc,
        ),
        "precision": Metric(
            "gammaness",
            "",
            "Precision",
            "share of gammas in what is taken for gammas",
            True,
            _precision,
        ),
        "recall": Metric(
            "gammaness",
            "",
            "Recall",
            "share of the gammas that are taken for gammas",
            False,
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
        """The gammaness; its kind is named as this version of ctapipe has it."""
        from ..compat import PARTICLE_TYPE

        return {"gammaness": (PARTICLE_TYPE, "prediction", "")}

    def n_outputs(self, classes):
        """Count the classes."""
        return len(classes)

    def loss(self, output, target):
        """Compute the cross-entropy of each image; the target is its class."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(output, target, reduction="none")

    def finish(self, output):
        """Make probabilities of logits."""
        return output.softmax(dim=1)

    def dl2(self, images):
        """Take the mean of the gammaness over the members."""
        ((kind, field, _),) = self.columns.values()
        return {kind: {field: images.outputs["class"][..., 0].mean(axis=0)}}

    def compare(self, predictions, events):
        """Keep gammaness that can be: between 0 and 1."""
        gammaness = predictions["gammaness"]
        return np.where((gammaness >= 0) & (gammaness <= 1), gammaness, np.nan)

    def error_of(self, compared, events):
        """Compute how far it is from 1 for gammas and 0 for others."""
        label = np.asarray(events["label"])
        return np.abs(compared - np.where(label < 0, np.nan, label == 0))

    def fact(self, output, error):
        """Say the gammaness."""
        return f"gammaness {output[:, 0].mean():.2f}"


CLASS = _Class()
