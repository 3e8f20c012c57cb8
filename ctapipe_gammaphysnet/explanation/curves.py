"""Common parts of figures with curves of models and bands for their members."""

import numpy as np
from matplotlib.figure import Figure

from ..figures.panels import (
    NAME_WIDTH,
    draw_band,
    legend_entries,
    place_legend,
    plain_text,
)

__all__ = ["draw_curve", "draw_legend", "new_figure"]


def new_figure(n_rows, n_columns, sharex):
    """Make a figure of panels, which share their axes row by row.

    Parameters
    ----------
    n_rows, n_columns : int
        Number of panels.
    sharex : {"all", "col"}
        Which panels share their horizontal axis.

    Returns
    -------
    figure : matplotlib.figure.Figure
        The figure.
    axes : numpy.ndarray
        Its panels, shape (n_rows, n_columns).
    """
    figure = Figure(figsize=(3.4 * n_columns, 2.6 * n_rows + 0.5), layout="constrained")
    axes = figure.subplots(
        n_rows, n_columns, squeeze=False, sharex=sharex, sharey="row"
    )
    return figure, axes


def draw_curve(axis, x, rows, style, label):
    """Draw the mean over members, with a band of their standard deviation.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        The panel.
    x : numpy.ndarray
        Horizontal positions, shape (n,).
    rows : astropy.table.Table
        ``mean`` and ``members_std``, n rows.
    style : dict of str to str
        As `curve_styles` returns it.
    label : str
        Name of the model.
    """
    mean, deviation = np.asarray(rows["mean"]), np.asarray(rows["members_std"])
    axis.plot(x, mean, **style, markersize=3.5, label=plain_text(label, NAME_WIDTH))
    if np.isfinite(deviation).any():
        draw_band(axis, x, mean, deviation, style["color"])


def draw_legend(figure, axes, last=None):
    """Draw one legend below all panels.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    axes : numpy.ndarray
        Its panels, shape (n_rows, n_columns).
    last : str, optional
        Label to put last.
    """
    entries = legend_entries(axes.flat)
    if last in entries:
        entries[last] = entries.pop(last)
    place_legend(figure, entries, min(3, axes.shape[1]))
