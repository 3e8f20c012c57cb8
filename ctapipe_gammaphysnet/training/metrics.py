"""Metrics of a network on validation data."""

from ..tasks import class_first

__all__ = ["validation_metrics"]


def validation_metrics(outputs, targets):
    """Compute metrics of a network, over all energies.

    Parameters
    ----------
    outputs : dict of str to numpy.ndarray
        Outputs of the network, as for `Task.split`; logits for ``"class"``.
    targets : dict of str to numpy.ndarray
        ``"class"``: 0 for gammas, shape (n,); the others: shape (n, n_outputs).

    Returns
    -------
    dict of str to float
        The ``validation_metrics`` of each task, such as ``"AUC"`` or ``"energy bias"``.
        Metrics without data are left out. A metric that cannot be computed, because
        outputs are not finite, is NaN.
    """
    is_gamma = targets["class"] == 0
    metrics = {}
    for name, task in class_first().items():
        if name not in outputs:
            continue
        output, _ = task.split(outputs[name].astype(float))
        target = targets[name]
        if task.of_gammas:
            output, target = output[is_gamma], target[is_gamma].astype(float)
        elif is_gamma.all():
            continue
        if is_gamma.any():
            metrics |= {
                metric: compute(output, target)
                for metric, compute in task.validation_metrics.items()
            }
    return metrics
