"""Figures of merit of a network on validation data."""

import numpy as np
from astropy.coordinates import angular_separation
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

__all__ = ["figures_of_merit"]


def figures_of_merit(outputs, targets):
    """Compute what tells how good a network is, over all energies.

    Parameters
    ----------
    outputs : dict of str to numpy.ndarray
        Of the network, shape (n, n_outputs); logits for ``"class"``.
    targets : dict of str to numpy.ndarray
        ``"class"``: 0 for gammas, shape (n,); the others: as the outputs.

    Returns
    -------
    dict of str to float
        ``"AUC"`` of the gammaness; of gammas ``"energy resolution"``: 68 % containment
        of |E/E_true - 1|, ``"energy bias"``: median of E/E_true - 1, ``"angular
        resolution / deg"`` and ``"impact resolution / m"``: 68 % containment of the
        distance. What there is no data for is left out; what cannot be told of
        outputs that are not finite is NaN.
    """
    is_gamma = targets["class"] == 0
    figures = {}
    if "class" in outputs and 0 < is_gamma.sum() < len(is_gamma):
        gammaness = softmax(outputs["class"].astype(float), axis=1)[:, 0]
        is_finite = np.isfinite(gammaness).all()
        auc = roc_auc_score(is_gamma, gammaness) if is_finite else np.nan
        figures["AUC"] = float(auc)
    if not is_gamma.any():
        return figures
    of_gammas = {
        task: (output[is_gamma].astype(float), targets[task][is_gamma].astype(float))
        for task, output in outputs.items()
        if task != "class"
    }
    if "energy" in of_gammas:
        predicted, true = of_gammas["energy"]
        # Beyond a factor of 10^10 it does not matter by how much it is wrong.
        deviation = 10 ** np.clip(predicted - true, -10, 10) - 1
        figures["energy resolution"] = _containment(np.abs(deviation))
        figures["energy bias"] = float(np.median(deviation))
    if "direction" in of_gammas:
        separation = angular_separation(
            *np.deg2rad(np.concatenate(of_gammas["direction"], axis=1)).T
        )
        figures["angular resolution / deg"] = _containment(np.rad2deg(separation))
    if "impact" in of_gammas:
        distance = np.linalg.norm(np.subtract(*of_gammas["impact"]), axis=1)
        figures["impact resolution / m"] = _containment(1000 * distance)
    return figures


def _containment(values):
    return float(np.quantile(values, 0.68))
