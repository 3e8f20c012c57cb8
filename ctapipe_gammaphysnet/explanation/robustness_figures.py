"""Figures of how predictions and heatmaps move when images are disturbed."""

import numpy as np

from ..figures.drawing import figure_style
from ..figures.panels import curve_styles, say_empty
from ..tasks import TASKS, class_first
from .curves import draw_curve, draw_legend, new_figure
from .heatmaps import EMPTY, all_outputs
from .robustness import DISTURBANCES

__all__ = ["draw_robustness"]


@figure_style()
def draw_robustness(table):
    """Draw how predictions and heatmaps move when images are disturbed.

    Parameters
    ----------
    table : astropy.table.Table
        As `summarise_movements` returns it.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        ``robustness_predictions`` and ``robustness_heatmaps``: rows are quantities,
        columns are disturbances.
    """
    outputs, tasks = all_outputs(), class_first().items()
    heatmaps = {f"heatmap_{k}": (out.label, out.task) for k, out in outputs.items()}
    moves = {task.movement.name: (task.movement.label, name) for name, task in tasks}
    predictions, _ = _draw_movements(table, moves)
    of_heatmaps, axes = _draw_movements(table, heatmaps)
    for axis in axes[:, 0]:
        axis.set_ylim(0, 1.05)
    of_heatmaps.suptitle(
        "Cosine similarity of the heatmap with that of the undisturbed image",
        fontsize="medium",
    )
    return {"robustness_predictions": predictions, "robustness_heatmaps": of_heatmaps}


def _draw_movements(table, quantities):
    quantities = {q: shown for q, shown in quantities.items() if q in table["quantity"]}
    figure, axes = new_figure(len(quantities), len(DISTURBANCES), "col")
    styles = curve_styles(dict.fromkeys(table["model"].tolist()))
    for column, (disturbance, (x_label, _)) in zip(
        axes.T, DISTURBANCES.items(), strict=True
    ):
        of_disturbance = table[table["disturbance"] == disturbance]
        for axis, quantity in zip(column, quantities, strict=True):
            chosen = of_disturbance[of_disturbance["quantity"] == quantity]
            for model, style in styles.items():
                rows = chosen[chosen["model"] == model]
                draw_curve(axis, np.asarray(rows["value"]), rows, style, model)
            if not np.isfinite(chosen["mean"]).any():
                say_empty(axis, EMPTY)
            axis.grid(alpha=0.3)
        column[-1].set_xlabel(x_label)
    for axis, (label, task) in zip(axes[:, 0], quantities.values(), strict=True):
        axis.set_ylabel(label, fontsize="small", color=TASKS[task].colour)
    draw_legend(figure, axes)
    return figure, axes
