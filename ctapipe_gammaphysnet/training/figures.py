"""Figures of merit of a network on validation data."""

from ..tasks import class_first

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
        The ``figures`` of each task, such as ``"AUC"`` of the gammaness, and of gammas
        ``"energy bias"``. What there is no data for is left out; what cannot be
        computed from outputs that are not finite is NaN.
    """
    is_gamma = targets["class"] == 0
    figures = {}
    for name, task in class_first().items():
        if name not in outputs:
            continue
        output, target = outputs[name].astype(float), targets[name]
        if task.of_gammas:
            output, target = output[is_gamma], target[is_gamma].astype(float)
        elif is_gamma.all():
            continue
        if is_gamma.any():
            figures |= {
                k: compute(output, target) for k, compute in task.figures.items()
            }
    return figures
